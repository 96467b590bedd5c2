# SPDX-License-Identifier: Apache-2.0
"""storage_repair: `pvc storage <backend> repair`: what calls that died have left is shown, and mended on request."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import click

from pvc_cli.definition_files import confirmed
from pvc_cli.exit_codes import REFUSED
from pvc_cli.output import Shown, emit, note, show
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.storage_volumes import COPY_S, backend_path, yes_option
from pvc_cli.tables import Cell, Table


class LeftoverView(TypedDict):
    """What a call that died has left."""

    pool: str
    what: str
    remedy: str
    problem: str


class PoolProblem(TypedDict):
    """A pool that could not be looked at."""

    pool: str
    problem: str


@click.command("repair")
@yes_option
@output_option
@pass_session
def repair(session: Session, yes: bool) -> None:
    """End what commands whose process died have left half done.

    Shows it first, with what would be done, and asks. Each is undone, or ended: no volume loses what it holds. Pools
    that are each node's own are not looked at.
    """
    patient = replace(session.api, patience_s=COPY_S)
    found = patient.get(*backend_path(), "repair")
    leftovers: list[LeftoverView] = found["leftovers"]
    if not leftovers:
        _problems(found["problems"])
        emit(session.output, found, lambda: "nothing is to be repaired", list)
        _exit(found["problems"])
        return
    if not yes:
        show(_table(leftovers))
    confirmed("Repair this?", yes, "repair")
    document = patient.post(*backend_path(), "repair", body={}).document
    _problems(document["problems"])
    emit(session.output, document, lambda: _done(document["reason"], document["left"]), list)
    _exit(document["left"] or document["problems"])


def _done(reason: str, left: list[LeftoverView]) -> Shown:
    return [reason, _table(left)] if left else reason


def _problems(problems: list[PoolProblem]) -> None:
    for each in problems:
        note(f"pool {each['pool']} is not looked at: {each['problem']}")


def _exit(what_is_left: object) -> None:
    if what_is_left:
        click.get_current_context().exit(REFUSED)


def _table(leftovers: list[LeftoverView]) -> Table:
    table = Table(("pool", "what", "repair"), folding=("what", "repair"))
    for each in leftovers:
        problem = each["problem"] or each["remedy"] or "it cannot be repaired"
        table.add(each["pool"], each["what"], Cell(problem, "bad") if each["problem"] else problem)
    return table
