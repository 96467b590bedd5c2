# SPDX-License-Identifier: Apache-2.0
"""leader: a node is drained, step by step, whatever is in the way.

The played cluster checks after every single transaction that ledgers equal records, that no node is overfilled,
that no more migrations run than may, that no VM is sent outside its limit, and that none runs on a flushed node
without the report saying so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from played_cluster import Play, nodes, scene, twelve

from pvc_core import layout, leader
from pvc_core.errors import BrokenRecord, NoCandidate, PluginError
from pvc_core.leader import HoldVm, LeaveVm, MoveVm, StartVm
from pvc_core.model import NodeMode, Settings, VmState
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest, RecoveryPolicyEntry
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent
SELECTORS = ("mem", "memprov", "load", "vcpus", "vms")


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
