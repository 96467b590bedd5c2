# SPDX-License-Identifier: Apache-2.0
"""application: what the command line asks of the simulator, in plain documents."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pvc_simulator.chaos import Shape, make_play
from pvc_simulator.scenario import read_scenario, write_scenario
from pvc_simulator.shrinking import shrink

Document = dict[str, Any]


def play_scenario(folder: str, seed: int = 0) -> Document:
    """Play a folder. `unmet` holds a sentence for everything that was to come otherwise. Raises `InvalidInput`."""
    scenario = read_scenario(Path(folder))
    outcome, sentences = scenario.play(seed)
    return {"scenario": scenario.name, "seed": seed, **outcome.shown(), "unmet": sentences}


def play_chaos(seed: int, hours: float, nodes: int, vms: int) -> Document:
    """Play the faults of a seed: what they were, how many, and what was violated."""
    play = make_play(seed, Shape(hours, nodes, vms))
    outcome = play.run()
    return {
        "seed": seed,
        "hours": hours,
        "nodes": nodes,
        "vms": vms,
        "faults": sum(not line.undoes for line in play.script),
        "lines": len(play.script),
        "events": len(outcome.seen),
        "migrations": outcome.migrations,
        "recoveries": len(outcome.recoveries),
        "refused": len(outcome.refused),
        "violations": [broken.shown() for broken in outcome.broken],
        "virtual_seconds": round(outcome.virtual_s, 3),
        "wall_seconds": round(outcome.wall_s, 3),
    }


def play_many(first: int, count: int, hours: float, nodes: int, vms: int, jobs: int) -> Iterator[Document]:
    """The same for `count` seeds from `first` on, in their order; `jobs` of them at a time."""
    seeds = range(first, first + count)
    if jobs == 1:
        yield from (play_chaos(seed, hours, nodes, vms) for seed in seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(play_chaos, seeds, *([value] * count for value in (hours, nodes, vms)))


def shrink_chaos(seed: int, hours: float, nodes: int, vms: int, folder: str, budget_s: float) -> Document:
    """Find the fewest faults of a seed that still break the same invariant; `folder` gets them as a scenario."""
    play = make_play(seed, Shape(hours, nodes, vms))
    smaller = shrink(play, play.run(), budget_s)
    broken = [found.shown() for found in smaller.run().broken]
    said = "\n".join(f"- {found['invariant']}, at {found['t']} s: {found['what']}" for found in broken)
    left = f"What is left of {len(play.script)} lines and still breaks, played with `--seed {seed}`:"
    prose = f"# Chaos, seed {seed}\n\n{left}\n\n{said}\n"
    write_scenario(Path(folder), smaller.file, smaller.script, prose)
    return {"folder": folder, "seed": seed, "lines": len(smaller.script), "violations": broken}


class Simulator:
    """All of it, as the entry point `pvc.applications: simulator` gives it."""

    play_scenario = staticmethod(play_scenario)
    play_chaos = staticmethod(play_chaos)
    play_many = staticmethod(play_many)
    shrink_chaos = staticmethod(shrink_chaos)
