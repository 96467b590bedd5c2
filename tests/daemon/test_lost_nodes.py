# SPDX-License-Identifier: Apache-2.0
"""A node dies, on real daemons: its VMs run elsewhere once it is certain that it is off, and nothing runs twice."""

from __future__ import annotations

import signal

from operators import Operator
from pvc_core.event_log import EventLog
from pvc_core.model import FenceStep
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_volumes import VolumeClaim
from pvc_core.volume_claims import claiming
from pvc_lab.embedded_cluster import EmbeddedCluster


def is_at(snapshot: ClusterSnapshot, node: str, step: FenceStep) -> bool:
    fence = snapshot.node(node).record.value.fence
    return fence is not None and fence.step is step


def lose(cluster: EmbeddedCluster, operator: Operator, node: str) -> None:
    """The node's power fails."""
    cluster.stop(node, signal.SIGKILL)
    with cluster.world() as world:
        world.cut_power(node)
    operator.wait(lambda s: is_at(s, node, FenceStep.FENCING), f"{node} to be fenced")


def kinds(operator: Operator) -> list[str]:
    return [event.kind for event in EventLog(operator.store).last(1000).events]


def test_vms_of_a_dead_node_start_elsewhere_once_a_person_has_confirmed_it(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1, "autoready_delay_s": 0.5})
    operator.define("web1", target="hv2")
    operator.define("pinned", target="hv2", node_limit=("hv2",))
    operator.define("off", target="hv2", start=False)
    operator.wait_state("web1", "pinned")

    lose(cluster, operator, "hv2")
    operator.wait(lambda s: "node_not_fenced" in kinds(operator), "the refusal to be told")
    assert operator.vm("web1").node == "hv2", "nothing is recovered before it is certain"

    operator.commands.confirm_fenced("hv2")
    operator.wait(lambda s: is_at(s, "hv2", FenceStep.RECOVERED), "the recovery to end")
    operator.wait_state("web1")
    assert operator.vm("web1").node in ("hv1", "hv3")
    assert (operator.vm("pinned").state, operator.vm("pinned").held) == ("stopped", True)
    assert operator.vm("off").state == "stopped"
    assert not operator.view.snapshot().plan

    cluster.start_daemon("hv2")
    with cluster.world() as world:
        world.bring_hypervisor_back("hv2")
    operator.wait_mode("hv2", "ready")
    operator.wait_state("pinned", node="hv2")
    assert operator.vm("web1").node in ("hv1", "hv3"), "what runs elsewhere is not brought home by itself"
    told = [kind for kind in kinds(operator) if kind.startswith("node_") and kind != "node_joined"]
    assert told == [
        "node_lost",
        "node_not_fenced",
        "node_fenced",
        "node_recovered",
        "node_unflushing",
        "node_ready",
    ]


def test_a_daemon_that_comes_back_before_that_keeps_its_guests(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1})
    uuid = operator.define("web1", target="hv2")
    operator.wait_state("web1")
    with cluster.world() as world:
        boot = world.console(uuid).boot_id
    cluster.stop("hv2", signal.SIGKILL)
    operator.wait(lambda s: is_at(s, "hv2", FenceStep.FENCING), "hv2 to be fenced")
    cluster.start_daemon("hv2")
    operator.wait(lambda s: is_at(s, "hv2", FenceStep.RECOVERED) and s.node("hv2").is_alive, "the fence to end")
    operator.wait_state("web1", node="hv2")
    assert operator.view.snapshot().node("hv2").mode == "ready"
    with cluster.world() as world:
        assert world.console(uuid).boot_id == boot, "the guest was never touched"


def test_the_guest_of_a_vm_that_was_given_up_is_ended_when_its_daemon_is_back(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1})
    uuid = operator.define("web1", target="hv2")
    operator.define("web2", target="hv1")
    operator.wait_state("web1", "web2")
    claims = [VolumeClaim(backend="d", pool="p", name=name, vm=vm) for name, vm in (("its", uuid), ("other", "x"))]
    operator.store.transaction([claiming(claim) for claim in claims])
    cluster.stop("hv2", signal.SIGKILL)
    operator.wait(lambda s: is_at(s, "hv2", FenceStep.FENCING), "hv2 to be fenced")
    operator.commands.undefine("web1", force=True)
    operator.wait(lambda s: s.node("hv2").record.value.gone_at != "", "the fence to end and the loss to be told")
    with cluster.world() as world:
        assert [domain.node for domain in world.domains() if domain.uuid == uuid] == ["hv2"], "nobody can reach it"

    cluster.start_daemon("hv2")
    operator.wait(lambda s: s.node("hv2").is_alive and not s.node("hv2").reserved.leftovers, "it to be struck out")
    with cluster.world() as world:
        assert uuid not in [domain.uuid for domain in world.domains()]
    assert [operator.store.get(claim.key) is None for claim in claims] == [True, False], "its volume is free now"
    assert operator.view.snapshot().node("hv2").mode == "ready"
    operator.commands.migrate("web2", "hv2")
    operator.wait_state("web2", node="hv2")
    told = [kind for kind in kinds(operator) if kind in ("vm_undefined_by_force", "vm_terminated", "vm_leftover_gone")]
    assert told == ["vm_undefined_by_force", "vm_terminated", "vm_leftover_gone"]


def test_another_leader_goes_on_when_the_leader_dies_as_well(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"fence_grace_s": 0.1, "fence_startup_s": 0})
    vms = [f"web{n}" for n in range(4)]
    for number, vm in enumerate(vms):
        operator.define(vm, target="hv1" if number % 2 else "hv2")
    operator.wait_state(*vms)
    for node in ("hv1", "hv2"):
        cluster.stop(node, signal.SIGKILL)
        with cluster.world() as world:
            world.cut_power(node)
    operator.wait(
        lambda s: all(is_at(s, node, FenceStep.FENCING) for node in ("hv1", "hv2")), "hv3 to lead and to fence both"
    )
    operator.commands.confirm_fenced("hv1")
    operator.commands.confirm_fenced("hv2")
    for vm in vms:
        operator.wait_state(vm, node="hv3")
