# SPDX-License-Identifier: Apache-2.0
"""Two processes that place members of a hard rule at the same moment never break it together."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.errors import Conflict, NoCandidate
from pvc_core.model import Rule, RuleKind, VmMetadata
from pvc_core.ports import ClusterStore, Create, Op, Set
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.system_clock import SystemClock
from pvc_core.testing.builders import a_node, a_rule, a_snapshot, a_vm
from pvc_core.testing.store_harness import DEADLINE_S, StoreHarness
from pvc_lab.zookeeper import ZooKeeperServer
from stores.sqlite_harness import SqliteHarness
from stores.zookeeper_harness import ZooKeeperHarness

ROUNDS = 200
MEMBERS = ("a", "b")
APART = a_rule("pair", "apart", *MEMBERS, hard=True)
TOGETHER = a_rule("pair", "together", *MEMBERS, hard=True)


@pytest.fixture(params=["sqlite", pytest.param("zookeeper", marks=pytest.mark.zookeeper)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    if request.param == "sqlite":
        built: StoreHarness = SqliteHarness(tmp_path)
    else:
        server: ZooKeeperServer = request.getfixturevalue("zookeeper")
        built = ZooKeeperHarness(server)
    yield built
    built.close()


class Careless(ClusterView):
    """Commits what was decided and forgets the guards."""

    def commit(self, decide: Callable[[ClusterSnapshot], Change]) -> Change:
        while True:
            change = decide(self.snapshot())
            try:
                self._store.transaction(change.ops)
            except Conflict:
                self.refresh([op.key for op in change.ops])
                continue
            return change


def _start_again_and_again(
    opener: Callable[[], ClusterStore], view_class: type[ClusterView], vm: str, rounds: int, barrier: Barrier
) -> None:
    """One process: in every round it starts its VM at the moment when the other starts the other one."""
    store, clock = opener(), SystemClock()
    store.start()
    view = view_class(store, clock)
    view.start()
    commands = Commands(view, store, Registry.load(), clock)
    try:
        for _ in range(rounds):
            barrier.wait(DEADLINE_S)
            # Refused when it is kept apart from, or together with, one that was faster.
            with suppress(NoCandidate):
                commands.start(vm)
            barrier.wait(DEADLINE_S)
    finally:
        view.close()
        store.close()


def _define_again_and_again(opener: Callable[[], ClusterStore], vm: str, rounds: int, barrier: Barrier) -> None:
    """One process: in every round it defines a VM with that round's tag, at the moment when the other does."""
    store, clock = opener(), SystemClock()
    store.start()
    view = ClusterView(store, clock)
    view.start()
    commands = Commands(view, store, Registry.load(), clock)
    try:
        for number in range(rounds):
            barrier.wait(DEADLINE_S)
            xml = f"<domain><name>{vm}{number}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu></domain>"
            commands.define(xml, VmMetadata(tags=(f"t{number}",)), start=True)
            barrier.wait(DEADLINE_S)
    finally:
        view.close()
        store.close()


class Onlooker:
    """Adds rules, and sees where VMs are."""

    def __init__(self, store: ClusterStore) -> None:
        self._view = ClusterView(store, SystemClock())
        self._view.start()
        self.commands = Commands(self._view, store, Registry.load(), SystemClock())

    def nodes_of(self, *vms: str) -> set[str]:
        """Once all of them are there."""
        assert self._view.wait_for(lambda snapshot: snapshot.uuid_by_name.keys() >= {*vms}, DEADLINE_S)
        return {self._view.snapshot().vm(vm).value.node for vm in vms}

    def close(self) -> None:
        self._view.close()


class Rounds:
    """The cluster as it is before each round, and where the two VMs are after it."""

    def __init__(self, harness: StoreHarness, rule: Rule, homes: tuple[str, str]) -> None:
        vms = [a_vm(name, node=node, state="stopped") for name, node in zip(MEMBERS, homes, strict=True)]
        self.snapshot = a_snapshot([a_node("hv1"), a_node("hv2")], vms, rules=[rule])
        self.store = harness.new_store()
        self.store.ensure(layout.DIRECTORIES)
        self.opener = harness.opener

    def reset(self) -> None:
        """Both are off and at home. The rule is written once, and its record is then the processes' own."""
        snapshot = self.snapshot
        nodes = snapshot.nodes.values()
        records = {
            one.key: one.value for view in nodes for one in (view.record, view.ledger, view.report, view.member) if one
        }
        records |= {stored.key: stored.value for stored in snapshot.vms.values()}
        (rule,) = snapshot.rules.values()
        there = self.store.get_many([*records, rule.key])
        ops: list[Op] = [
            Set(key, encode(value), there[key].version) if key in there else Create(key, encode(value))
            for key, value in records.items()
        ]
        self.store.transaction(ops if rule.key in there else [*ops, Create(rule.key, encode(rule.value))])

    def report(self) -> None:
        """The nodes report anew: what they said half a minute ago counts for nothing."""
        reports = [view.report for view in self.snapshot.nodes.values() if view.report]
        there = self.store.get_many([one.key for one in reports])
        self.store.transaction([Set(one.key, encode(one.value), there[one.key].version) for one in reports])

    def play(self, rounds: int, view_class: type[ClusterView] = ClusterView) -> Iterator[set[str]]:
        """The nodes of those that run, round by round."""
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(len(MEMBERS) + 1)
        self.reset()
        processes = [
            context.Process(target=_start_again_and_again, args=(self.opener, view_class, vm, rounds, barrier))
            for vm in MEMBERS
        ]
        for process in processes:
            process.start()
        try:
            for _ in range(rounds):
                barrier.wait(DEADLINE_S)
                barrier.wait(DEADLINE_S)
                yield self._nodes_of_those_that_run()
                self.reset()
        finally:
            barrier.abort()
            for process in processes:
                process.join(DEADLINE_S)

    def _nodes_of_those_that_run(self) -> set[str]:
        view = ClusterView(self.store, SystemClock())
        view.start()
        try:
            vms = [stored.value for stored in view.snapshot().vms.values()]
        finally:
            view.close()
        self.running = [vm.node for vm in vms if vm.state == "starting"]
        return set(self.running)


def test_vms_that_are_to_be_apart_never_meet(harness: StoreHarness) -> None:
    game = Rounds(harness, APART, ("hv1", "hv1"))
    for nodes in game.play(ROUNDS):
        assert nodes == {"hv1", "hv2"}


def test_vms_that_are_to_be_together_never_part(harness: StoreHarness) -> None:
    game = Rounds(harness, TOGETHER, ("hv1", "hv2"))
    for nodes in game.play(ROUNDS):
        assert len(nodes) == 1
        assert len(game.running) == 2


def test_it_is_the_guard_that_keeps_them(harness: StoreHarness) -> None:
    game = Rounds(harness, TOGETHER, ("hv1", "hv2"))
    assert any(len(nodes) == 2 for nodes in game.play(ROUNDS, Careless))


@pytest.mark.parametrize(("kind", "nodes_used"), [("apart", 2), ("together", 1)])
def test_new_vms_keep_a_rule_that_was_added_a_moment_ago(
    harness: StoreHarness, kind: RuleKind, nodes_used: int
) -> None:
    rounds = 50
    game = Rounds(harness, APART, ("hv1", "hv1"))
    game.reset()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(MEMBERS) + 1)
    processes = [
        context.Process(target=_define_again_and_again, args=(game.opener, vm, rounds, barrier)) for vm in MEMBERS
    ]
    for process in processes:
        process.start()
    with closing(Onlooker(game.store)) as onlooker:
        try:
            for number in range(rounds):
                game.report()
                rule = {"kind": kind, "members": f"tag:t{number}", "hard": True}
                onlooker.commands.add_rule(f"r{number}", rule)
                barrier.wait(DEADLINE_S)
                barrier.wait(DEADLINE_S)
                nodes = onlooker.nodes_of(f"a{number}", f"b{number}")
                assert len(nodes) == nodes_used, f"round {number}"
        finally:
            barrier.abort()
            for process in processes:
                process.join(DEADLINE_S)
