# SPDX-License-Identifier: Apache-2.0
"""Events for tests of notifications, told to a plugin as a process tells them."""

from __future__ import annotations

import threading
from typing import Any

from pvc_core.errors import PluginError
from pvc_core.events import EventKind, Happening
from pvc_core.journal import Journal, Written
from pvc_core.model import Settings
from pvc_core.notifications import Notifier
from pvc_core.registry import Registry
from pvc_core.testing.manual_clock import ManualClock

PATIENCE_S = 20.0
LOST = Happening(EventKind.NODE_LOST, "its session ended 2 s ago", node="hv2")
READY = Happening(EventKind.NODE_READY, "by command", node="hv1")


class Told:
    """A plugin in a registry of its own, and what became of what it was told."""

    def __init__(self, name: str, plugin: Any, machine: dict[str, Any], cluster: dict[str, Any]) -> None:
        self.name = name
        self.plugin = plugin
        self.registry = Registry.of(sections={name: machine}, **{name: plugin})
        self.failures: list[PluginError] = []
        self._settings = Settings(plugins={name: cluster})
        self._journal = Journal(ManualClock(), lambda: "leader:hv1")
        self._notifier = Notifier(self.registry, lambda: self._settings, self.failures.append)

    def tell(self, *happenings: Happening) -> tuple[Written, ...]:
        """On this thread, so that it has been told when this returns."""
        assert self.registry.problems == ()
        written = self._journal.written(happenings)
        for each in written:
            self._notifier.tell(each)
        return written

    def failure(self) -> str:
        """What the plugin says was not delivered, at the next event."""
        self.plugin.outbox.close(PATIENCE_S)
        self.tell(READY)
        (failure,) = self.failures
        return failure.sentence()


class Arrivals:
    """What a receiver was given. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._all: list[Any] = []

    def add(self, arrival: Any) -> None:
        with self._changed:
            self._all.append(arrival)
            self._changed.notify_all()

    def wait(self, count: int = 1) -> list[Any]:
        """The first ones, once there are as many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._all) >= count, PATIENCE_S), f"only {self._all}"
            return list(self._all)

    def now(self) -> list[Any]:
        with self._changed:
            return list(self._all)
