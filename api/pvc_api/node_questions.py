# SPDX-License-Identifier: Apache-2.0
"""node_questions: what only one host can say is asked of its daemon by way of the store, and waited for: not for ever.

The question is a task that goes with this process's session, if it has not been withdrawn before. So nothing of it
stays in the store, whoever dies meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from pvc_api.services import Services
from pvc_api.waiting import SLICE_S
from pvc_core import layout
from pvc_core.codec import decode
from pvc_core.errors import DeadlineExceeded, Refused, StoreUnavailable
from pvc_core.ports import Entry
from pvc_core.task_entries import NodeTask
from pvc_core.task_records import ENDED, TaskRecord, TaskState


class _Heard:
    """What the store has last said of a key. Called on the store's threads, waited for on another."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self._news = threading.Event()

    def __call__(self, entry: Entry | None) -> None:
        self.entry = entry
        self._news.set()

    def wait(self, seconds: float) -> None:
        self._news.wait(seconds)
        self._news.clear()


def ask_node(services: Services, task: NodeTask, plugin: str, timeout_s: float) -> Mapping[str, Any]:
    """What the node answers. Raises `NotFound`, `InvalidInput`, `Refused` (its "no", or its daemon is not there),
    `DeadlineExceeded`."""
    given = services.commands.give_question(task, plugin)
    heard = _Heard()
    try:
        subscription = services.store.watch(layout.task(given.id), heard)
        try:
            return _answer(services, task, heard, timeout_s)
        finally:
            subscription.cancel()
    finally:
        services.commands.withdraw_question(given.id)


def _answer(services: Services, task: NodeTask, heard: _Heard, timeout_s: float) -> Mapping[str, Any]:
    deadline_s = services.clock.monotonic_s() + timeout_s
    while True:
        entry = heard.entry
        if entry is None:
            raise StoreUnavailable(f"the session in which {task.node} was asked has ended")
        record = decode(entry, TaskRecord).value
        if record.state is TaskState.DONE:
            return record.result
        if record.state in ENDED:
            raise Refused(task.node, record.reason)
        node = services.view.snapshot().node(task.node)
        if node.member is None:
            raise Refused(task.node, f"its daemon is {node.liveness}, and nothing else could say this")
        left_s = deadline_s - services.clock.monotonic_s()
        if left_s <= 0 or services.waiter.is_stopping:
            begun = "" if record.state is TaskState.RUNNING else ", which it has not begun"
            raise DeadlineExceeded(f"{task.node} to {task.title}{begun}", round(timeout_s - max(left_s, 0.0), 1))
        heard.wait(min(left_s, SLICE_S))
