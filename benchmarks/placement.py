# SPDX-License-Identifier: Apache-2.0
"""placement: how long one placement on 64 nodes takes, and a flush plan of 12 guests, against the budget of 1 ms.

The reference in the same run is what placement would cost without remembered sums: every ledger added up again
for every decision, with the same rules and no plugins around them. Exits with 1 when a budget is missed.

    python benchmarks/placement.py [--rounds 300]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rich.console import Console
from rich.table import Table

from pvc_core.model import NodeMode
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

NODES, VMS, GUESTS = 64, 1280, 12
PLACEMENT_BUDGET_MS = 1.0


@dataclass(frozen=True)
class Timing:
    """Of one kind of work: median and 99th percentile over the rounds, and what it may take (None: a reference)."""

    work: str
    median_ms: float
    p99_ms: float
    budget_ms: float | None

    @property
    def is_within_budget(self) -> bool:
        return self.budget_ms is None or self.median_ms <= self.budget_ms


def a_cluster() -> ClusterSnapshot:
    """64 nodes with 1,280 running VMs of four sizes; the first node is being flushed."""
    names = [f"hv{n:02}" for n in range(NODES)]
    modes = [NodeMode.FLUSHING, *[NodeMode.READY] * (NODES - 1)]
    nodes = [
        a_node(name, memory_mib=65536, cores=32, load_1m=(n * 7 % 29) / 4, mode=mode)
        for n, (name, mode) in enumerate(zip(names, modes, strict=True))
    ]
    vms = [a_vm(f"vm{n:04}", node=names[n % NODES], memory_mib=512 << (n % 4), vcpus=1 + n % 4) for n in range(VMS)]
    return a_snapshot(nodes, vms)


def naive_place(request: PlacementRequest, snapshot: ClusterSnapshot) -> str:
    """The same rules with every sum made anew: the node with the most free memory that may take the VM."""
    settings, best, most_mib = snapshot.settings, "", 0
    for name, view in sorted(snapshot.nodes.items()):
        if view.report is None or not view.is_alive or view.mode is not NodeMode.READY or name in request.exclude:
            continue
        if request.metadata.node_limit and name not in request.metadata.node_limit:
            continue
        report, reserved = view.report.value, view.reserved
        room_mib = (report.memory_total_mib - settings.memory_reserve_mib) * settings.memory_overcommit
        if room_mib - reserved.memory_mib < request.memory_mib:
            continue
        idle_mib = sum(held.memory_mib for uuid, held in reserved.vms.items() if uuid not in report.domains)
        if report.memory_available_mib - idle_mib > most_mib:
            best, most_mib = name, report.memory_available_mib - idle_mib
    return best


def timed(work: str, action: Callable[[], object], rounds: int, budget_ms: float | None) -> Timing:
    """Time an action again and again."""
    taken_ms = []
    for _ in range(rounds):
        started = time.perf_counter()
        action()
        taken_ms.append((time.perf_counter() - started) * 1000)
    return Timing(work, statistics.median(taken_ms), sorted(taken_ms)[int(rounds * 0.99)], budget_ms)


def measure(rounds: int) -> list[Timing]:
    """All timings; the answers are compared with the reference's first."""
    snapshot, registry = a_cluster(), Registry.load()
    placer, request = Placer(registry), a_request("new", memory_mib=2048, vcpus=2)
    guests = [vm.value for vm in snapshot.vms_by_node["hv00"]][:GUESTS]
    flush = [a_request(guest, exclude=frozenset({"hv00"})) for guest in guests]
    assert placer.place(request, snapshot).node == naive_place(request, snapshot)
    assert all(decision.node for decision in placer.place_many(flush, snapshot))
    timings = [
        timed("reference: ledgers added up again", lambda: naive_place(request, snapshot), rounds, None),
        timed(
            f"one placement, cold: {VMS} VMs added up",
            lambda: Placer(registry).place(request, snapshot),
            rounds,
            PLACEMENT_BUDGET_MS,
        ),
        timed(
            "one placement, after a change of the snapshot",
            lambda: placer.place(request, replace(snapshot)),
            rounds,
            PLACEMENT_BUDGET_MS,
        ),
    ]
    for name in sorted(registry.selectors):
        by_name = a_request("new", memory_mib=2048, vcpus=2, node_selector=name)
        place_it = partial(placer.place, by_name, snapshot)
        timings.append(timed(f"one placement by {name}", place_it, rounds, PLACEMENT_BUDGET_MS))
    timings.append(
        timed(
            f"flush plan of {GUESTS} guests",
            lambda: placer.place_many(flush, snapshot),
            rounds,
            GUESTS * PLACEMENT_BUDGET_MS,
        )
    )
    return timings


def show(timings: Sequence[Timing]) -> None:
    """Print the table; the ratio is to the reference, the first line."""
    table = Table(title=f"placement on {NODES} nodes with {VMS} VMs")
    table.add_column("work")
    for heading in ("median ms", "p99 ms", "of reference", "budget ms", ""):
        table.add_column(heading, justify="right")
    for timing in timings:
        table.add_row(
            timing.work,
            f"{timing.median_ms:.3f}",
            f"{timing.p99_ms:.3f}",
            f"{timing.median_ms / timings[0].median_ms:.2f}",
            "" if timing.budget_ms is None else f"{timing.budget_ms:g}",
            "" if timing.budget_ms is None else "kept" if timing.is_within_budget else "MISSED",
        )
    Console(width=110).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300, help="how often each work is timed")
    timings = measure(parser.parse_args(arguments).rounds)
    show(timings)
    return 0 if all(timing.is_within_budget for timing in timings) else 1


if __name__ == "__main__":
    sys.exit(main())
