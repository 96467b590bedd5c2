# SPDX-License-Identifier: Apache-2.0
"""A plugin with tasks that do as a test tells them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pvc_core import NodeTaskEntry, TaskReport, TaskRequest, hookimpl
from pvc_core.errors import Refused

DEADLINE_S = 60.0


class TaskPlugin:
    """`work` reports and waits until it is let go; `again` may be begun again; others end at once, somehow."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.requests: list[TaskRequest] = []

    @hookimpl
    def pvc_node_tasks(self) -> Sequence[NodeTaskEntry]:
        return [
            NodeTaskEntry("work", "works until it is let go", self.work),
            NodeTaskEntry("again", "the same, and may be begun again", self.work, resumable=True),
            NodeTaskEntry("refuse", "refuses", self.refuse),
            NodeTaskEntry("crash", "crashes", self.crash),
            NodeTaskEntry("nonsense", "answers nonsense", lambda request, report: {"x": object()}),
        ]

    def work(self, request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
        self.requests.append(request)
        while not self.go.wait(0.01):
            report(3, 10, "wiping sector 3")
        return {"wiped": request.parameters["device"]}

    def refuse(self, request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
        raise Refused("sdb", "it is in use")

    def crash(self, request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
        raise SystemExit("no more")
