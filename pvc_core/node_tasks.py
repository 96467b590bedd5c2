# SPDX-License-Identifier: Apache-2.0
"""node_tasks: which of a node's tasks its daemon begins now, and which have died with an earlier life of it.

A task that is running says which life of the daemon has begun it. One that another life has begun is either begun
again, when its kind says that this does no harm, or has failed: nobody knows how far it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pvc_core.task_records import TaskRecord, TaskState

TASKS_AT_ONCE = 4
"""On one node."""
QUESTIONS_AT_ONCE = 2
"""Beside them: somebody waits for the answer, and tasks may take hours."""


@dataclass(frozen=True)
class BeginTask:
    """Carry it out. resumed: an earlier life of the daemon had begun it."""

    id: str
    reason: str
    resumed: bool = False


@dataclass(frozen=True)
class EndTask:
    """It cannot be carried out (any more)."""

    id: str
    state: TaskState
    reason: str


def decide(
    tasks: Sequence[TaskRecord],
    here: Mapping[str, bool],
    incarnation: str,
    resumable: Mapping[str, bool],
) -> list[BeginTask | EndTask]:
    """What to do about a node's open tasks, in the order in which they were given.

    here: ids of those that this life of the daemon, `incarnation`, carries out, each with whether it is a question; it
    may have been withdrawn. resumable: by kind, for the kinds that this node knows.
    """
    actions: list[BeginTask | EndTask] = []
    asked = sum(here.values())
    free = {False: TASKS_AT_ONCE - (len(here) - asked), True: QUESTIONS_AT_ONCE - asked}
    for task in tasks:
        if task.id in here:
            continue
        action = _about(task, incarnation, resumable)
        if isinstance(action, BeginTask):
            if free[task.question] <= 0:
                continue
            free[task.question] -= 1
        if action is not None:
            actions.append(action)
    return actions


def _about(task: TaskRecord, incarnation: str, resumable: Mapping[str, bool]) -> BeginTask | EndTask | None:
    if task.state not in (TaskState.WAITING, TaskState.RUNNING):
        return None
    if task.state is TaskState.WAITING:
        if task.kind not in resumable:
            return EndTask(task.id, TaskState.FAILED, f"no plugin on {task.node} carries out {task.kind}")
        return BeginTask(task.id, f"{task.node} has begun")
    if task.incarnation == incarnation:  # what said so was written, and its answer lost
        return BeginTask(task.id, f"{task.node} has begun")
    if task.cancelling:
        return EndTask(task.id, TaskState.CANCELLED, f"called off; the daemon of {task.node} ended meanwhile")
    if not resumable.get(task.kind, False):
        where = f" while it was at: {task.sentence}" if task.sentence else ""
        return EndTask(task.id, TaskState.FAILED, f"the daemon of {task.node} that carried it out has ended{where}")
    return BeginTask(task.id, f"begun again: the daemon of {task.node} that carried it out has ended", resumed=True)
