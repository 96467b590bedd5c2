# SPDX-License-Identifier: Apache-2.0
"""housekeeping: what the leader tidies up beside its decisions: events and ended tasks beyond those that are kept."""

from __future__ import annotations

import structlog

from pvc_core.errors import Conflict
from pvc_core.event_log import EventLog
from pvc_core.ports import Clock, ClusterStore
from pvc_core.task_commands import forget_tasks

log = structlog.get_logger(__name__)

TRIM_EVERY_S = 20.0
TASKS_EVERY_S = 60.0


class Housekeeping:
    """Of one leader, while its epoch lasts."""

    def __init__(self, store: ClusterStore, epoch: int, clock: Clock) -> None:
        self._store = store
        self._events = EventLog(store)
        self._epoch = epoch
        self._clock = clock
        self._trimmed_at_s: float | None = None
        self._tasks_seen_at_s: float | None = None

    def forget_tasks(self) -> None:
        """Forget old tasks that have ended, if it is time to look. Raises `StoreUnavailable`."""
        now_s = self._clock.monotonic_s()
        if self._tasks_seen_at_s is not None and now_s < self._tasks_seen_at_s + TASKS_EVERY_S:
            return
        self._tasks_seen_at_s = now_s
        try:
            forgotten = forget_tasks(self._store, self._epoch)
        except Conflict as conflict:
            log.info("decision_outdated", do="forget_tasks", problem=conflict.sentence())
            return
        if forgotten:
            log.info("tasks_forgotten", count=forgotten)

    def trim_events(self, kept: int) -> None:
        """Forget old events, if it is time to look. Raises `StoreUnavailable`."""
        now_s = self._clock.monotonic_s()
        if self._trimmed_at_s is not None and now_s < self._trimmed_at_s + TRIM_EVERY_S:
            return
        self._trimmed_at_s = now_s
        try:
            forgotten = self._events.trim(kept, self._epoch)
        except Conflict as conflict:
            log.info("decision_outdated", do="trim_events", problem=conflict.sentence())
            return
        if forgotten:
            log.info("events_forgotten", count=forgotten, kept=kept)
