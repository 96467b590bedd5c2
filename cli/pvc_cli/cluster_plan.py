# SPDX-License-Identifier: Apache-2.0
"""cluster_plan: even out the nodes' load, carry out a plan that was made before, follow it step by step, end it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pvc_cli.asking import ask, snapshot_option
from pvc_cli.definition_files import confirmed
from pvc_cli.exit_codes import DONE, VMS_STAYED
from pvc_cli.following import follow, seconds_to_wait, wait_options
from pvc_cli.output import Output, Shown, emit, note, show
from pvc_cli.plan_tables import balance_shown, plan_shown
from pvc_cli.plan_views import BalanceView, PlanProgress, PlanProgressStep
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table
from pvc_cli.text_files import read_text
from pvc_cli.words import NOTHING
from pvc_core.errors import InvalidInput

TIMEOUT_S = 3600
MAX_PLAN_BYTES = 1024 * 1024
SHOWN_BY = "pvc cluster plan"
MOOD_OF_STEP = {"waiting": "quiet", "under-way": "busy", "done": "good", "dropped": "warning", "failed": "bad"}


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.option("--force", is_flag=True, help="Also so soon after the last balance.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def apply(session: Session, file: str, force: bool, yes: bool, wait: bool | None, timeout_s: float) -> int:
    """Carry out the plan in FILE, which --plan -o json wrote.

    It is refused, with what has changed, when the cluster is not as it was when the plan was made. The plan of a flush
    drains its node; others go on step by step, see `pvc cluster plan`. With --wait the exit status is 10 when
    something of the plan was not done.
    """
    document = _read(file)
    found: Any = document
    return apply_document(session, document, lambda: plan_shown(found), force, yes, seconds_to_wait(wait, timeout_s))


@click.command()
@click.option("--apply", "applies", is_flag=True, help="Carry it out, after asking.")
@click.option("--force", is_flag=True, help="With --apply: also so soon after the last balance.")
@click.option("-y", "--yes", is_flag=True, help="With --apply: do not ask.")
@snapshot_option
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def balance(
    session: Session,
    applies: bool,
    force: bool,
    yes: bool,
    snapshot_file: str,
    wait: bool | None,
    timeout_s: float,
) -> int:
    """Recommend migrations that even out the nodes' load.

    Violated rules and limits are repaired first, with as few moves as possible; then the VMs are spread, if that is
    worth its moves. --apply carries it out. A balance that only spreads is refused soon after another one, unless it
    is forced: see the setting balance_cooldown_s. Exit status 10: something stays violated.
    """
    if applies and snapshot_file:
        raise InvalidInput("--apply", "does not go with --snapshot: nothing can be done to the cluster of a file")
    if (force or yes) and not applies:
        raise InvalidInput("--force and --yes", "only go with --apply")
    found: BalanceView = ask(session, snapshot_file, lambda questions: questions.balance(), "cluster", "balance")
    if applies and found["steps"]:
        wait_s = seconds_to_wait(wait, timeout_s)
        return apply_document(session, dict(found), lambda: balance_shown(found), force, yes, wait_s)
    emit(session.output, found, lambda: balance_shown(found), lambda: [step["vm"] for step in found["steps"]])
    return VMS_STAYED if found["unrepaired"] else DONE


@click.command()
@click.option("--cancel", is_flag=True, help="Begin no further step; migrations under way come to their end.")
@wait_options(TIMEOUT_S)
@output_option
@pass_session
def plan(session: Session, cancel: bool, wait: bool | None, timeout_s: float) -> int:
    """Show how far the applied plan is, or what became of it.

    The exit status is 10 when it is over and something of it was not done.
    """
    wait_s = seconds_to_wait(wait, timeout_s)
    if cancel:
        return _conclude(session, session.api.request("DELETE", "cluster", "plan").document, wait_s)
    status = session.api.get("cluster", "plan")
    if status["plan"] is None:
        emit(session.output, status, lambda: "no plan was ever applied", list)
        return DONE
    if wait_s and not status["settled"]:
        status = _followed(session, "/api/v1/cluster/plan", wait_s)
    found: PlanProgress = status["plan"]
    emit(session.output, status, lambda: _shown(found), lambda: [step["vm"] for step in found["steps"]])
    return _status(found)


def apply_document(
    session: Session, document: dict[str, Any], shown: Callable[[], Shown], force: bool, yes: bool, wait_s: float
) -> int:
    """Show the plan, ask, and have it carried out."""
    if document.get("steps") and not yes:
        if session.output is Output.TABLE:
            show(shown())
        confirmed("Carry this plan out?", yes, "pvc cluster apply")
    session.going_on = f"the plan may have reached the cluster, see `{SHOWN_BY}`"
    outcome = session.api.post("cluster", "plan", body={"plan": document, "force": force}).document
    return _conclude(session, outcome, wait_s)


def _read(file: str) -> dict[str, Any]:
    """The plan in a file, as far as it can be told here; the API looks at the rest. Raises `InvalidInput`."""
    import json

    text = read_text(file, "the plan", MAX_PLAN_BYTES)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput("file", f"is not JSON: {error}", file) from error
    if not isinstance(document, dict) or "steps" not in document or "basis" not in document:
        raise InvalidInput("file", "is not a plan; `--plan -o json` writes one", file)
    return document


def _conclude(session: Session, outcome: dict[str, Any], wait_s: float) -> int:
    """Print what came of it, after waiting when that was wanted."""
    shown_by = f"pvc node info {outcome['node']['name']}" if outcome["node"] else SHOWN_BY
    if outcome["watch"] and wait_s:
        outcome = {**outcome, **_followed(session, outcome["watch"], wait_s, shown_by), "watch": ""}
        outcome.pop("settled")
    emit(session.output, outcome, lambda: _outcome_shown(outcome, bool(wait_s)), lambda: [])
    if outcome["watch"]:
        note(f"it goes on, see `{shown_by}`")
    if not wait_s or outcome["watch"]:
        return DONE
    if outcome["node"]:
        drain = outcome["node"]["drain"]
        return VMS_STAYED if drain and drain["stayed"] else DONE
    return _status(outcome["plan"]) if outcome["plan"] else DONE


def _followed(session: Session, watch: str, wait_s: float, shown_by: str = SHOWN_BY) -> dict[str, Any]:
    found: dict[str, Any] = follow(session, watch, "the plan to be carried out", shown_by, wait_s, _describe)
    return found


def _describe(document: dict[str, Any]) -> tuple[str, str]:
    """How far it is, and without the percentages, which are no news of their own."""
    if document.get("node"):
        node = document["node"]
        line = f"{node['name']} is {node['mode']}"
        return line, line
    found: PlanProgress = document["plan"]
    moving = [step for step in found["steps"] if step["state"] == "under-way"]
    line = f"{found['reason']}: " if moving else found["reason"]
    return line + ", ".join(map(_with_percent, moving)), line + ", ".join(f"{s['vm']} -> {s['to']}" for s in moving)


def _with_percent(step: PlanProgressStep) -> str:
    percent = "" if step["progress_pct"] is None else f" {step['progress_pct']}%"
    return f"{step['vm']} -> {step['to']}{percent}"


def _outcome_shown(outcome: dict[str, Any], waited: bool) -> Shown:
    if waited and outcome["plan"]:
        return _shown(outcome["plan"])
    if outcome["node"]:
        return f"{outcome['node']['name']} is {outcome['node']['mode']}: {outcome['reason']}"
    return str(outcome["reason"])


def _shown(found: PlanProgress) -> Shown:
    """What it has come to, then step by step, then the VMs it never had a place for."""
    what = f"{found['kind']} of {found['subject']}" if found["subject"] else found["kind"]
    over = f"ended {found['finished_at']}" if found["finished_at"] else "goes on"
    steps = Table(("step", "vm", "from", "to", "state", "after", "note"), right=("step",), folding=("note",))
    for number, step in enumerate(found["steps"], start=1):
        after = ",".join(str(index + 1) for index in step["after"]) or NOTHING
        percent = "" if step["progress_pct"] is None else f" {step['progress_pct']}%"
        state = Cell(f"{step['state']}{percent}", MOOD_OF_STEP.get(step["state"], ""))
        steps.add(str(number), step["vm"], step["from"], step["to"], state, after, step["note"] or step["reason"])
    left = [f"  {vm['vm']} had no place: {vm['reason']}" for vm in found["left"]]
    return [f"{what}, begun {found['started_at']}, {over}: {found['reason']}", "", steps, *left]


def _status(found: PlanProgress) -> int:
    """The exit status that tells a script whether all of it was done."""
    complete = found["done"] == found["total"] and not found["left"]
    return VMS_STAYED if found["finished_at"] and not complete else DONE
