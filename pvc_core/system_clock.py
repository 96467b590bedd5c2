# SPDX-License-Identifier: Apache-2.0
"""system_clock: the machine's clock behind the `Clock` port."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Monotonic seconds and wall-clock time of this machine."""

    def monotonic_s(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def utc_iso(self) -> str:
        """Now, as 2026-01-31T12:00:00Z."""
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def utc_ms(self) -> int:
        """Now, in milliseconds since 1970."""
        return time.time_ns() // 1_000_000
