# SPDX-License-Identifier: Apache-2.0
"""leader: a node comes back into service, and its VMs with it, also in the middle of a drain."""

from __future__ import annotations

import msgspec
from played_cluster import Play, flushed, nodes, twelve

from pvc_core.leader import CancelMove, MoveVm, StartVm
from pvc_core.model import NodeMode, Settings, VmState
from pvc_core.ports import Entry
from pvc_core.testing.builders import a_node, a_vm, uuid_of
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


# --------------------------------------------------------------------------------------------------- ready


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


def test_an_autostart_vm_that_a_snapshot_keeps_off_is_left_with_the_reason(play: Play) -> None:
    kept_off = a_vm(state="stopped", node_autostart=True, snapshots=SnapshotStanding(names=("old",), kept_off="old"))
    cluster = play([a_node("hv1", mode="flushed"), a_node("hv2")], [kept_off])
    cluster.commands.ready("hv1")
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.state()["hv1"][0]) == (S.STOPPED, "ready")
    drain = cluster.node("hv1").drain
    assert drain.stayed[kept_off.uuid].startswith("is kept off: its snapshot old")
