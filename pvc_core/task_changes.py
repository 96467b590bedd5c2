# SPDX-License-Identifier: Apache-2.0
"""task_changes: how a task is given, begun and ended: in one transaction with its node's queue and its event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode, encode
from pvc_core.errors import Refused
from pvc_core.events import EventKind, Happening
from pvc_core.ports import ClusterStore, Create, Delete, Op, Set
from pvc_core.task_records import TaskQueue, TaskRecord, TaskState

MAX_OPEN = 100
"""Tasks of one node that have not ended; more are not given to it."""
_KINDS = {
    TaskState.DONE: EventKind.TASK_DONE,
    TaskState.FAILED: EventKind.TASK_FAILED,
    TaskState.CANCELLED: EventKind.TASK_CANCELLED,
}


def read_queue(store: ClusterStore, node: str) -> Stored[TaskQueue] | None:
    """The open tasks of a node; None before the first. Raises `BrokenRecord`."""
    entry = store.get(layout.task_queue(node))
    return decode(entry, TaskQueue) if entry else None


def give(task: TaskRecord, queue: Stored[TaskQueue] | None) -> Change:
    """A new task for its node. Raises `Refused` when too many wait there."""
    waiting = queue.value.tasks if queue else ()
    if len(waiting) >= MAX_OPEN:
        raise Refused(task.node, f"{len(waiting)} tasks have not ended there; wait, or cancel some")
    ops: tuple[Op, ...] = (
        Create(layout.task(task.id), encode(task), ephemeral=task.question),
        _queue_op(task.node, queue, (*waiting, task.id)),
    )
    return Change(ops, task.reason, happenings=_happenings(EventKind.TASK_GIVEN, task))


def begin(stored: Stored[TaskRecord], incarnation: str, reason: str, now: str) -> Set:
    """The record of a task that this life of the node's daemon carries out from now on."""
    begun = msgspec.structs.replace(
        stored.value, state=TaskState.RUNNING, incarnation=incarnation, reason=reason, began_at=now
    )
    return Set(stored.key, encode(begun, stored.data), stored.version)


def end(
    stored: Stored[TaskRecord],
    queue: Stored[TaskQueue] | None,
    state: TaskState,
    reason: str,
    now: str,
    result: Mapping[str, Any] | None = None,
    **progress: Any,
) -> Change:
    """A task that is over. progress: fields of it that have changed since."""
    ended = msgspec.structs.replace(
        stored.value, state=state, reason=reason, result=dict(result or {}), ended_at=now, **progress
    )
    ops: tuple[Op, ...] = (Set(stored.key, encode(ended, stored.data), stored.version),)
    if queue is not None and ended.id in queue.value.tasks:
        ops = (*ops, *unqueue(queue, [ended.id]).ops)
    return Change(ops, reason, happenings=_happenings(_KINDS[state], ended))


def call_off(stored: Stored[TaskRecord], queue: Stored[TaskQueue] | None, now: str, is_there: bool) -> Change:
    """A task that has not begun is over; one that runs is asked to end. Raises `Refused` for one that has ended.

    is_there: its node's daemon is; without it nobody could be asked, and what it did there nobody can say.
    """
    task = stored.value
    if task.state is TaskState.WAITING:
        return end(stored, queue, TaskState.CANCELLED, "called off before it began", now)
    if task.state is not TaskState.RUNNING:
        raise Refused(task.id, f"it is over: {task.state}")
    if not is_there:
        reason = f"called off while the daemon of {task.node} was away; how far it came is not known"
        return end(stored, queue, TaskState.CANCELLED, reason, now)
    if task.cancelling:
        return Change((), f"{task.title}: it is asked to end already")
    asked = msgspec.structs.replace(task, cancelling=True)
    ops: tuple[Op, ...] = (Set(stored.key, encode(asked, stored.data), stored.version),)
    if queue is not None:  # which its node watches
        ops = (*ops, _queue_op(task.node, queue, queue.value.tasks))
    reason = f"{task.title}: it is asked to end"
    happenings = () if task.question else (Happening(EventKind.TASK_CANCELLED, reason, node=task.node),)
    return Change(ops, reason, happenings=happenings)


def withdraw(stored: Stored[TaskRecord], queue: Stored[TaskQueue] | None) -> Change:
    """A question that nobody waits for any more: nothing of it stays."""
    task = stored.value
    ops: tuple[Op, ...] = (Delete(stored.key, stored.version),)
    if queue is not None and task.id in queue.value.tasks:
        ops = (*ops, *unqueue(queue, [task.id]).ops)
    return Change(ops, f"{task.title}: nobody waits for it any more", happenings=())


def unqueue(queue: Stored[TaskQueue], gone: Collection[str]) -> Change:
    """These have no record any more: whoever asked them has gone without a word."""
    left = tuple(each for each in queue.value.tasks if each not in gone)
    node = layout.name_in(queue.key)
    return Change((_queue_op(node, queue, left),), f"{node}: {len(gone)} tasks are gone", happenings=())


def _queue_op(node: str, queue: Stored[TaskQueue] | None, tasks: tuple[str, ...]) -> Op:
    if queue is None:
        return Create(layout.task_queue(node), encode(TaskQueue(tasks=tasks)))
    return Set(queue.key, encode(msgspec.structs.replace(queue.value, tasks=tasks), queue.data), queue.version)


def _happenings(kind: EventKind, task: TaskRecord) -> tuple[Happening, ...]:
    """What its event says. A question has none: it changes nothing, and would drive out what does."""
    return () if task.question else (Happening(kind, f"{task.title} ({task.kind}): {task.reason}", node=task.node),)
