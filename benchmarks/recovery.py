# SPDX-License-Identifier: Apache-2.0
"""recovery: how long after its power was pulled all guests of a node run elsewhere, on real parts, default settings.

Four hypervisors in namespaces with libvirtd, QEMU guests and BMCs that the leader reaches by fence_ipmilan, and three
ZooKeepers. The time is taken from outside: from before the power goes until the other hosts' libvirtds, asked past PVC,
run every guest. Where it goes is read from the store: until the node counts as lost (the end of its session and the
grace time), until it is certain that it is off, until every guest has a place. Needs root, and what `make lab` needs.

    python -m benchmarks.recovery [--runs 10] [--guests 4] [--victim leader]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pvc_core import layout
from pvc_core.cluster_view import ClusterView
from pvc_core.commands import Commands
from pvc_core.election import holder_of
from pvc_core.model import FenceStep, NodeMode, VmMetadata
from pvc_core.ports import ClusterStore
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.system_clock import SystemClock
from pvc_core.vm_states import OFF
from pvc_lab import packages
from pvc_lab.cluster_node import ClusterNode
from pvc_lab.real_cluster import RealCluster
from pvc_lab.waiting import DeadlineExceededError, wait_for

BUDGET_MEDIAN_S = 10.0
BUDGET_WORST_S = 15.0
NODES = 4
GUEST_MEMORY_MIB = 16
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Times:
    """Seconds since the power was pulled until this was so."""

    lost_s: float
    off_s: float
    placed_s: float
    running_s: float


class Bench:
    """The cluster, and an operator who looks at it."""

    def __init__(self, cluster: RealCluster, store: ClusterStore, view: ClusterView, commands: Commands) -> None:
        self._cluster = cluster
        self._store = store
        self._view = view
        self._commands = commands

    def lose(self, number: int, guests: int, *, is_leader: bool) -> Times:
        """Pull the power of a node, another one each time, and put everything back."""
        victim = self._victim(number, is_leader)
        uuids = self._run_guests(victim, guests)
        began_s = time.monotonic()
        victim.power_off()

        def passed_s(predicate: Callable[[ClusterSnapshot], bool], what: str) -> float:
            self._wait(predicate, what)
            return time.monotonic() - began_s

        times = Times(
            passed_s(lambda s: self._step(s, victim) is not None, f"{victim.name} to be lost"),
            passed_s(lambda s: s.node(victim.name).record.value.fenced, f"{victim.name} to be off"),
            passed_s(lambda s: all(s.vms[uuid].value.node != victim.name for uuid in uuids), "a place for all guests"),
            self._running_s(victim, uuids, began_s),
        )
        self._put_back(victim, uuids)
        return times

    def _victim(self, number: int, is_leader: bool) -> ClusterNode:
        holder = wait_for(lambda: holder_of(self._store.get(layout.LEADER_HOLDER)), "a leader")
        nodes = self._cluster.nodes
        others = [node for name, node in nodes.items() if name != holder.candidate]
        return nodes[holder.candidate] if is_leader else others[number % len(others)]

    def _run_guests(self, node: ClusterNode, count: int) -> list[str]:
        uuids = []
        for number in range(count):
            xml = self._cluster.empty_definition(f"web{number}", GUEST_MEMORY_MIB)
            outcome = self._commands.define(xml, VmMetadata(), target=node.name, start=True)
            assert outcome.vm is not None
            uuids.append(outcome.vm.uuid)
        self._wait(lambda s: all(s.vms[uuid].value.state == "running" for uuid in uuids), "all guests to run")
        return uuids

    def _running_s(self, lost: ClusterNode, uuids: Sequence[str], began_s: float) -> float:
        watch = self._cluster.watch
        others = [name for name in self._cluster.nodes if name != lost.name]

        def all_run() -> bool:
            return set(uuids) <= frozenset[str]().union(*(watch.running_on(name) for name in others))

        wait_for(all_run, "all guests to run elsewhere", deadline_s=DEADLINE_S)
        return time.monotonic() - began_s

    def _put_back(self, node: ClusterNode, uuids: Sequence[str]) -> None:
        """No guest, and every node in service."""
        node.boot()
        self._wait(lambda s: all(s.vms[uuid].value.state == "running" for uuid in uuids), "the records to say so too")
        for uuid in uuids:
            self._commands.stop(uuid)
        self._wait(lambda s: all(s.vms[uuid].value.state in OFF for uuid in uuids), "all guests off")
        for uuid in uuids:
            self._commands.undefine(uuid)
        self._wait(lambda s: self._step(s, node) is FenceStep.RECOVERED and s.node(node.name).is_alive, "the daemon")
        self._commands.ready(node.name)
        self._wait(lambda s: all(n.mode is NodeMode.READY and n.is_alive for n in s.nodes.values()), "all nodes ready")

    def _step(self, snapshot: ClusterSnapshot, node: ClusterNode) -> FenceStep | None:
        """Of a fence that is under way, or has come to its end while the node's daemon was not back."""
        record = snapshot.node(node.name).record.value
        is_over = record.fence is not None and record.fence.step is FenceStep.RECOVERED and not record.fenced
        return None if record.fence is None or is_over else record.fence.step

    def _wait(self, predicate: Callable[[ClusterSnapshot], bool], what: str) -> None:
        if not self._view.wait_for(predicate, DEADLINE_S):
            raise DeadlineExceededError(what, DEADLINE_S)


@contextmanager
def a_bench(folder: Path) -> Iterator[Bench]:
    """Up and at work, with the settings and timeouts that a cluster has by itself."""
    with RealCluster(folder, NODES, workers=1, store_members=3, bmcs=True) as cluster:
        cluster.add_fence_devices()
        registry, clock = Registry.load(), SystemClock()
        store = registry.open_store(cluster.store_url)
        store.start()
        view = ClusterView(store, clock)
        view.start()
        try:
            yield Bench(cluster, store, view, Commands(view, store, registry, clock))
        finally:
            view.close()
            store.close()
        faults = cluster.two_nodes()
        if faults:
            raise AssertionError(f"a guest ran on two nodes: {'; '.join(faults)}")


def measure(runs: int, guests: int, *, is_leader: bool) -> list[Times]:
    """The times of so many losses, one after the other."""
    with tempfile.TemporaryDirectory(prefix="pvc-bench-") as folder, a_bench(Path(folder)) as bench:
        return [bench.lose(number, guests, is_leader=is_leader) for number in range(runs)]


def shown(times: Sequence[Times], title: str) -> Table:
    """Median and worst of every step, and each run."""
    steps = ("counts as lost", "is certainly off", "all have a place", "all run elsewhere")
    table = Table("s after the power was pulled", *steps, title=title)
    columns = list(zip(*(astuple(each) for each in times), strict=True))
    table.add_row("median", *(f"{statistics.median(column):.1f}" for column in columns))
    table.add_row("worst", *(f"{max(column):.1f}" for column in columns))
    for number, each in enumerate(times, start=1):
        table.add_row(f"run {number}", *(f"{value:.1f}" for value in astuple(each)), end_section=number == len(times))
    assert len(columns) == len(fields(Times))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--guests", type=int, default=4)
    parser.add_argument("--victim", choices=("leader", "other"), default="other", help="which node (default: other)")
    options = parser.parse_args(arguments)
    problem = packages.why_no_lab()
    if problem:
        print(f"recovery is not measured: {problem}", file=sys.stderr)
        return 0
    times = measure(options.runs, options.guests, is_leader=options.victim == "leader")
    who = "the leader" if options.victim == "leader" else "a node"
    Console().print(shown(times, f"The death of {who} with {options.guests} guests, default settings"))
    running_s = [each.running_s for each in times]
    return int(statistics.median(running_s) > BUDGET_MEDIAN_S or max(running_s) > BUDGET_WORST_S)


if __name__ == "__main__":
    sys.exit(main())
