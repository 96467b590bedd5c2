# SPDX-License-Identifier: Apache-2.0
"""housekeeping: what the leader tidies up beside its decisions: events beyond those that are to be kept."""

from __future__ import annotations

import structlog

from pvc_core.errors import Conflict
from pvc_core.event_log import EventLog
from pvc_core.ports import Clock

log = structlog.get_logger(__name__)

TRIM_EVERY_S = 20.0


class Housekeeping:
    """Of one leader, while its epoch lasts."""

    def __init__(self, events: EventLog, epoch: int, clock: Clock) -> None:
        self._events = events
        self._epoch = epoch
        self._clock = clock
        self._trimmed_at_s: float | None = None

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
