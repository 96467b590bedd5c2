# SPDX-License-Identifier: Apache-2.0
"""maintenance_runner: the leader's part that keeps the time of planned pauses: looks, decides and writes."""

from __future__ import annotations

from collections.abc import Callable

from pvc_core import maintenance
from pvc_core.cluster_view import ClusterView
from pvc_core.maintenance import MaintenanceAction, MaintenanceMemory
from pvc_core.ports import Clock

Write = Callable[[MaintenanceAction, ClusterView], bool]
"""Writes an action; False when it did not apply any more, or something else was faster."""


class MaintenanceRunner:
    """Of one leader, while its epoch lasts."""

    def __init__(self, clock: Clock, write: Write) -> None:
        self._clock = clock
        self._write = write
        self._memory = MaintenanceMemory()

    def run(self, view: ClusterView) -> float | None:
        """One round; after how many seconds there is something to do again, if nothing happens. None: never."""
        snapshot, now_s = view.snapshot(), self._clock.monotonic_s()
        self._memory = maintenance.look(self._memory, snapshot, now_s)
        actions, wake_at_s = maintenance.decide(snapshot, self._memory, now_s)
        for action in actions:
            if not self._write(action, view):
                return 0.0
            self._memory = maintenance.told(self._memory, action, now_s)
        if actions:
            return 0.0
        return None if wake_at_s is None else max(0.0, wake_at_s - self._clock.monotonic_s())
