# SPDX-License-Identifier: Apache-2.0
"""balance: how even a cluster becomes, in how many moves and how long it takes to see it, beside Ganeti's `hbal`.

Nodes of twelve kinds and VMs of any size, most of them crowded on a few nodes. hbal computes in the same run on the
same cluster, where Debian's `ganeti-htools` is installed; its score is the one we lower, so both are judged by it. It
runs with its defaults but for `--ignore-dynu`: without that it evens out the number of VMs as well, in place of a load
that nobody has measured. Our rows: as the settings' defaults have it, but for any number of moves, and with as many
moves as hbal makes. Exits with 1 when the balance of 40 nodes and 600 VMs takes more than a second, or comes out worse
or in more moves than hbal's.

    python -m benchmarks.balance [--hbal-up-to 40] [--sizes 40/600,1000/15000]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from benchmarks.ganeti import Balanced, cluster_score, hbal, is_installed
from pvc_core.balance import BalanceGoal, recommend
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm

SIZES = ((5, 60), (16, 240), (40, 600), (64, 960), (128, 2560), (512, 10_240), (1000, 15_000))
BUDGET = (40, 600)
BUDGET_S = 1.0
UNLIMITED_MOVES = 100_000


@dataclass(frozen=True)
class Row:
    """What one balancer did with one cluster."""

    size: tuple[int, int]
    balancer: str
    seconds: float
    moves: int
    score: float
    is_missed: bool = False


def a_cluster(nodes: int, vms: int, seed: int = 1) -> ClusterSnapshot:
    """A heterogeneous cluster, some of whose nodes have much more to do than others; the same for the same seed."""
    rng = random.Random(seed)
    hosts = [(f"hv{n:04}", rng.choice([64, 128, 192, 256]) * 1024, rng.choice([16, 24, 32, 48])) for n in range(nodes)]
    liking = [rng.random() ** 2 + 0.05 for _ in hosts]
    left = {name: memory_mib * 0.95 - 512 for name, memory_mib, _ in hosts}
    guests = []
    for number in range(vms):
        memory_mib, vcpus = rng.choice([1024, 2048, 4096, 4096, 8192, 16384]), rng.choice([1, 2, 2, 4, 4, 8])
        node = next(name for name, *_ in iter(lambda: rng.choices(hosts, liking)[0], None) if left[name] >= memory_mib)
        left[node] -= memory_mib
        guests.append(a_vm(f"vm{number:05}", node=node, memory_mib=memory_mib, vcpus=vcpus))
    return a_snapshot([a_node(name, memory_mib=memory_mib, cores=cores) for name, memory_mib, cores in hosts], guests)


def ours(size: tuple[int, int], snapshot: ClusterSnapshot, placer: Placer, goal: BalanceGoal, name: str) -> Row:
    """Our recommendation, timed, its result scored as Ganeti scores."""
    started = time.perf_counter()
    found = recommend(replace(snapshot), placer, goal)
    seconds = time.perf_counter() - started
    places = {step.vm: step.target for step in found.plan.steps}
    return Row(size, name, seconds, len(found.plan.steps), cluster_score(snapshot, places))


def measure(sizes: Sequence[tuple[int, int]], hbal_up_to: int) -> Iterator[Row]:
    """A few rows per cluster, one after the other."""
    placer = Placer(Registry.load())
    defaults = BalanceGoal(max_moves=UNLIMITED_MOVES)
    for size in sizes:
        snapshot = a_cluster(*size)
        yield Row(size, "before", 0.0, 0, cluster_score(snapshot))
        theirs = hbal(snapshot, "--ignore-dynu") if is_installed() and size[0] <= hbal_up_to else None
        if theirs:
            yield Row(size, "hbal", theirs.seconds, len(theirs.moves), cluster_score(snapshot, theirs.places))
        row = ours(size, snapshot, placer, defaults, "pvc")
        yield replace(row, is_missed=size == BUDGET and _misses(row, theirs, snapshot))
        if theirs and theirs.moves:
            goal = BalanceGoal(threshold=0.0, margin=0.001, max_moves=len(theirs.moves))
            yield ours(size, snapshot, placer, goal, "pvc, hbal's number of moves")


def _misses(row: Row, theirs: Balanced | None, snapshot: ClusterSnapshot) -> bool:
    if theirs is None:
        return row.seconds > BUDGET_S
    is_worse = row.score > cluster_score(snapshot, theirs.places) or row.moves > len(theirs.moves)
    return row.seconds > BUDGET_S or is_worse


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hbal-up-to", type=int, default=40, help="nodes; it takes minutes for 40 and hours for more")
    parser.add_argument("--sizes", default="", help="as nodes/VMs, separated by commas")
    options = parser.parse_args(arguments)
    sizes = [(int(n), int(v)) for n, v in (size.split("/") for size in options.sizes.split(",") if size)] or SIZES
    console = Console(width=100)
    if not is_installed():
        console.print("hbal is not installed (Debian: ganeti-htools): only our own side is measured")
    table = Table(title="balance: lower scores are better")
    for heading in ("nodes/VMs", "balancer"):
        table.add_column(heading)
    for heading in ("seconds", "moves", "score", ""):
        table.add_column(heading, justify="right")
    missed = False
    for row in measure(sizes, options.hbal_up_to):
        missed |= row.is_missed
        verdict = "" if row.size != BUDGET or row.balancer != "pvc" else "MISSED" if row.is_missed else "kept"
        size = f"{row.size[0]}/{row.size[1]}"
        table.add_row(size, row.balancer, f"{row.seconds:.3f}", str(row.moves), f"{row.score:.5f}", verdict)
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
