# SPDX-License-Identifier: Apache-2.0
"""task_records: what the store keeps of work that one host has to do: a task, and the open tasks of each node.

What may be read by anybody with a token stands in a task, so nothing secret does.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from pvc_core.layout import SCHEMA_VERSION


class TaskState(enum.StrEnum):
    """WAITING: for its node. DONE, FAILED and CANCELLED are for good."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED})


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One task of one node.

    kind: the `NodeTaskEntry` that carries it out. title: what it does, for people. done, total, sentence: how far it
    is; a total of 0 is unknown. reason: why it is in its state. incarnation: which run of the node's daemon has begun
    it. cancelling: it is asked to end, and does so when it next reports. question: it changes nothing, so no event
    tells of it, and its record goes with the session of whoever asks.
    """

    schema: int = SCHEMA_VERSION
    id: str
    node: str
    kind: str
    title: str
    parameters: dict[str, Any] = {}
    state: TaskState = TaskState.WAITING
    done: int = 0
    total: int = 0
    sentence: str = ""
    result: dict[str, Any] = {}
    reason: str = ""
    incarnation: str = ""
    cancelling: bool = False
    question: bool = False
    given_at: str = ""
    began_at: str = ""
    ended_at: str = ""


class TaskQueue(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a node's tasks that have not ended, in the order in which they were given."""

    schema: int = SCHEMA_VERSION
    tasks: tuple[str, ...] = ()


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the API shows it. settled: it has ended. watch: where to look how far it is."""

    id: str
    node: str
    kind: str
    title: str
    parameters: dict[str, Any]
    state: TaskState
    settled: bool
    done: int
    total: int
    sentence: str
    result: dict[str, Any]
    reason: str
    cancelling: bool
    given_at: str
    began_at: str
    ended_at: str
    watch: str


def view_of(task: TaskRecord) -> TaskView:
    """A task as it is shown."""
    shared = [name for name in TaskView.__struct_fields__ if name not in ("settled", "watch")]
    watch = f"/api/v1/task/{task.id}"
    return TaskView(**{name: getattr(task, name) for name in shared}, settled=task.state in ENDED, watch=watch)
