# SPDX-License-Identifier: Apache-2.0
"""leader: nodes are drained and taken back, step by step, whatever happens in between and whoever leads.

The played cluster checks after every single transaction that ledgers equal records, that no node is overfilled,
that no more migrations run than may, and that no VM is sent outside its limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest

from pvc_core import layout, leader
from pvc_core.errors import BrokenRecord, NoCandidate, PluginError, PvcError, Refused
from pvc_core.leader import CancelMove, FinishDrain, HoldVm, LeaveVm, MoveVm, StartVm
from pvc_core.model import NodeMode, Settings, VmMetadata, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest, RecoveryPolicyEntry
from pvc_core.ports import Check, Entry
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent
SELECTORS = ("mem", "memprov", "load", "vcpus", "vms")
Play = Callable[..., Any]


def twelve(**more: Any) -> list[VmRecord]:
    return [a_vm(f"web{n:02}", memory_mib=256, **more) for n in range(1, 13)]


def nodes(*names: str, **more: Any) -> list[Any]:
    return [a_node(name, **more) for name in names]


# --------------------------------------------------------------------------------------------------- flush


@pytest.mark.parametrize("reports_lag", [False, True])
@pytest.mark.parametrize("parallel", [1, 2, 3, 12])
@pytest.mark.parametrize("selector", SELECTORS)
def test_a_flush_spreads_equal_guests_evenly(play: Play, selector: str, parallel: int, reports_lag: bool) -> None:
    settings = Settings(default_selector=selector, max_parallel_migrations=parallel)
    cluster = play(nodes("hv1", "hv2", "hv3"), twelve(), settings)
    cluster.reports_lag = reports_lag
    cluster.commands.flush("hv1")
    cluster.plays()
    assert Counter({node: len(cluster.on(node)) for node in ("hv1", "hv2", "hv3")}) == {"hv1": 0, "hv2": 6, "hv3": 6}
    assert cluster.node("hv1").mode is NodeMode.FLUSHED


def test_each_vm_goes_where_its_own_selector_and_limit_send_it(play: Play) -> None:
    cluster = play(
        [a_node("hv1"), a_node("hv2", memory_mib=16384, load_1m=9.0), a_node("hv3", load_1m=0.1)],
        [
            a_vm("by-mem", node_selector="mem"),
            a_vm("by-load", node_selector="load"),
            a_vm("limited", node_selector="load", node_limit=("hv1", "hv2")),
        ],
    )
    cluster.commands.flush("hv1")
    cluster.plays()
    assert {name: cluster.vm(name).node for name in ("by-mem", "by-load", "limited")} == {
        "by-mem": "hv2",
        "by-load": "hv3",
        "limited": "hv2",
    }


def test_no_more_migrations_run_than_may_per_source_and_target(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2", "hv3"), twelve(), Settings(max_parallel_migrations=2))
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    assert Counter(vm.state for vm in map(cluster.vm, cluster.on("hv1")))[S.MIGRATING] == 2
    assert cluster.leader_acts() == 0, "both slots of the source are taken"
    cluster.agents_act(at_most=1)
    assert cluster.leader_acts() == 1


def test_two_sources_do_not_crowd_one_target(play: Play) -> None:
    cluster = play(
        nodes("hv1", "hv2", "hv3"),
        [a_vm(f"a{n}", memory_mib=128) for n in range(5)]
        + [a_vm(f"b{n}", node="hv2", memory_mib=128) for n in range(5)],
        Settings(max_parallel_migrations=2),
    )
    cluster.commands.flush("hv1")
    cluster.commands.flush("hv2")
    cluster.leader_acts()
    assert sum(vm.value.target == "hv3" for vm in cluster.snapshot().vms.values()) == 2
    cluster.plays()
    assert len(cluster.on("hv3")) == 10
    assert (cluster.node("hv1").mode, cluster.node("hv2").mode) == (NodeMode.FLUSHED, NodeMode.FLUSHED)


def test_the_highest_priority_goes_first(play: Play) -> None:
    vms = [a_vm("low", priority=-5), a_vm("high", priority=100), a_vm("middle"), a_vm("large", memory_mib=700)]
    cluster = play(nodes("hv1", "hv2"), vms, Settings(max_parallel_migrations=1))
    cluster.commands.flush("hv1")
    cluster.plays()
    moved = [cluster.snapshot().vms[action.uuid].value.name for action in cluster.done(MoveVm)]
    assert moved == ["high", "large", "middle", "low"]


def test_where_room_is_short_the_highest_priority_gets_it_and_the_rest_is_held(play: Play) -> None:
    vms = [a_vm("low", memory_mib=1024, priority=-1), a_vm("high", memory_mib=1024, priority=1)]
    cluster = play([a_node("hv1"), a_node("hv2", memory_mib=2048)], vms)
    cluster.commands.flush("hv1")
    cluster.plays()
    assert (cluster.vm("high").node, cluster.vm("high").state) == ("hv2", S.RUNNING)
    assert (cluster.vm("low").node, cluster.vm("low").state, cluster.vm("low").held) == ("hv1", S.STOPPED, True)


def test_a_limit_that_leaves_no_node_shuts_the_vm_down_and_holds_it(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(node_limit=("hv1",))])
    cluster.commands.flush("hv1")
    cluster.plays()
    vm = cluster.vm("web1")
    assert (vm.state, vm.node, vm.held) == (S.STOPPED, "hv1", True)
    assert "outside the VM's limit (hv1)" in cluster.done(HoldVm)[0].reason
    assert cluster.node("hv1").mode is NodeMode.FLUSHED


def test_a_held_guest_that_ignores_its_shutdown_is_waited_for(play: Play) -> None:
    cluster = play(nodes("hv1"), [a_vm()])
    cluster.stubborn = {"web1"}
    cluster.commands.flush("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.node("hv1").mode) == (S.SHUTTING_DOWN, NodeMode.FLUSHING)
    cluster.happens("web1", E.ENDED)
    cluster.plays()
    assert cluster.node("hv1").mode is NodeMode.FLUSHED


def test_the_policy_stay_leaves_the_vm_running_and_reports_it(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(node_limit=("hv1",), recovery_policy="stay"), a_vm("web2")])
    cluster.commands.flush("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("web1").node) == (S.RUNNING, "hv1")
    assert cluster.vm("web2").node == "hv2"
    stayed = cluster.node("hv1").drain.stayed
    assert list(stayed) == [uuid_of("web1")]
    assert stayed[uuid_of("web1")].startswith("recovery policy stay; no candidate: ")
    assert cluster.node("hv1").mode is NodeMode.FLUSHED
    assert cluster.node("hv1").reason == "no VM is left to move, 1 VMs stayed"


class Policy:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def without_candidate(self, request: PlacementRequest) -> str:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return str(self.answer)


@pytest.mark.parametrize("answer", [RuntimeError("boom"), SystemExit(3), "nonsense", PluginError("acme", "broken")])
def test_a_recovery_policy_that_fails_means_hold(registry: Registry, answer: Any) -> None:
    snapshot = a_snapshot([a_node("hv1", mode="flushing")], [a_vm(recovery_policy="acme")])
    policies = {"acme": RecoveryPolicyEntry("acme", "", Policy(answer))}
    (action,) = leader.decide(snapshot, Placer(registry), policies)
    assert isinstance(action, HoldVm)


def test_a_recovery_policy_that_is_not_installed_means_hold_and_is_named(registry: Registry) -> None:
    snapshot = a_snapshot([a_node("hv1", mode="flushing")], [a_vm(recovery_policy="acme")])
    (action,) = leader.decide(snapshot, Placer(registry), {})
    assert isinstance(action, HoldVm)
    assert action.reason.endswith("(recovery policy acme is not installed)")


def test_migrations_that_fail_are_tried_a_bounded_number_of_times_then_the_vm_stays(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(), a_vm("web2")], Settings(migration_attempts=3))
    cluster.immovable = {"web1"}
    cluster.commands.flush("hv1")
    cluster.plays()
    drain = cluster.node("hv1").drain
    assert drain.attempts == {uuid_of("web1"): 3, uuid_of("web2"): 1}
    assert drain.stayed == {uuid_of("web1"): "migration-failed"}
    assert (cluster.vm("web1").node, cluster.vm("web2").node) == ("hv1", "hv2")
    assert cluster.node("hv1").mode is NodeMode.FLUSHED


def test_a_second_flush_tries_again_what_stayed_before(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.immovable = {"web1"}
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.immovable = set()
    cluster.commands.ready("hv1")
    cluster.plays()
    cluster.commands.flush("hv1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").drain.stayed) == ("hv2", {})


def test_a_vm_whose_best_target_is_its_own_home_goes_there_and_is_not_shut_down(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(node="hv2", home="hv1")])
    cluster.commands.flush("hv2")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("web1").node) == (S.RUNNING, "hv1")
    assert cluster.done(HoldVm) == []


def test_vms_that_are_off_are_left_where_they_are(play: Play) -> None:
    off = [a_vm("a", state="stopped"), a_vm("b", state="disabled"), a_vm("c", state="failed")]
    cluster = play(nodes("hv1", "hv2"), off)
    cluster.commands.flush("hv1")
    cluster.plays()
    assert cluster.on("hv1") == ["a", "b", "c"]
    assert cluster.done(MoveVm, HoldVm, StartVm) == []
    assert cluster.node("hv1").mode is NodeMode.FLUSHED


def test_a_vm_that_is_starting_restarting_or_shutting_down_is_waited_for_and_then_moved(play: Play) -> None:
    vms = [a_vm("a", state="starting"), a_vm("b", state="restarting"), a_vm("c", state="shutting-down")]
    cluster = play(nodes("hv1", "hv2"), vms)
    cluster.commands.flush("hv1")
    assert cluster.decisions() == ()
    cluster.plays()
    assert cluster.on("hv2") == ["a", "b"]
    assert cluster.vm("c").state is S.STOPPED


def test_a_vm_that_cannot_start_does_not_keep_a_flush_from_ending(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(state="starting")])
    cluster.unstartable = {"web1"}
    cluster.commands.flush("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.node("hv1").mode) == (S.FAILED, NodeMode.FLUSHED)


def test_a_vm_on_its_way_to_the_node_arrives_and_is_moved_on(play: Play) -> None:
    cluster = play(
        nodes("hv1", "hv2", "hv3"),
        [a_vm(node="hv2", state="migrating", target="hv1", node_limit=("hv1", "hv3", "hv2"))],
    )
    cluster.commands.flush("hv1")
    assert cluster.decisions() == ()
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv2", NodeMode.FLUSHED)


def test_nodes_are_flushed_one_into_another_and_the_last_one_holds_all(play: Play) -> None:
    vms = [a_vm("a"), a_vm("b", node="hv2"), a_vm("c", node="hv3")]
    cluster = play(nodes("hv1", "hv2", "hv3"), vms)
    for node in ("hv1", "hv2", "hv3"):
        cluster.commands.flush(node)
        cluster.plays()
    assert {name: cluster.vm(name).node for name in "abc"} == dict.fromkeys("abc", "hv3")
    assert all(cluster.vm(name).held for name in "abc")
    assert all(cluster.node(name).mode is NodeMode.FLUSHED for name in ("hv1", "hv2", "hv3"))


def test_two_nodes_flushed_at_once_do_not_send_vms_to_one_another(play: Play) -> None:
    vms = [a_vm(f"a{n}", memory_mib=256) for n in range(4)] + [
        a_vm(f"b{n}", node="hv2", memory_mib=256) for n in range(4)
    ]
    cluster = play(nodes("hv1", "hv2", "hv3", "hv4"), vms)
    cluster.commands.flush("hv1")
    cluster.commands.flush("hv2")
    cluster.plays()
    assert {action.target for action in cluster.done(MoveVm)} == {"hv3", "hv4"}
    assert [len(cluster.on(name)) for name in ("hv1", "hv2", "hv3", "hv4")] == [0, 0, 4, 4]


def test_a_vm_waits_for_a_node_that_is_just_coming_back_instead_of_being_held(play: Play) -> None:
    """hv2 is not ready yet when hv1 asks for places, because one of its own VMs is still to come home."""
    cluster = play(
        [a_node("hv1"), a_node("hv2", mode="flushed")],
        [a_vm("mine", node="hv1", home="hv2"), a_vm("other", node="hv1")],
    )
    cluster.commands.ready("hv2")
    cluster.commands.flush("hv1")
    cluster.plays()
    assert cluster.done(HoldVm) == []
    assert cluster.on("hv2") == ["mine", "other"]
    assert (cluster.node("hv1").mode, cluster.node("hv2").mode) == (NodeMode.FLUSHED, NodeMode.READY)


def test_a_vm_that_the_returning_node_cannot_take_is_held_at_once(play: Play) -> None:
    cluster = play([a_node("hv1"), a_node("hv2", mode="unflushing", memory_mib=1024)], [a_vm("large", memory_mib=2048)])
    cluster.commands.flush("hv1")
    cluster.plays()
    assert cluster.vm("large").held


# --------------------------------------------------------------------------------- an operator during a flush


def test_a_vm_that_is_stopped_by_its_owner_during_the_flush_is_not_held(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(), a_vm("web2")], Settings(max_parallel_migrations=1))
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.commands.shutdown("web2")
    cluster.plays()
    assert (cluster.vm("web2").state, cluster.vm("web2").held) == (S.STOPPED, False)


def test_an_owner_who_stops_a_vm_that_is_being_held_keeps_it_off(play: Play) -> None:
    cluster = play(nodes("hv1"), [a_vm()])
    cluster.stubborn = {"web1"}
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.commands.stop("web1")
    cluster.plays()
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("web1").held) == (S.STOPPED, False)


def test_a_held_vm_that_is_started_by_its_owner_during_the_flush_goes_to_another_node(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(node_limit=("hv1",))])
    cluster.commands.flush("hv1")
    cluster.plays()
    with pytest.raises(NoCandidate, match="is flushed"):
        cluster.commands.start("web1")
    cluster.commands.change_metadata("web1", {"node_limit": "hv1,hv2"})
    cluster.commands.start("web1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.vm("web1").home, cluster.vm("web1").held) == ("hv2", "hv1", False)


def test_a_migration_that_its_owner_cancels_counts_as_an_attempt(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()], Settings(migration_attempts=1))
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.commands.start("web1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv1", NodeMode.FLUSHED)
    assert cluster.node("hv1").drain.stayed == {uuid_of("web1"): "migration-cancelled"}


def test_a_second_flush_during_a_flush_changes_nothing(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    before = dict(cluster.entries)
    assert not cluster.commands.flush("hv1").changed
    assert cluster.entries == before


def test_a_vm_that_its_owner_takes_away_meanwhile_is_not_missed(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(node_limit=("hv1",))])
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.commands.undefine("web1")
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.node("hv1").mode is NodeMode.READY


# --------------------------------------------------------------------------------------------------- ready


def flushed(play: Play, vms: list[VmRecord], *others: str, settings: Settings | None = None) -> Any:
    """A cluster of hv1 and others, in which hv1 has been flushed."""
    cluster = play(nodes("hv1", *(others or ("hv2",))), vms, settings)
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.log.clear()
    return cluster


def test_ready_brings_home_what_runs_elsewhere_and_starts_what_is_held_or_has_autostart(play: Play) -> None:
    cluster = flushed(
        play,
        [
            a_vm("moved"),
            a_vm("held", node_limit=("hv1",)),
            a_vm("auto", state="stopped", node_autostart=True),
            a_vm("off", state="stopped"),
            a_vm("disabled", state="disabled", node_autostart=True),
            a_vm("failed", state="failed", node_autostart=True),
            a_vm("guest-of-hv2", node="hv2"),
        ],
    )
    assert (cluster.vm("moved").node, cluster.vm("held").held) == ("hv2", True)
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.state() == {
        "moved": ("running", "hv1", False),
        "held": ("running", "hv1", False),
        "auto": ("running", "hv1", False),
        "off": ("stopped", "hv1", False),
        "disabled": ("disabled", "hv1", False),
        "failed": ("failed", "hv1", False),
        "guest-of-hv2": ("running", "hv2", False),
        "hv1": ("ready", "", False),
        "hv2": ("ready", "", False),
    }


def test_a_vm_that_was_stopped_while_it_was_away_is_not_migrated_home(play: Play) -> None:
    cluster = flushed(play, [a_vm()])
    cluster.commands.shutdown("web1")
    cluster.plays()
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("web1").node) == (S.STOPPED, "hv2")
    assert cluster.done(MoveVm, StartVm) == []


def test_an_autostart_vm_that_was_stopped_while_it_was_away_starts_at_home(play: Play) -> None:
    cluster = flushed(play, [a_vm(node_autostart=True)])
    cluster.commands.shutdown("web1")
    cluster.plays()
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("web1").node) == (S.RUNNING, "hv1")
    assert cluster.done(MoveVm) == []


def test_a_vm_that_was_moved_for_good_does_not_come_back(play: Play) -> None:
    cluster = flushed(play, [a_vm()])
    cluster.commands.move("web1", "hv2")
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.vm("web1").home) == ("hv2", "hv2")


def test_vms_come_home_no_more_at_a_time_than_may(play: Play) -> None:
    cluster = flushed(play, twelve(), "hv2", "hv3", settings=Settings(max_parallel_migrations=2))
    cluster.commands.ready("hv1")
    cluster.leader_acts()
    assert sum(vm.value.target == "hv1" for vm in cluster.snapshot().vms.values()) == 2
    cluster.plays()
    assert len(cluster.on("hv1")) == 12


def test_a_vm_for_which_its_home_has_become_too_small_stays_away_with_the_reason(play: Play) -> None:
    cluster = flushed(play, [a_vm(memory_mib=2048), a_vm("web2")])
    report = cluster.snapshot().node("hv1").report
    smaller = msgspec.structs.replace(report.value, memory_total_mib=2048)
    cluster.entries[report.key] = Entry(report.key, msgspec.json.encode(smaller), report.version + 1)
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.vm("web1").state) == ("hv2", S.RUNNING)
    assert cluster.vm("web2").node == "hv1"
    assert "needs 2048 MiB" in cluster.node("hv1").drain.stayed[uuid_of("web1")]
    assert cluster.node("hv1").mode is NodeMode.READY


def test_a_vm_whose_limit_excludes_its_home_by_now_stays_away(play: Play) -> None:
    cluster = flushed(play, [a_vm()])
    cluster.commands.change_metadata("web1", {"node_limit": ["hv2"]})
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.vm("web1").node == "hv2"
    assert "outside the VM's limit" in cluster.node("hv1").drain.stayed[uuid_of("web1")]


def test_a_held_vm_whose_limit_excludes_its_node_by_now_stays_off_and_keeps_nobody_else(play: Play) -> None:
    cluster = play([a_node("hv1"), a_node("hv2", mode="flushed")], [a_vm("a"), a_vm("b")])
    cluster.stubborn = {"a"}
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.commands.change_metadata("a", {"node_limit": "hv2"})
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.vm("b").state is S.RUNNING, "a is still shutting down, which is no reason to wait with b"
    cluster.happens("a", E.ENDED)
    cluster.plays()
    assert (cluster.vm("a").state, cluster.vm("a").held) == (S.STOPPED, True)
    assert cluster.node("hv1").mode is NodeMode.READY


def test_migrations_home_that_fail_are_given_up_after_as_many_attempts(play: Play) -> None:
    cluster = flushed(play, [a_vm(), a_vm("web2")])
    cluster.immovable = {"web1"}
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.node("hv1").drain.attempts[uuid_of("web1")] == Settings().migration_attempts
    assert list(cluster.node("hv1").drain.stayed) == [uuid_of("web1")]
    assert cluster.vm("web2").node == "hv1"
    assert cluster.node("hv1").mode is NodeMode.READY


def test_a_vm_that_fails_to_start_at_home_is_tried_once_and_does_not_keep_the_ready_from_ending(play: Play) -> None:
    cluster = flushed(play, [a_vm(node_limit=("hv1",)), a_vm("auto", state="stopped", node_autostart=True)])
    cluster.unstartable = {"web1", "auto"}
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("auto").state) == (S.FAILED, S.FAILED)
    assert len(cluster.done(StartVm)) == 2
    assert cluster.node("hv1").mode is NodeMode.READY


def test_an_autostart_vm_that_its_owner_stops_during_the_ready_is_not_started_again_and_again(play: Play) -> None:
    cluster = flushed(play, [a_vm(), a_vm("auto", state="stopped", node_autostart=True)])
    cluster.stubborn = {"web1"}
    cluster.commands.ready("hv1")
    cluster.leader_acts()
    cluster.happens("auto", E.STARTED)
    cluster.commands.stop("auto")
    cluster.plays()
    assert cluster.vm("auto").state is S.STOPPED
    assert len(cluster.done(StartVm)) == 1
    assert cluster.node("hv1").mode is NodeMode.READY


def test_a_vm_held_on_a_node_that_is_not_its_home_starts_with_whichever_of_the_two_is_ready_first(play: Play) -> None:
    for first in ("hv1", "hv2"):
        cluster = play(nodes("hv1", "hv2"), [a_vm(node="hv2", home="hv1")])
        cluster.commands.flush("hv1")
        cluster.commands.flush("hv2")
        cluster.plays()
        assert cluster.vm("web1").held
        cluster.commands.ready(first)
        cluster.plays()
        assert (cluster.vm("web1").state, cluster.vm("web1").node) == (S.RUNNING, first)


def test_a_held_vm_that_its_owner_disabled_stays_disabled(play: Play) -> None:
    cluster = flushed(play, [a_vm(node_limit=("hv1",), node_autostart=True)])
    cluster.commands.disable("web1")
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.vm("web1").state is S.DISABLED


def test_two_nodes_come_back_at_once(play: Play) -> None:
    vms = [a_vm("a"), a_vm("b", node="hv2"), a_vm("c", node="hv3", node_limit=("hv1", "hv2"), home="hv1")]
    cluster = play(nodes("hv1", "hv2", "hv3"), vms[:2])
    for node in ("hv1", "hv2"):
        cluster.commands.flush(node)
        cluster.plays()
    for node in ("hv1", "hv2"):
        cluster.commands.ready(node)
    cluster.plays()
    assert (cluster.vm("a").node, cluster.vm("b").node) == ("hv1", "hv2")


def test_a_vm_goes_home_although_the_node_it_is_on_is_being_flushed(play: Play) -> None:
    for home, away in (("hv1", "hv2"), ("hv2", "hv1")):
        cluster = play([a_node(home, mode="flushed"), a_node(away), a_node("hv3")], [a_vm(node=away, home=home)])
        cluster.commands.ready(home)
        cluster.commands.flush(away)
        actions = cluster.decisions()
        assert len([action for action in actions if isinstance(action, MoveVm)]) == 1, "one action per VM"
        cluster.plays()
        assert cluster.vm("web1").node == home
        assert (cluster.node(home).mode, cluster.node(away).mode) == (NodeMode.READY, NodeMode.FLUSHED)


# ------------------------------------------------------------------------------------ ready during a flush


def test_ready_during_a_flush_cancels_its_migrations_and_aborts_its_shutdowns(play: Play) -> None:
    vms = [a_vm("moving"), a_vm("limited", node_limit=("hv1",)), a_vm("gone")]
    cluster = play(nodes("hv1", "hv2"), vms, Settings(max_parallel_migrations=1))
    cluster.stubborn = {"limited"}
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.agents_act(at_most=1)
    cluster.leader_acts()
    states = {name: cluster.vm(name).state for name in ("moving", "limited", "gone")}
    assert sorted(states.values()) == sorted([S.MIGRATING, S.SHUTTING_DOWN, S.RUNNING])

    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.on("hv1") == ["gone", "limited", "moving"]
    assert {cluster.vm(name).state for name in states} == {S.RUNNING}
    assert len(cluster.done(CancelMove)) == 1
    assert cluster.node("hv1").mode is NodeMode.READY
    assert not any(cluster.vm(name).held for name in states)


def test_a_cancellation_that_comes_too_late_brings_the_vm_home_again(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.commands.ready("hv1")
    cluster.leader_acts()
    cluster.happens("web1", E.ARRIVED)
    assert cluster.vm("web1").node == "hv2"
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv1", NodeMode.READY)


def test_ready_during_the_last_migration_ends(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv1", NodeMode.READY)


def test_a_move_for_good_that_was_under_way_is_not_cancelled_with_the_flush(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.move("web1", "hv2")
    cluster.commands.flush("hv1")
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.vm("web1").home) == ("hv2", "hv2")
    assert cluster.done(CancelMove) == []
    assert cluster.node("hv1").mode is NodeMode.READY


def test_flush_ready_and_flush_in_quick_succession_end_flushed(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), twelve())
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.commands.ready("hv1")
    cluster.leader_acts()
    cluster.commands.flush("hv1")
    cluster.plays()
    assert (len(cluster.on("hv2")), cluster.node("hv1").mode) == (12, NodeMode.FLUSHED)


# --------------------------------------------------- decisions that somebody overtook between deciding and writing


def outdated(cluster: Any, action: Any) -> bool:
    try:
        leader.change_for(action, cluster.snapshot(), cluster.placer, "now")
    except (Refused, NoCandidate):
        return True
    return False


def test_the_end_of_a_flush_does_not_overwrite_a_ready_that_came_first(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"))
    cluster.commands.flush("hv1")
    (finish,) = cluster.decisions()
    assert isinstance(finish, FinishDrain)
    cluster.commands.ready("hv1")
    assert outdated(cluster, finish)


def test_a_move_or_a_hold_for_a_flush_is_not_done_after_a_ready(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(), a_vm("web2", node_limit=("hv1",))])
    cluster.commands.flush("hv1")
    decided = cluster.decisions()
    assert {type(action) for action in decided} == {MoveVm, HoldVm}
    cluster.commands.ready("hv1")
    assert all(outdated(cluster, action) for action in decided)


def test_a_vm_that_its_owner_shuts_down_first_is_not_held(play: Play) -> None:
    cluster = play(nodes("hv1"), [a_vm()])
    cluster.commands.flush("hv1")
    (hold,) = cluster.decisions()
    cluster.commands.shutdown("web1")
    assert outdated(cluster, hold)


@pytest.mark.parametrize("command", ["disable", "shutdown", "stop"])
def test_a_held_vm_that_its_owner_wants_off_is_not_started(play: Play, command: str) -> None:
    cluster = flushed(play, [a_vm(node_limit=("hv1",))])
    cluster.commands.ready("hv1")
    (start,) = cluster.decisions()
    assert isinstance(start, StartVm)
    getattr(cluster.commands, command)("web1")
    assert outdated(cluster, start)


def test_a_vm_that_has_arrived_before_its_migration_was_cancelled_is_not_touched(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    cluster.commands.ready("hv1")
    (cancel,) = cluster.decisions()
    assert isinstance(cancel, CancelMove)
    cluster.happens("web1", E.ARRIVED)
    assert outdated(cluster, cancel)


def test_a_vm_that_was_undefined_meanwhile_is_no_concern_of_the_leader(play: Play) -> None:
    cluster = flushed(play, [a_vm(node_limit=("hv1",))])
    cluster.commands.ready("hv1")
    (start,) = cluster.decisions()
    cluster.commands.undefine("web1")
    assert outdated(cluster, start)


def test_a_place_that_somebody_else_took_meanwhile_is_not_given_twice(play: Play, xml: Callable[..., str]) -> None:
    cluster = play([a_node("hv1"), a_node("hv2", memory_mib=2048)], [a_vm(memory_mib=1024)])
    cluster.commands.flush("hv1")
    (move,) = cluster.decisions()
    cluster.commands.define(xml("new", 1024), VmMetadata())
    assert outdated(cluster, move)
    cluster.plays()
    assert cluster.vm("web1").held


def test_a_move_holds_only_while_its_target_is_as_it_was_seen(play: Play) -> None:
    """A flush of the target that the leader has not seen yet makes its transaction fail."""
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.flush("hv1")
    (move,) = cluster.decisions()
    change = leader.change_for(move, cluster.snapshot(), cluster.placer, "now")
    assert Check(layout.node("hv2"), 0) in change.ops


def test_a_flush_ends_only_while_ledger_and_vms_are_as_they_were_seen(play: Play) -> None:
    """A VM that was started here just before the flush may reach the leader's copy after it."""
    cluster = play(nodes("hv1", "hv2"), [a_vm(state="stopped")])
    cluster.commands.flush("hv1")
    (finish,) = cluster.decisions()
    change = leader.change_for(finish, cluster.snapshot(), cluster.placer, "now")
    assert {Check(layout.ledger("hv1"), 0), Check(layout.vm(uuid_of("web1")), 0)} <= set(change.ops)


def test_a_flush_does_not_end_while_the_ledger_names_a_vm_that_is_not_seen_yet(registry: Registry) -> None:
    whole = a_snapshot([a_node("hv1", mode="flushing")], [a_vm(state="starting")])
    without_the_vm = a_snapshot([whole.nodes["hv1"]])
    assert leader.decide(without_the_vm, Placer(registry), registry.recovery_policies) == ()


# ----------------------------------------------------------------------------------------- damaged records


def test_a_ledger_that_does_not_parse_keeps_its_vms_where_they_are_and_nobody_else(registry: Registry) -> None:
    whole = a_snapshot(
        [a_node("hv1", mode="flushing"), a_node("hv2", mode="flushing"), a_node("hv3")],
        [a_vm("a"), a_vm("b", node="hv2")],
    )
    key = layout.ledger("hv1")
    damaged = replace(
        whole,
        nodes={**whole.nodes, "hv1": replace(whole.nodes["hv1"], ledger=None)},
        broken={key: BrokenRecord(key, "rubbish")},
    )
    leave, move = leader.decide(damaged, Placer(registry), registry.recovery_policies)
    assert (leave, leave.reason) == (LeaveVm("hv1", uuid_of("a"), leave.reason), "the ledger of hv1 does not parse")
    assert isinstance(move, MoveVm)
    assert leader.change_for(leave, damaged, Placer(registry), "now").ops


# --------------------------------------------------------------------------- the leader dies at any line


def scene(play: Play) -> Any:
    """Something of everything: limits, priorities, a stubborn guest, an immovable one, policies, VMs that are off."""
    vms = [
        a_vm("a1", memory_mib=256, node_limit=("hv1", "hv2")),
        a_vm("a2", memory_mib=256, node_limit=("hv1", "hv3")),
        a_vm("a3", memory_mib=256, node_limit=("hv1", "hv3"), priority=5),
        a_vm("alone", memory_mib=256, node_limit=("hv1",)),
        a_vm("stays", memory_mib=256, node_limit=("hv1",), recovery_policy="stay"),
        a_vm("stuck", memory_mib=256, node_limit=("hv1", "hv2")),
        a_vm("auto", memory_mib=256, state="stopped", node_autostart=True),
        a_vm("off", memory_mib=256, state="stopped"),
        a_vm("visitor", memory_mib=256, home="hv2", node_limit=("hv1", "hv2")),
        a_vm("abroad", memory_mib=256, node="hv2", home="hv1", node_limit=("hv1", "hv2")),
    ]
    cluster = play(nodes("hv1", "hv2", "hv3"), vms)
    cluster.immovable = {"stuck"}
    return cluster


def same_end_from_every_line(cluster: Any) -> int:
    """Play to the end, then again from what was in the store after each transaction; how many those were."""
    cluster.plays(agents_at_most=1)
    end, lines = cluster.state(), list(cluster.history)
    for number, entries in enumerate(lines):
        heir = cluster.again_from(entries)
        heir.plays(agents_at_most=1)
        assert heir.state() == end, f"another leader goes on differently after line {number} of {len(lines)}"
    return len(lines)


def test_whenever_the_leader_dies_during_a_flush_the_next_one_ends_it_alike(play: Play) -> None:
    cluster = scene(play)
    cluster.commands.flush("hv1")
    assert same_end_from_every_line(cluster) > 15
    assert cluster.node("hv1").mode is NodeMode.FLUSHED
    assert set(cluster.node("hv1").drain.stayed) == {uuid_of("stays"), uuid_of("stuck")}


def test_whenever_the_leader_dies_during_a_ready_the_next_one_ends_it_alike(play: Play) -> None:
    cluster = scene(play)
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.history.clear()
    cluster.commands.ready("hv1")
    assert same_end_from_every_line(cluster) > 10
    assert cluster.node("hv1").mode is NodeMode.READY


@pytest.mark.parametrize("lines_before", range(1, 12))
def test_whenever_the_flush_is_cancelled_and_the_leader_dies_all_vms_are_home_again(
    play: Play, lines_before: int
) -> None:
    cluster = scene(play)
    cluster.immovable = set()
    cluster.commands.flush("hv1")
    while len(cluster.history) < lines_before and (cluster.leader_acts() or cluster.agents_act(at_most=1)):
        pass
    cluster.history.clear()
    cluster.commands.ready("hv1")
    same_end_from_every_line(cluster)
    running_at_home = {"a1", "a2", "a3", "alone", "stays", "stuck", "auto", "abroad"}
    assert {name for name in cluster.on("hv1") if cluster.vm(name).state is S.RUNNING} >= running_at_home
    assert cluster.node("hv1").mode is NodeMode.READY


def test_whenever_the_leader_dies_while_two_nodes_are_drained_both_drains_end(play: Play) -> None:
    vms = [a_vm(f"a{n}", memory_mib=256) for n in range(5)] + [
        a_vm(f"b{n}", node="hv2", memory_mib=256) for n in range(5)
    ]
    cluster = play(nodes("hv1", "hv2", "hv3", "hv4"), vms)
    cluster.commands.flush("hv1")
    cluster.history.clear()
    cluster.commands.flush("hv2")
    cluster.plays(agents_at_most=1)
    for entries in list(cluster.history):
        heir = cluster.again_from(entries)
        heir.plays(agents_at_most=1)
        assert [len(heir.on(name)) for name in ("hv1", "hv2", "hv3", "hv4")] == [0, 0, 5, 5]
        assert (heir.node("hv1").mode, heir.node("hv2").mode) == (NodeMode.FLUSHED, NodeMode.FLUSHED)


# ----------------------------------------------------------------- operators who do not keep still


@pytest.mark.parametrize("seed", range(800))
def test_whatever_operators_do_between_any_two_lines_every_drain_ends_and_nothing_is_broken(
    play: Play, seed: int
) -> None:
    random = Random(seed)
    names = [f"web{n}" for n in range(8)]
    limits = [(), (), ("hv1",), ("hv1", "hv2"), ("hv2", "hv3")]
    vms = []
    for name in names:
        limit = random.choice(limits)
        vms.append(
            a_vm(
                name,
                node=random.choice(limit or ("hv1", "hv2", "hv3")),
                memory_mib=random.choice([256, 384, 448]),  # all fit one node, just so
                state=random.choice(["running", "running", "running", "stopped", "disabled"]),
                node_limit=limit,
                node_autostart=random.random() < 0.3,
                recovery_policy=random.choice(["restart", "restart", "stay"]),
            )
        )
    cluster = play(nodes("hv1", "hv2", "hv3"), vms)
    cluster.counts_slots = False  # operators migrate as they like
    cluster.immovable, cluster.unstartable = {random.choice(names)}, {random.choice(names)}
    orders_left, last_word = 40, dict[str, str]()

    def an_operator_may_come_between() -> None:
        nonlocal orders_left
        if orders_left == 0 or random.random() < 0.6:
            return
        orders_left -= 1
        command = random.choice(
            ["flush", "ready", "start", "shutdown", "stop", "disable", "restart", "migrate", "unmigrate", "move"]
        )
        subject = random.choice(["hv1", "hv2", "hv3"] if command in ("flush", "ready") else names)
        before = last_word.get(subject, "")
        last_word[subject] = command  # another one may come in between before this one returns
        try:
            getattr(cluster.commands, command)(subject)
        except PvcError:
            last_word[subject] = before

    cluster.after_transaction = an_operator_may_come_between
    for _ in range(60):
        an_operator_may_come_between()
        cluster.leader_acts()
        cluster.agents_act(at_most=random.randint(0, 3))
        if random.random() < 0.5:
            cluster.nodes_report()
    orders_left = 0
    cluster.plays()

    assert {cluster.node(name).mode for name in ("hv1", "hv2", "hv3")} <= {NodeMode.READY, NodeMode.FLUSHED}
    for vm in map(cluster.vm, names):
        assert vm.state in (S.RUNNING, S.STOPPED, S.DISABLED, S.FAILED)
        if last_word.get(vm.name) == "disable":
            assert vm.state is S.DISABLED
        if last_word.get(vm.name) in ("stop", "shutdown") and not vm.metadata.node_autostart:
            assert vm.state in (S.STOPPED, S.DISABLED)
        drain = cluster.node(vm.node).drain
        if vm.state is S.RUNNING and cluster.node(vm.node).mode is NodeMode.FLUSHED:
            assert vm.uuid in drain.stayed, f"{vm.name} runs on a flushed node, and no report says why"


@pytest.mark.parametrize("seed", range(800))
def test_leader_and_operators_who_see_nodes_vms_and_ledgers_late_leave_nothing_behind_on_a_flushed_node(
    play: Play, xml: Callable[..., str], seed: int
) -> None:
    """Each kind of record is watched on its own, so that a copy may hold a new mode beside an old VM."""
    random = Random(seed)
    vms = [a_vm(f"web{n}", memory_mib=256, state=random.choice(["running", "stopped"])) for n in range(4)]
    cluster = play(nodes("hv1", "hv2", "hv3"), vms)
    cluster.counts_slots = False
    cluster.lag = lambda: random.choice([0, 0, 1, 2, 4])
    for round_ in range(80):
        command, subject = random.choice(["flush", "ready", "start", "stop", "migrate", "move"]), "web"
        try:
            if command in ("flush", "ready"):
                getattr(cluster.commands, command)(random.choice(["hv1", "hv2"]))
            elif random.random() < 0.2:
                cluster.commands.define(xml(f"new{round_}", 16), VmMetadata(), start=True)
            else:
                getattr(cluster.commands, command)(f"{subject}{random.randint(0, 3)}")
        except PvcError:
            pass
        cluster.leader_acts()
        cluster.agents_act(at_most=random.randint(0, 4))
    cluster.lag = None
    cluster.plays()
    assert {cluster.node(name).mode for name in ("hv1", "hv2", "hv3")} <= {NodeMode.READY, NodeMode.FLUSHED}


# ------------------------------------------------------------------------------------------------ the rest


def test_a_leader_with_nothing_to_drain_does_nothing(play: Play) -> None:
    assert play(nodes("hv1", "hv2"), [a_vm()]).decisions() == ()


def test_every_action_of_the_leader_has_a_reason(play: Play) -> None:
    cluster = scene(play)
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.commands.ready("hv1")
    cluster.plays()
    assert len({type(action) for action in cluster.log}) >= 5
    assert all(len(action.reason) > 10 for action in cluster.log)
