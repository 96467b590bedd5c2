# SPDX-License-Identifier: Apache-2.0
"""task_commands: `pvc task`: what single nodes were given to do, how far it is, and what became of it."""

from __future__ import annotations

import click

from pvc_cli.output import emit, note
from pvc_cli.references import NodeReference
from pvc_cli.session import Session, output_option, pass_session
from pvc_cli.tables import Cell, Table, facts_table
from pvc_cli.task_following import TaskView, follow_task, progress_of
from pvc_cli.words import NOTHING

MOOD_OF_STATE = {"done": "good", "failed": "bad", "cancelled": "warning"}
TIMEOUT_S = 86_400


@click.group()
def task() -> None:
    """Tasks: what a single node was given to do, with progress."""


@task.command("list")
@click.option(
    "--node",
    metavar="NODE",
    default="",
    show_default=False,
    type=NodeReference(),
    help="Only those of this node.  [default: all]",
)
@click.option("--open", "only_open", is_flag=True, help="Only those that have not ended.")
@output_option
@pass_session
def list_(session: Session, node: str, only_open: bool) -> None:
    """List tasks, newest last; ended ones are forgotten some day."""
    document = session.api.request("GET", "task", parameters={"node": node} if node else None).document
    tasks: list[TaskView] = [one for one in document["tasks"] if not (only_open and one["settled"])]
    shown = {**document, "tasks": tasks}
    emit(session.output, shown, lambda: _table(tasks) if tasks else "no tasks", lambda: [one["id"] for one in tasks])
    for broken in document["broken"]:
        note(f"the record {broken['key']} does not parse: {broken['problem']}")


@task.command()
@click.argument("task_id", metavar="TASK")
@output_option
@pass_session
def info(session: Session, task_id: str) -> None:
    """Show TASK: how far it is, its result, or why it has failed."""
    view: TaskView = session.api.get("task", task_id)
    emit(session.output, view, lambda: facts_table(_facts(view)), lambda: [view["id"]])


@task.command()
@click.argument("task_id", metavar="TASK")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT_S,
    help="How long to wait at most; the task goes on after that.",
)
@output_option
@pass_session
def wait(session: Session, task_id: str, timeout_s: float) -> None:
    """Wait until TASK is done, and show its progress."""
    view = follow_task(session, session.api.get("task", task_id), timeout_s)
    emit(session.output, view, lambda: facts_table(_facts(view)), lambda: [view["id"]])


@task.command()
@click.argument("task_id", metavar="TASK")
@output_option
@pass_session
def cancel(session: Session, task_id: str) -> None:
    """Call TASK off; what it has done so far stays done.

    One that has not begun never does. One that runs ends when it next says how far it is.
    """
    outcome = session.api.request("DELETE", "task", task_id).document
    emit(session.output, outcome, lambda: str(outcome["reason"]), lambda: [task_id])


def _table(tasks: list[TaskView]) -> Table:
    table = Table(("id", "node", "state", "done", "title", "note"), folding=("title", "note"))
    for one in tasks:
        state = Cell(one["state"], MOOD_OF_STATE.get(one["state"], ""))
        table.add(one["id"], one["node"], state, progress_of(one) or NOTHING, one["title"], _note(one))
    return table


def _note(view: TaskView) -> str:
    """What it is at while it runs; else why it is as it is."""
    return (view["sentence"] if view["state"] == "running" else "") or view["reason"] or NOTHING


def _facts(view: TaskView) -> dict[str, str | Cell]:
    given = ", ".join(f"{name}={value}" for name, value in view["parameters"].items())
    result = ", ".join(f"{name}={value}" for name, value in view["result"].items())
    return {
        "id": view["id"],
        "title": view["title"],
        "node": view["node"],
        "kind": view["kind"],
        "parameters": given or NOTHING,
        "state": Cell(view["state"], MOOD_OF_STATE.get(view["state"], "")),
        "done": progress_of(view) or NOTHING,
        "at": view["sentence"] or NOTHING,
        "reason": view["reason"] or NOTHING,
        "result": result or NOTHING,
        "given": view["given_at"] or NOTHING,
        "began": view["began_at"] or NOTHING,
        "ended": view["ended_at"] or NOTHING,
    }
