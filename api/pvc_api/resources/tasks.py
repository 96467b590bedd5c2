# SPDX-License-Identifier: Apache-2.0
"""tasks: /task and /task/{task}: what single hosts were given to do, how far it is, what became of it.

They are given by the resources of plugins. Reading costs requests to the store: tasks are not in the watched copy.
"""

from __future__ import annotations

import falcon

from pvc_api.decoding import Query
from pvc_api.documentation import documented
from pvc_api.services import Services
from pvc_api.views import Answer, BrokenRecordView
from pvc_core.task_records import TaskView


class TaskQuery(Query, frozen=True, kw_only=True):
    """Which tasks."""

    node: str = ""
    """Only those of this node."""


class TaskList(Answer, frozen=True, kw_only=True):
    """Tasks, oldest first; those that have ended are forgotten after some time."""

    tasks: tuple[TaskView, ...]
    broken: tuple[BrokenRecordView, ...]


class TaskOutcome(Answer, frozen=True, kw_only=True):
    """A task that was called off, and the sentence on what became of it."""

    task: TaskView
    reason: str


class TaskCollection:
    """/task"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Nodes", "viewer", {200: TaskList}, problems=(404,), query=TaskQuery)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the tasks of nodes: what only one host can do, given by plugins' resources."""
        found = self._commands.tasks(req.context.query.node)
        broken = tuple(BrokenRecordView(key=each.key, problem=each.problem) for each in found.broken)
        resp.media = TaskList(tasks=found.tasks, broken=broken)


class TaskResource:
    """/task/{task}"""

    def __init__(self, services: Services) -> None:
        self._commands = services.commands

    @documented("Nodes", "viewer", {200: TaskView}, problems=(404, 409))
    def on_get(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        """Show a task: how far it is, or its result, or why it has failed. `settled`: it has ended."""
        resp.media = self._commands.task(task)

    @documented("Nodes", "operator", {200: TaskOutcome}, problems=(404, 409))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, task: str) -> None:
        """Call a task off. One that runs ends when it next says how far it is; what it has done stays done."""
        view, reason = self._commands.cancel_task(task)
        req.context.outcome = reason
        resp.media = TaskOutcome(task=view, reason=reason)
