# SPDX-License-Identifier: Apache-2.0
"""simulate_commands: `pvc simulate`: scenarios and random faults, on a cluster that is only in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import click

from pvc_cli.applications import load_application
from pvc_cli.exit_codes import DONE, SIMULATION_FAILED
from pvc_cli.output import Output, Shown, emit, note
from pvc_cli.progress import Progress
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table

Document = dict[str, Any]
MOST_SHOWN = 20


@click.group()
def simulate() -> None:
    """Play failures on a simulated cluster: no root, no server.

    The daemon's own code runs on a virtual clock, on hosts whose power and network can be cut. Nothing of a real
    cluster is touched.
    """


class Simulator(Protocol):
    """What the application `simulator` offers."""

    def play_scenario(self, folder: str, seed: int) -> Document: ...

    def play_many(
        self, first: int, count: int, hours: float, nodes: int, vms: int, jobs: int
    ) -> Iterator[Document]: ...

    def shrink_chaos(self, seed: int, hours: float, nodes: int, vms: int, folder: str, budget_s: float) -> Document: ...


def _simulator() -> Simulator:
    found: Simulator = load_application("simulator")()
    return found


# --------------------------------------------------------------------------------------------------- run


@simulate.command("run", short_help="Play scenario folders and compare what comes of them.")
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True)
@click.option("--seed", type=int, default=0, help="What is left to chance, such as how long a start takes.")
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@output_option
@pass_session
def run_scenarios(session: Session, folders: Sequence[str], seed: int, as_json: bool) -> int:
    """Play scenario folders and compare what comes of them with what they expect.

    A folder holds cluster.yaml, script.yaml and expected.yaml, of which the last two may be missing. The exit status
    is 12 when an invariant was violated or an expectation was not met.
    """
    output = Output.JSON if as_json else session.output
    simulator, failed = _simulator(), False
    for folder in folders:
        found = simulator.play_scenario(folder, seed)
        failed = failed or bool(found["violations"] or found["unmet"])
        emit(output, found, lambda found=found: _scenario_shown(found), lambda found=found: [found["scenario"]])  # type: ignore[misc]
    return SIMULATION_FAILED if failed else DONE


def _scenario_shown(found: Document) -> Shown:
    problems = _problems(found["violations"]) + found["unmet"]
    summary = f"{found['scenario']}: {'failed' if problems else 'as expected'}, {_time(found)}"
    return "\n".join([summary, *(f"  {problem}" for problem in problems[:MOST_SHOWN])])


# --------------------------------------------------------------------------------------------------- chaos


@simulate.command("chaos", short_help="Play random faults and check that nothing is lost.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Names the faults: the same seed, the same run.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Play so many seeds, from --seed on.")
@click.option("--hours", type=click.FloatRange(0.05, 1000), default=4.0, help="Simulated time with faults.")
@click.option("--nodes", type=click.IntRange(3, 1000), default=5, help="Hosts of the cluster.")
@click.option("--vms", type=click.IntRange(4, 100_000), default=40, help="VMs of the cluster.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=None, help="Seeds played at a time.  [default: one per core]"
)
@click.option(
    "--shrink",
    "folder",
    metavar="FOLDER",
    help="Write the fewest faults that still fail there.  [default: do not look]",
)
@click.option("--shrink-s", type=click.FloatRange(min=1), default=120.0, help="How long to look for fewer, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@output_option
@pass_session
def chaos(
    session: Session,
    seed: int,
    seeds: int,
    hours: float,
    nodes: int,
    vms: int,
    jobs: int | None,
    folder: str | None,
    shrink_s: float,
    as_json: bool,
) -> int:
    """Play random faults on a random cluster and check the invariants at every moment.

    A VM never runs on two hosts; no limit, hard rule or memory bound is violated by a decision; nothing is recovered
    from a host that is on; no record is lost; in the end everything that is to run runs. The exit status is 12 when
    one of them was violated; the seed plays the same run again.
    """
    output = Output.JSON if as_json else session.output
    simulator, found = _simulator(), []
    with Progress() as progress:
        jobs = jobs or min(seeds, os.cpu_count() or 1)
        for played in simulator.play_many(seed, seeds, hours, nodes, vms, jobs):
            found.append(played)
            broken = sum(bool(each["violations"]) for each in found)
            progress.show(f"{len(found)} of {seeds} seeds, {broken} with violations", f"{broken} with violations")
    failed = [played for played in found if played["violations"]]
    document: Document = {"seeds": found, "failed": [played["seed"] for played in failed]}
    if failed and folder:
        note(f"looking for the fewest faults of seed {failed[0]['seed']} that still fail")
        document["shrunk"] = simulator.shrink_chaos(failed[0]["seed"], hours, nodes, vms, folder, shrink_s)
    emit(output, document, lambda: _chaos_shown(document), lambda: [str(number) for number in document["failed"]])
    return SIMULATION_FAILED if failed else DONE


def _chaos_shown(document: Document) -> Shown:
    table = Table(["seed", "faults", "recoveries", "migrations", "virtual", "real", "result"], right=["faults"])
    for played in document["seeds"]:
        broken = len(played["violations"])
        result = Cell(f"{broken} violations", "bad") if broken else Cell("well", "good")
        counts = (str(played[name]) for name in ("seed", "faults", "recoveries", "migrations"))
        table.add(*counts, f"{played['virtual_seconds'] / 3600:.1f} h", f"{played['wall_seconds']:.1f} s", result)
    shown: list[str | Table] = [table]
    for played in document["seeds"]:
        if played["violations"]:
            problems = _problems(played["violations"])
            again = f"`pvc simulate chaos --seed {played['seed']} --hours {played['hours']:g} --nodes {played['nodes']}"
            shown.append(f"\n{again} --vms {played['vms']}` plays this again:")
            shown += [f"  {problem}" for problem in problems[:MOST_SHOWN]]
    if "shrunk" in document:
        left = document["shrunk"]
        shown.append(f"\n{left['lines']} lines still fail: `pvc simulate run {left['folder']} --seed {left['seed']}`")
    return shown


def _problems(violations: Sequence[dict[str, Any]]) -> list[str]:
    return [f"at {broken['t']} s: {broken['invariant']}: {broken['what']}" for broken in violations]


def _time(found: Document) -> str:
    return f"{found['virtual_seconds']:g} simulated seconds in {found['wall_seconds']:.1f} s"
