# SPDX-License-Identifier: Apache-2.0
"""fake_watchdog: a watchdog in memory, on whatever clock: for tests and simulations.

`FakeTimer` is what belongs to the host and outlives a daemon, `FakeWatchdog` what one life of the daemon has of it.
"""

from __future__ import annotations

from pvc_core.errors import WatchdogError
from pvc_core.ports import Clock


class FakeTimer:
    """One host's. ends_at_s: when the host ends unless it is fed before; None: it is not armed.

    problem: what every call raises as long as it is set; the timer goes on.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.timeout_s = 0.0
        self.ends_at_s: float | None = None
        self.problem = ""

    def has_ended_the_host(self) -> bool:
        """Whether it is too late by now."""
        return self.ends_at_s is not None and self.clock.monotonic_s() >= self.ends_at_s


class FakeWatchdog:
    """The driver."""

    def __init__(self, timer: FakeTimer) -> None:
        self.timer = timer
        self.is_mine = False

    def arm(self, timeout_s: float) -> float:
        """See `pvc_core.ports.Watchdog`."""
        self._check()
        self.is_mine = True
        self.timer.timeout_s = timeout_s
        self._begin()
        return timeout_s

    def feed(self) -> None:
        """See `pvc_core.ports.Watchdog`."""
        self._check()
        if not self.is_mine:
            raise WatchdogError("it is not armed")
        self._begin()

    def disarm(self) -> None:
        """See `pvc_core.ports.Watchdog`."""
        self._check()
        if self.is_mine:
            self.is_mine = False
            self.timer.ends_at_s = None

    def _begin(self) -> None:
        if not self.timer.has_ended_the_host():  # nothing feeds a host that is off
            self.timer.ends_at_s = self.timer.clock.monotonic_s() + self.timer.timeout_s

    def _check(self) -> None:
        if self.timer.problem:
            raise WatchdogError(self.timer.problem)
