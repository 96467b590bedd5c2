# SPDX-License-Identifier: Apache-2.0
"""node_with_tasks: a node with nothing but its tasks, in several lives of its daemon; and somebody gives them to it."""

from __future__ import annotations

from collections.abc import Callable

from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.event_log import EventLog
from pvc_core.journal import Journal
from pvc_core.plugin_types import NO_OPTIONS
from pvc_core.ports import ClusterStore, Create
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.task_entries import NodeTask
from pvc_core.task_records import TaskView
from pvc_core.testing.builders import a_node
from pvc_daemon.task_runner import TaskRunner
from pvc_lab.waiting import wait_for
from task_plugin import TaskPlugin

DEADLINE_S = 60.0


class Node:
    """hv1 with nothing but its tasks, and somebody who gives them to it."""

    def __init__(self, store: ClusterStore) -> None:
        self.store = store
        self.plugin = TaskPlugin()
        self.may_act = True
        self.asked = 0
        registry, clock = Registry.of(acme=self.plugin), SystemClock()
        self.entries = registry.node_tasks
        node = a_node("hv1")
        assert node.member is not None
        store.transaction(
            [
                Create(node.record.key, encode(node.record.value)),
                Create(node.member.key, encode(node.member.value), ephemeral=True),
            ]
        )
        self.view = ClusterView(store, clock, Journal(clock, lambda: "api:ci"))
        self.view.start()
        self.commands = Commands(self.view, store, registry, clock)
        self.runners: list[TaskRunner] = []

    def life(self) -> TaskRunner:
        """A life of its daemon."""
        journal = Journal(SystemClock(), lambda: "agent:hv1")
        runner = TaskRunner(
            "hv1",
            self.store,
            self.entries,
            lambda plugin: NO_OPTIONS,
            SystemClock(),
            self._ask,
            journal,
            SYSTEM_THREADS,
        )
        runner.start()
        self.runners.append(runner)
        return runner

    def _ask(self) -> bool:
        self.asked += 1
        return self.may_act

    def die(self) -> None:
        """As a process does: what runs is not heard of any more."""
        self.may_act = False
        self.runners[-1].close()
        self.may_act = True

    def give(self, kind: str = "work", **parameters: object) -> str:
        given = self.commands.give_task(NodeTask("hv1", kind, "wipe sdb", {"device": "sdb", **parameters}), "acme")
        return given.id

    def wait(self, identity: str, holds: Callable[[TaskView], bool]) -> TaskView:
        wait_for(lambda: holds(self.commands.task(identity)), "the task to get there", deadline_s=DEADLINE_S)
        return self.commands.task(identity)

    def wait_for_state(self, identity: str, state: str) -> TaskView:
        return self.wait(identity, lambda task: task.state == state)

    def told(self) -> list[tuple[str, str]]:
        return [(event.kind, event.by) for event in EventLog(self.store).last(100).events]

    def close(self) -> None:
        self.plugin.go.set()
        for runner in self.runners:
            runner.close()
        self.view.close()
