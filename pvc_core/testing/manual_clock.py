# SPDX-License-Identifier: Apache-2.0
"""manual_clock: a clock that stands still until a test moves it, so that waiting costs no time and no luck."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Implements `pvc_core.ports.Clock`: starts at 1000 s, on the first of January 2026. Thread-safe."""

    def __init__(self, monotonic_s: float = 1000.0) -> None:
        self._lock = threading.Lock()
        self._started_s = monotonic_s
        self._now_s = monotonic_s

    def monotonic_s(self) -> float:
        """Seconds, as far as the test has moved them."""
        with self._lock:
            return self._now_s

    def utc_iso(self) -> str:
        """The wall clock, which moves along."""
        return self._wall_clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def utc_ms(self) -> int:
        """The same in milliseconds since 1970."""
        return int(self._wall_clock().timestamp() * 1000)

    def _wall_clock(self) -> datetime:
        return MIDNIGHT + timedelta(seconds=self.monotonic_s() - self._started_s)

    def advance(self, seconds: float) -> float:
        """Let time pass; the monotonic time now. Raises `ValueError` for a step back: no monotonic clock does that."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back by {-seconds} s")
        with self._lock:
            self._now_s += seconds
            return self._now_s
