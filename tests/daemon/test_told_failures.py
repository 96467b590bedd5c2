# SPDX-License-Identifier: Apache-2.0
"""On real daemons: what goes wrong without any record changing is an event all the same, with its reason."""

from __future__ import annotations

import signal

from operators import DEADLINE_S, Operator
from pvc_core import Event
from pvc_core.event_log import EventLog
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for


def told(operator: Operator, kind: str) -> list[Event]:
    return [event for event in EventLog(operator.store).last(1000).events if event.kind == kind]


def wait_told(operator: Operator, kind: str) -> Event:
    wait_for(lambda: told(operator, kind) != [], f"{kind} to be told", deadline_s=DEADLINE_S)
    (event,) = told(operator, kind)
    return event


def test_a_hypervisor_that_does_not_answer_and_its_return_are_told(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"report_interval_s": 0.2})
    with cluster.world() as world:
        world.take_hypervisor_away("hv1")
        away = wait_told(operator, "node_hypervisor_away")
        world.bring_hypervisor_back("hv1")
    assert (away.node, away.by, away.severity) == ("hv1", "agent:hv1", "critical")
    assert "its guests run on and nothing can be done with them until it answers" in away.reason
    assert wait_told(operator, "node_hypervisor_back").node == "hv1"


def test_a_guest_that_had_to_be_terminated_is_told_and_one_that_is_stopped_by_command_is_not(
    operator: Operator,
) -> None:
    for name in ("deaf", "other"):
        operator.define(name, "ignores-shutdown='yes'", target="hv1", shutdown_timeout_s=0)
    operator.wait_state("deaf", "other")
    operator.commands.stop("other")
    operator.wait_state("other", state="stopped")
    operator.commands.shutdown("deaf")
    operator.wait_state("deaf", state="stopped")
    event = wait_told(operator, "vm_terminated")
    assert (event.vm, event.node, event.by) == ("deaf", "hv1", "agent:hv1")
    assert event.reason == "terminated: the guest has not powered off within 0 s"


def test_an_empty_node_that_dies_is_told_once_and_not_fenced(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1})
    cluster.stop("hv3", signal.SIGKILL)
    gone = wait_told(operator, "node_gone")
    assert (gone.node, gone.reason) == ("hv3", "its session is gone; no VM is to run there")
    cluster.start_daemon("hv3")
    operator.wait(lambda s: s.node("hv3").is_alive and not s.node("hv3").record.value.gone_at, "hv3 to be back")
    assert told(operator, "node_lost") == []
