# SPDX-License-Identifier: Apache-2.0
"""placement_scale: one placement, one node's evacuation, the loss of every node in turn, and thousands of VMs at once.

On clusters of 16 to 1,000 nodes, the losses also where 95 % of the memory is reserved; and 10,000 new VMs on 5,000
nodes, decisions only. Where Debian's `ganeti-htools` is installed, its `hail` evacuates the same node of the same
cluster in the same run (up to 512 nodes): time, and Ganeti's cluster score of the result, where lower is better. Exits
with 1 when a budget is missed.

    python -m benchmarks.placement_scale [--sizes 16 64 128 512 1000]
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks import hail
from benchmarks.ganeti import cluster_score
from pvc_core.capacity import losses
from pvc_core.model import Settings
from pvc_core.placement import Placer
from pvc_core.placement_bulk import place_in_bulk
from pvc_core.planner import Wish, plan
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

T = TypeVar("T")

VMS = {16: 240, 64: 960, 100: 1500, 128: 2560, 512: 10_240, 1000: 15_000}
BUDGETS_MS = {
    (64, "one placement"): 1.0,
    (512, "evacuation plan"): 100.0,
    (100, "loss of every node"): 1000.0,
    (1000, "loss of every node"): 5000.0,
}
LOST = "hv0001"
SELECTORS = ("mem", "vcpus", "even")
LARGEST_FOR_HAIL = 512
NEARLY_FULL = 0.95
MANY_NODES, MANY_VMS, PER_SECOND = 5000, 10_000, 2000.0


def a_cluster(nodes: int, vms: int) -> ClusterSnapshot:
    """Equal nodes, three fifths full on average, with VMs of four sizes as chance has it; the same in every run."""
    chance = random.Random(1)
    names = [f"hv{number:04}" for number in range(nodes)]
    running = [
        a_vm(
            f"vm{number:05}",
            node=names[number % nodes],
            memory_mib=512 << chance.randrange(4),
            vcpus=1 + chance.randrange(4),
        )
        for number in range(vms)
    ]
    return a_snapshot([a_node(name, memory_mib=65_536, cores=32) for name in names], running)


def a_nearly_full_cluster(nodes: int, vms: int) -> ClusterSnapshot:
    """As many VMs of any size from 300 to 6,000 MiB as reserve 95 % of the memory of equal nodes, evenly spread."""
    chance = random.Random(3)
    sizes_mib = [chance.randrange(300, 6000) for _ in range(vms)]
    settings = Settings()
    memory_mib = settings.memory_reserve_mib + int(sum(sizes_mib) / nodes / NEARLY_FULL)
    emptiest = [(0, f"hv{number:04}") for number in range(nodes)]
    running = []
    for number, size_mib in enumerate(sizes_mib):
        used_mib, name = emptiest[0]
        heapq.heapreplace(emptiest, (used_mib + size_mib, name))
        running.append(a_vm(f"vm{number:05}", node=name, memory_mib=size_mib, vcpus=1 + chance.randrange(4)))
    names = sorted(name for _, name in emptiest)
    return a_snapshot([a_node(name, memory_mib=memory_mib, cores=32) for name in names], running, settings)


def timed_ms(action: Callable[[], T], rounds: int = 3) -> tuple[float, T]:
    """The shortest of a few times, and what came out."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = action()
        taken.append((time.perf_counter() - started) * 1000)
    return min(taken), result


def measure(nodes: int, table: Table) -> bool:
    """Rows for a cluster of this size; whether all budgets were kept."""
    snapshot, placer, kept = a_cluster(nodes, VMS[nodes]), Placer(Registry.load()), True

    def row(work: str, taken_ms: float, outcome: str = "") -> bool:
        budget_ms = BUDGETS_MS.get((nodes, work.partition(",")[0]))
        table.add_row(f"{nodes}/{VMS[nodes]}", work, f"{taken_ms:.1f}", f"{budget_ms:g}" if budget_ms else "", outcome)
        return budget_ms is None or taken_ms <= budget_ms

    placer.capacities(snapshot)
    kept &= row("one placement", timed_ms(lambda: placer.place(a_request("new"), snapshot))[0])
    guests = [vm.value for vm in snapshot.vms_by_node[LOST]]
    for selector in SELECTORS:
        wishes = [Wish(a_request(vm, exclude=frozenset({LOST}), node_selector=selector)) for vm in guests]
        taken_ms, made = timed_ms(lambda wishes=wishes: plan(wishes, snapshot, placer))  # type: ignore[misc]
        score = cluster_score(snapshot, {step.vm: step.target for step in made.steps})
        kept &= row(f"evacuation plan, {selector}", taken_ms, f"{len(made.steps)} VMs, score {score:.5f}")
    if hail.is_installed() and nodes <= LARGEST_FOR_HAIL:
        found = hail.evacuate(snapshot, [vm.name for vm in guests])
        score = cluster_score(snapshot, found.places)
        row("reference: hail, node-evacuate", found.seconds * 1000, f"{len(found.places)} VMs, score {score:.5f}")
    full = a_nearly_full_cluster(nodes, VMS[nodes])
    for work, cluster in (("loss of every node", snapshot), ("loss of every node, nearly full", full)):
        placer.capacities(cluster)
        taken_ms, lost = timed_ms(lambda cluster=cluster: losses(cluster, placer), rounds=1)  # type: ignore[misc]
        survivable = sum(loss.survivable for loss in lost.values())
        stranded = sum(len(loss.stranded) for loss in lost.values())
        unproven = sum(not loss.proven for loss in lost.values())
        kept &= row(work, taken_ms, f"{survivable} survivable, {stranded} stranded, {unproven} unproven")
    return kept


def measure_many(table: Table) -> bool:
    """Thousands of VMs on thousands of nodes; whether as many were placed per second as the budget wants."""
    snapshot, placer, chance = a_cluster(MANY_NODES, 4 * MANY_NODES), Placer(Registry.load()), random.Random(2)
    placer.capacities(snapshot)
    requests = [
        a_request(f"new{n}", memory_mib=512 * (1 + chance.randrange(16)), vcpus=1 + chance.randrange(4))
        for n in range(MANY_VMS)
    ]
    taken_ms, decisions = timed_ms(lambda: place_in_bulk(requests, snapshot, placer))
    per_second = sum(bool(decision.node) for decision in decisions) / taken_ms * 1000
    budget_ms = MANY_VMS / PER_SECOND * 1000
    work, outcome = f"{MANY_VMS} placements at once", f"{per_second:.0f} a second"
    table.add_row(f"{MANY_NODES}/{4 * MANY_NODES}", work, f"{taken_ms:.1f}", f"{budget_ms:g}", outcome)
    return per_second >= PER_SECOND


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(VMS), choices=list(VMS))
    table = Table("nodes/VMs", "work", "ms", "budget ms", "outcome", title="Placement at scale")
    kept = [measure(size, table) for size in parser.parse_args(arguments).sizes]
    kept.append(measure_many(table))
    Console(width=120).print(table)
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
