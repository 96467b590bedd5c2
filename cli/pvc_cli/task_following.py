# SPDX-License-Identifier: Apache-2.0
"""task_following: a node's task until it has ended, with its progress; a failure is an error with the task's reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pvc_cli.following import follow
from pvc_cli.problems import EndedOtherwise

if TYPE_CHECKING:
    from pvc_cli.session import Session


class TaskView(TypedDict):
    """A task as the API shows it."""

    id: str
    node: str
    kind: str
    title: str
    parameters: dict[str, object]
    state: str
    settled: bool
    done: int
    total: int
    sentence: str
    result: dict[str, object]
    reason: str
    cancelling: bool
    given_at: str
    began_at: str
    ended_at: str
    watch: str


def follow_task(session: Session, task: TaskView, timeout_s: float) -> TaskView:
    """The task once it is done. Raises `WaitedTooLong`, and `EndedOtherwise` when it has failed or was called off."""
    shown_by = f"pvc task info {task['id']}"
    ended: TaskView = follow(
        session, task["watch"], f"{task['title']} on {task['node']}", shown_by, timeout_s, describe, is_held=False
    )
    if ended["state"] != "done":
        raise EndedOtherwise(f"{ended['title']} on {ended['node']}", "done", ended["state"], ended["reason"])
    return ended


def describe(task: TaskView) -> tuple[str, str]:
    """How far it is, for people; and what of it is news in a log."""
    how = progress_of(task)
    said = task["sentence"] or task["reason"]
    return f"{task['title']} on {task['node']}: {', '.join(filter(None, (how, said)))}", f"{task['state']} {said}"


def progress_of(task: TaskView) -> str:
    """Percent where the total is known, else how much; "" before it has said anything."""
    if task["total"] > 0:
        return f"{min(100, 100 * task['done'] // task['total'])}%"
    return str(task["done"]) if task["done"] else ""
