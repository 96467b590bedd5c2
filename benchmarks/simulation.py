# SPDX-License-Identifier: Apache-2.0
"""simulation: how fast `pvc simulate chaos` plays a cluster of 100 nodes and 2 000 VMs, without faults and with them.

A minute of a run costs what its nodes say every few seconds, fault or not; a fault costs what it moves. So both are
played: some minutes in which nothing happens, and half of the nodes that lose their power at once and get it back.

    python -m benchmarks.simulation [--nodes 100 --vms 2000]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pvc_simulator.chaos import Shape, make_play
from pvc_simulator.run import Outcome, Run
from pvc_simulator.script import parse_line

SEED = 7
CALM_S, OUTAGE_S = 300.0, 420.0
BUDGETS = {"calm": 40.0, "half of the nodes lose their power": 5.0}
"""Simulated seconds per second, at least."""


def play(shape: Shape, end_s: float, deeds: Sequence[tuple[float, str]]) -> tuple[float, Outcome]:
    """A random cluster to which this happens: seconds of CPU, and what came of it."""
    file = make_play(SEED, shape).file
    lines = [parse_line(at_s, do, file) for at_s, do in (*deeds, (end_s, "end"))]
    began_s = time.process_time()
    outcome = Run(file, lines, SEED).play()
    return time.process_time() - began_s, outcome


def outage(nodes: int) -> list[tuple[float, str]]:
    """Half of the nodes lose their power and have it again two minutes later."""
    half = [f"hv{number}" for number in range(1, nodes // 2 + 1)]
    return [(at_s, f"power {node} {what}") for at_s, what in ((30.0, "off"), (150.0, "on")) for node in half]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is missed or an invariant did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--vms", type=int, default=2000)
    options = parser.parse_args(arguments)
    shape = Shape(hours=0.1, nodes=options.nodes, vms=options.vms)
    table = Table("nodes/VMs", "what happens", "CPU s", "simulated s per s", "at least", "events", title="Simulation")
    missed = False
    for (what, budget), end_s, deeds in zip(
        BUDGETS.items(), (CALM_S, OUTAGE_S), ([], outage(options.nodes)), strict=True
    ):
        taken_s, outcome = play(shape, end_s, deeds)
        per_second = outcome.virtual_s / taken_s
        missed |= per_second < budget or bool(outcome.broken)
        size = f"{options.nodes}/{options.vms}"
        table.add_row(size, what, f"{taken_s:.1f}", f"{per_second:.0f}", f"{budget:g}", str(len(outcome.seen)))
    Console(width=120).print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
