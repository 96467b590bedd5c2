# SPDX-License-Identifier: Apache-2.0
"""leader_recovery: what becomes of every VM of a node that is known to be off, and that it happens once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from played_cluster import Play

from pvc_core import leader
from pvc_core.errors import PluginError, Refused
from pvc_core.leader_actions import FinishRecovery, LoseVm, RecoverVm
from pvc_core.leader_recovery import after_loss
from pvc_core.model import FenceReport, FenceStep, NodeMode, Settings, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest, RecoveryPolicyEntry
from pvc_core.ports import Create
from pvc_core.registry import Registry
from pvc_core.snapshot import NodeView
from pvc_core.testing.builders import a_node, a_snapshot, a_vm
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent
RECOVERING = FenceReport(step=FenceStep.RECOVERING, evidence="its outlet is off")


def off(name: str = "hv1", **more: Any) -> NodeView:
    """A node that was confirmed to be off."""
    return a_node(name, alive=False, fenced=True, mode="flushed", fence=RECOVERING, **more)


def recovered(play: Play, vms: Sequence[VmRecord], *others: NodeView, settings: Settings | None = None) -> Any:
    """The cluster when everything that follows from the loss of hv1 has happened."""
    cluster = play([off(), *(others or (a_node("hv2"), a_node("hv3")))], vms, settings)
    cluster.counts_slots = False
    cluster.plays()
    assert cluster.node("hv1").fence.step is FenceStep.RECOVERED
    return cluster


def test_what_was_to_run_runs_elsewhere_and_keeps_its_home(play: Play) -> None:
    vms = [a_vm("a"), a_vm("b", state="starting"), a_vm("c", state="restarting"), a_vm("there", node="hv2")]
    cluster = recovered(play, vms)
    assert {name: cluster.vm(name).state for name in "abc"} == dict.fromkeys("abc", S.RUNNING)
    assert {cluster.vm(name).node for name in "abc"} <= {"hv2", "hv3"}
    assert {cluster.vm(name).home for name in "abc"} == {"hv1"}
    assert cluster.on("hv1") == []
    assert [type(action) for action in cluster.log] == [RecoverVm] * 3 + [FinishRecovery]
    assert all(action.reason.startswith("hv1 is off; ") for action in cluster.done(RecoverVm))


def test_what_its_owner_has_stopped_or_was_stopping_stays_off(play: Play) -> None:
    vms = [
        a_vm("off", state="stopped"),
        a_vm("failed", state="failed"),
        a_vm("disabled", state="disabled"),
        a_vm("stopping", state="shutting-down"),
        a_vm("disabling", state="shutting-down", after_shutdown="disabled"),
        a_vm("holding", state="shutting-down", held=True),
    ]
    assert recovered(play, vms).state() == {
        "off": ("stopped", "hv1", False),
        "failed": ("failed", "hv1", False),
        "disabled": ("disabled", "hv1", False),
        "stopping": ("stopped", "hv1", False),
        "disabling": ("disabled", "hv1", False),
        "holding": ("stopped", "hv1", True),
        "hv1": ("flushed", "", False),
        "hv2": ("ready", "", False),
        "hv3": ("ready", "", False),
    }


def test_the_important_ones_get_the_room_that_is_left_and_the_others_are_held(play: Play) -> None:
    vms = [a_vm(f"vm{n}", memory_mib=1024, priority=n) for n in range(5)]
    cluster = recovered(play, vms, a_node("hv2", memory_mib=3 * 1024), settings=Settings(memory_reserve_mib=0))
    assert [cluster.vm(f"vm{n}").node for n in range(5)] == ["hv1", "hv1", "hv2", "hv2", "hv2"]
    held = cluster.vm("vm1")
    assert (held.state, held.held) == (S.STOPPED, True)
    assert held.reason.startswith("hv1 is off; no candidate: ")
    starts = [action.uuid for action in cluster.done(RecoverVm)]
    assert starts == [cluster.vm(f"vm{n}").uuid for n in (4, 3, 2)]


def test_a_limit_holds_also_now(play: Play) -> None:
    cluster = recovered(play, [a_vm("pinned", node_limit=("hv1",)), a_vm("two", node_limit=("hv1", "hv3"))])
    assert (cluster.vm("pinned").node, cluster.vm("pinned").held) == ("hv1", True)
    assert cluster.vm("two").node == "hv3"


def test_a_held_vm_starts_when_its_home_is_ready_again(play: Play) -> None:
    cluster = recovered(play, [a_vm("pinned", node_limit=("hv1",)), a_vm("web1")])
    returned = a_node("hv1").member
    assert returned is not None
    cluster.transaction([Create(returned.key, returned.data)])
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.state()["pinned"] == ("running", "hv1", False)
    assert cluster.state()["web1"] == ("running", "hv1", False), "an operator's ready brings home what runs elsewhere"


# ----------------------------------------------------------------------------------------------- migrations


def test_a_migration_that_lost_its_source_goes_on_at_its_target(play: Play) -> None:
    cluster = recovered(play, [a_vm("web1", state="migrating", target="hv3", node_limit=("hv1", "hv3"))])
    assert (cluster.vm("web1").node, cluster.vm("web1").home, cluster.vm("web1").target) == ("hv3", "hv1", "")


def test_a_migration_that_lost_its_source_waits_for_a_target_that_may_have_the_guest(play: Play) -> None:
    lost_too = a_node("hv3", alive=False)
    cluster = recovered(play, [a_vm("web1", state="migrating", target="hv3")], a_node("hv2"), lost_too)
    assert (cluster.vm("web1").node, cluster.vm("web1").state) == ("hv3", S.STARTING), "until hv3 is fenced as well"


def test_a_migration_that_lost_both_ends_is_recovered_once(play: Play) -> None:
    cluster = recovered(play, [a_vm("web1", state="migrating", target="hv3")], a_node("hv2"), off("hv3"))
    assert (cluster.vm("web1").node, cluster.vm("web1").state) == ("hv2", S.RUNNING)
    assert cluster.node("hv3").fence.step is FenceStep.RECOVERED


def test_a_migration_that_lost_its_target_goes_on_at_its_source(play: Play) -> None:
    cluster = recovered(play, [a_vm("web1", node="hv2", state="migrating", target="hv1")])
    assert (cluster.vm("web1").node, cluster.vm("web1").state, cluster.vm("web1").target) == ("hv2", S.RUNNING, "")


# ------------------------------------------------------------------------------------------- recovery policies


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def without_candidate(self, request: PlacementRequest) -> str:
        return "hold"

    def after_loss(self, request: PlacementRequest) -> str:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


class OnlyDrains:
    def without_candidate(self, request: PlacementRequest) -> str:
        return "hold"


@pytest.mark.parametrize(
    ("policy", "action", "event"),
    [
        (Answers("restart"), RecoverVm, None),
        (OnlyDrains(), RecoverVm, None),
        (Answers("hold"), LoseVm, E.LOST_HELD),
        (Answers("stop"), LoseVm, E.LOST),
        (Answers("nonsense"), RecoverVm, None),
        (Answers(RuntimeError("boom")), RecoverVm, None),
        (Answers(SystemExit(3)), RecoverVm, None),
    ],
)
def test_the_vms_own_policy_decides_and_one_that_fails_means_restart(
    registry: Registry, policy: Any, action: type, event: VmEvent | None
) -> None:
    snapshot = a_snapshot([off(), a_node("hv2")], [a_vm(recovery_policy="acme")])
    (found,) = leader.decide(snapshot, Placer(registry), {"acme": RecoveryPolicyEntry("acme", "", policy)})
    assert isinstance(found, action)
    assert getattr(found, "event", None) is event


def test_a_policy_that_is_not_installed_means_restart_and_is_named(registry: Registry) -> None:
    record = a_vm(recovery_policy="acme")
    answer, note = after_loss(record, a_snapshot([off()], [record]), Placer(registry), {})
    assert (answer, note) == ("restart", " (recovery policy acme is not installed)")


@pytest.mark.parametrize(("answer", "told"), [("hold", 0), ("nonsense", 1), (RuntimeError("boom"), 1)])
def test_a_policy_that_fails_is_told_of(registry: Registry, answer: Any, told: int) -> None:
    failures: list[PluginError] = []
    record = a_vm(recovery_policy="telling")
    policies = {"telling": RecoveryPolicyEntry("telling", "", Answers(answer))}
    after_loss(record, a_snapshot([off()], [record]), Placer(registry, failures.append), policies)
    assert [failure.plugin for failure in failures] == ["telling"] * told


@pytest.mark.parametrize(("policy", "state"), [("restart", S.RUNNING), ("stay", S.STOPPED), ("stop", S.STOPPED)])
def test_the_policies_that_ship_with_pvc(play: Play, policy: str, state: VmState) -> None:
    vm = recovered(play, [a_vm("web1", recovery_policy=policy)]).vm("web1")
    assert (vm.state, vm.held) == (state, policy == "stay")


# ------------------------------------------------------------------------------------------------ all or nothing


def test_nothing_is_recovered_before_the_node_is_known_to_be_off(registry: Registry) -> None:
    fencing = FenceReport(step=FenceStep.FENCING)
    snapshot = a_snapshot([a_node("hv1", alive=False, fence=fencing), a_node("hv2")], [a_vm()])
    assert leader.decide(snapshot, Placer(registry), registry.recovery_policies) == ()
    action = RecoverVm("hv1", a_vm().uuid, "hv2", "too early")
    with pytest.raises(Refused, match="not being recovered"):
        leader.change_for(action, snapshot, Placer(registry), "now")


def test_a_drain_of_a_lost_node_waits_for_its_fence(registry: Registry) -> None:
    snapshot = a_snapshot([a_node("hv1", alive=False, mode="flushing"), a_node("hv2")], [a_vm()])
    assert leader.decide(snapshot, Placer(registry), registry.recovery_policies) == ()


def test_another_leader_goes_on_at_every_step_and_no_vm_is_started_twice(play: Play) -> None:
    vms = [a_vm(f"vm{n}", memory_mib=500, priority=n) for n in range(6)]
    vms += [a_vm("coming", node="hv2", state="migrating", target="hv1"), a_vm("off", state="stopped")]
    settings = Settings(memory_reserve_mib=0)
    cluster = play([off(), a_node("hv2", memory_mib=2000), a_node("hv3", memory_mib=1000)], vms, settings)
    cluster.counts_slots = False
    cluster.plays()
    end = cluster.state()
    for entries in cluster.history[:-1]:
        other = cluster.again_from(entries)
        other.counts_slots = False
        other.plays()
        assert other.state() == end
        recovered_vms = [action.uuid for action in other.done(RecoverVm)]
        assert len(set(recovered_vms)) == len(recovered_vms)


def test_a_vm_stopped_by_its_owner_meanwhile_stays_off(play: Play) -> None:
    fencing = a_node("hv1", alive=False, fence=FenceReport(step=FenceStep.FENCING))
    cluster = play([fencing, a_node("hv2")], [a_vm()])
    cluster.commands.stop("web1")
    cluster.commands.confirm_fenced("hv1")
    cluster.plays()
    assert cluster.state()["web1"] == ("stopped", "hv1", False)


def test_an_operator_takes_back_no_node_whose_vms_are_being_recovered(play: Play) -> None:
    back = a_node("hv1", fenced=True, mode="flushed", fence=RECOVERING)
    cluster = play([back, a_node("hv2")], [a_vm()])
    with pytest.raises(Refused, match="its VMs are still being recovered"):
        cluster.commands.ready("hv1")


# ---------------------------------------------------------------------------------------------------- commands


def test_a_person_confirms_only_what_is_being_fenced(play: Play) -> None:
    cluster = play([a_node("hv1", alive=False, left=True), a_node("hv2")], [a_vm()])
    with pytest.raises(Refused, match="its daemon is alive"):
        cluster.commands.confirm_fenced("hv2")
    with pytest.raises(Refused, match="`pvc node fence hv1` begins that"):
        cluster.commands.confirm_fenced("hv1")
    assert cluster.commands.fence("hv1").node.fence.step is FenceStep.FENCING
    assert not cluster.commands.fence("hv1").changed
    assert cluster.commands.confirm_fenced("hv1").node.fenced
    assert not cluster.commands.confirm_fenced("hv1").changed
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv2", NodeMode.FLUSHED)


def test_a_living_node_is_not_fenced_by_command(play: Play) -> None:
    with pytest.raises(Refused, match="`pvc node flush hv2` moves its VMs away"):
        play([a_node("hv1"), a_node("hv2")], [a_vm()]).commands.fence("hv2")
