# SPDX-License-Identifier: Apache-2.0
"""leader: whoever is faster, sees things late, or dies at any line: what has begun comes to the same end."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from played_cluster import Play, flushed, nodes, scene

from pvc_core import layout, leader
from pvc_core.errors import NoCandidate, PvcError, Refused
from pvc_core.leader import CancelMove, FinishDrain, HoldVm, MoveVm, StartVm
from pvc_core.model import NodeMode, VmMetadata, VmState
from pvc_core.placement import Placer
from pvc_core.ports import Check
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


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


# --------------------------------------------------------------------------- the leader dies at any line


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


@pytest.mark.parametrize("seed", range(60))
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


@pytest.mark.parametrize("seed", range(60))
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


@pytest.mark.parametrize("seed", range(40))
def test_a_leader_who_sees_things_late_still_brings_every_vm_home(play: Play, seed: int) -> None:
    random = Random(seed)
    vms = [a_vm(f"web{n}", memory_mib=256, node=random.choice(["hv1", "hv2"])) for n in range(5)]
    cluster = play(nodes("hv1", "hv2", "hv3"), vms)
    cluster.counts_slots = False  # a leader sees its own writes at once; this one does not
    cluster.lag = lambda: random.choice([0, 0, 1, 2, 4])
    for _ in range(40):
        command = random.choice([cluster.commands.flush, cluster.commands.ready])
        command(random.choice(["hv1", "hv2"]))
        for _ in range(random.randint(1, 6)):
            cluster.leader_acts()
            cluster.agents_act(at_most=random.randint(0, 2))
    for node in ("hv1", "hv2"):
        cluster.commands.ready(node)
    for _ in range(20):
        cluster.leader_acts()
        cluster.agents_act(at_most=random.randint(0, 2))
    cluster.lag = None
    cluster.plays()
    assert [cluster.node(node).mode for node in ("hv1", "hv2")] == [NodeMode.READY, NodeMode.READY]
    stayed = {uuid for node in ("hv1", "hv2") for uuid in cluster.node(node).drain.stayed}
    assert [
        vm.name for vm in map(cluster.vm, (vm.name for vm in vms)) if vm.node != vm.home and vm.uuid not in stayed
    ] == []
    assert all(cluster.vm(vm.name).state is S.RUNNING for vm in vms)
