# SPDX-License-Identifier: Apache-2.0
"""A planned pause on real daemons: a node that dies meanwhile is left alone, and dealt with when the pause is over."""

from __future__ import annotations

import signal

from operators import Operator
from pvc_core import layout
from pvc_core.election import holder_of
from pvc_core.event_log import EventLog
from pvc_core.model import FenceStep
from pvc_core.snapshot import ClusterSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster


def is_fenced(snapshot: ClusterSnapshot, node: str) -> bool:
    fence = snapshot.node(node).record.value.fence
    return fence is not None and fence.step is FenceStep.FENCING


def kinds(operator: Operator) -> list[str]:
    return [event.kind for event in EventLog(operator.store).last(1000).events]


def die(cluster: EmbeddedCluster, operator: Operator, node: str) -> None:
    cluster.stop(node, signal.SIGKILL)
    with cluster.world() as world:
        world.cut_power(node)
    operator.wait(lambda s: not s.node(node).is_alive, f"the session of {node} to end")


def test_a_pause_ends_by_itself_under_another_leader_and_what_is_lost_is_fenced_then(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.0, "maintenance_reminder_s": 1})
    holder = holder_of(operator.store.get(layout.LEADER_HOLDER))
    assert holder is not None
    operator.define("web1", target=holder.candidate)
    operator.wait_state("web1")
    operator.commands.begin_maintenance(for_s=15.0, reason="new switch")
    die(cluster, operator, holder.candidate)
    operator.wait(lambda s: "maintenance_goes_on" in kinds(operator), "the next leader to speak of it")
    assert "node_lost" not in kinds(operator)
    operator.wait(lambda s: s.pause is None, "the pause to end by itself")
    operator.wait(lambda s: is_fenced(s, holder.candidate), "the node to be fenced")
    told = kinds(operator)
    assert told.index("maintenance_ended") < told.index("node_lost")
    ended = next(e for e in EventLog(operator.store).last(1000).events if e.kind == "maintenance_ended")
    lost = f"{holder.candidate} is lost, and what is to run there is dealt with from now on"
    assert ended.reason == f"its time is over; {lost}"


def test_commands_work_in_a_pause_and_a_fence_under_way_is_called_off(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.0})
    operator.define("web1", target="hv3")
    operator.define("web2", target="hv2")
    operator.wait_state("web1", "web2")
    die(cluster, operator, "hv3")
    operator.wait(lambda s: is_fenced(s, "hv3"), "hv3 to be fenced")
    operator.commands.begin_maintenance()
    operator.wait(lambda s: not is_fenced(s, "hv3"), "the fence to be called off")
    operator.commands.migrate("web2", "hv1")
    operator.wait_state("web2", node="hv1")
    operator.commands.flush("hv2")
    operator.wait_mode("hv2", "flushed")
    assert operator.vm("web1").node == "hv3"
    operator.commands.end_maintenance()
    operator.wait(lambda s: is_fenced(s, "hv3"), "hv3 to be fenced again")


def test_a_node_in_maintenance_dies_unnoticed_and_is_dealt_with_afterwards(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.0, "fence_startup_s": 0})
    for node in ("hv2", "hv3"):
        operator.define(f"on-{node}", target=node)
    operator.wait_state("on-hv2", "on-hv3")
    operator.commands.begin_node_maintenance("hv2", reason="new fan")
    die(cluster, operator, "hv2")
    die(cluster, operator, "hv3")
    operator.wait(lambda s: is_fenced(s, "hv3"), "hv3 to be fenced")
    assert not is_fenced(operator.view.snapshot(), "hv2")
    operator.commands.end_node_maintenance("hv2")
    operator.wait(lambda s: is_fenced(s, "hv2"), "hv2 to be fenced")
