# SPDX-License-Identifier: Apache-2.0
"""The suite for watchdogs: the fake passes it, and every driver that breaks a rule is caught."""

from __future__ import annotations

from typing import Any

import pytest

from kit.suite_proof import assert_every_rule_can_fail, assert_keeps_all, verdicts
from pvc_core.ports import Watchdog
from pvc_core.testing.fake_watchdog import FakeTimer, FakeWatchdog
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.watchdog_suite import WatchdogSuite


class Bench:
    """A host on a clock that is moved by hand."""

    timeout_s = 10.0

    def __init__(self, driver: type[FakeWatchdog]) -> None:
        self._driver = driver
        self._clock = ManualClock()
        self._timer = FakeTimer(self._clock)

    def watchdog(self) -> FakeWatchdog:
        return self._driver(self._timer)

    def kill(self, watchdog: Watchdog) -> None:
        if isinstance(watchdog, StopsWithItsProcess):
            watchdog.timer.ends_at_s = None

    def lives_for(self, seconds: float) -> bool:
        self._clock.advance(seconds)
        return not self._timer.has_ended_the_host()

    def ends_within(self, seconds: float) -> bool:
        return not self.lives_for(seconds)

    def close(self) -> None: ...


class Idle(FakeWatchdog):
    """Says that it is armed and is not."""

    def arm(self, timeout_s: float) -> float:
        self.is_mine = True
        return timeout_s


class Hasty(FakeWatchdog):
    """Ends the host sooner than it says."""

    def arm(self, timeout_s: float) -> float:
        super().arm(timeout_s / 4)
        return timeout_s


class Rounding(FakeWatchdog):
    """Rounds down, and says so."""

    def arm(self, timeout_s: float) -> float:
        return super().arm(timeout_s - 1)


class Late(FakeWatchdog):
    """Rounds up, and does not say so."""

    def arm(self, timeout_s: float) -> float:
        super().arm(timeout_s + 1)
        return timeout_s


class Fasting(FakeWatchdog):
    """Eats nothing."""

    def feed(self) -> None:
        self._check()


class Sated(FakeWatchdog):
    """Is never hungry again after the first food."""

    def feed(self) -> None:
        super().feed()
        self.timer.ends_at_s = None


class Stubborn(FakeWatchdog):
    """Cannot be stopped, as with nowayout."""

    def disarm(self) -> None:
        self.is_mine = False


class Tired(FakeWatchdog):
    """Works once."""

    is_used = False

    def arm(self, timeout_s: float) -> float:
        told_s = super().arm(timeout_s)
        if self.is_used:
            self.timer.ends_at_s = None
        return told_s

    def disarm(self) -> None:
        super().disarm()
        self.is_used = True


class Deaf(FakeWatchdog):
    """Keeps the first time for ever."""

    def arm(self, timeout_s: float) -> float:
        return timeout_s if self.is_mine else super().arm(timeout_s)


class StopsWithItsProcess(FakeWatchdog):
    """A device that is stopped by being closed."""


class Jealous(FakeWatchdog):
    """Stops only what it has started itself."""

    def arm(self, timeout_s: float) -> float:
        is_new = self.timer.ends_at_s is None
        told_s = super().arm(timeout_s)
        self.is_mine = is_new
        return told_s

    def feed(self) -> None:
        self._check()


class Polite(FakeWatchdog):
    """Takes food for nothing."""

    def feed(self) -> None:
        if self.is_mine:
            super().feed()


BROKEN: list[tuple[str, type[FakeWatchdog]]] = [
    ("test_a_host_that_is_not_fed_ends_in_the_time_that_was_told", Idle),
    ("test_a_host_that_is_not_fed_ends_in_the_time_that_was_told", Rounding),
    ("test_a_host_that_is_not_fed_ends_in_the_time_that_was_told", Late),
    ("test_it_does_not_end_before", Hasty),
    ("test_a_host_that_is_fed_lives", Fasting),
    ("test_food_lasts_once", Sated),
    ("test_a_host_that_is_disarmed_lives", Stubborn),
    ("test_it_can_be_armed_again_after_that", Tired),
    ("test_arming_again_begins_the_time_anew_with_the_new_length", Deaf),
    ("test_the_death_of_the_process_does_not_stop_it", StopsWithItsProcess),
    ("test_the_next_life_takes_it_over_and_can_stop_it", Jealous),
    ("test_food_for_one_that_is_not_armed_is_refused", Polite),
]


def suite_for(driver: type[FakeWatchdog]) -> type[Any]:
    return type("Suite", (WatchdogSuite,), {"bench": lambda self: Bench(driver)})


def test_the_fake_watchdog_passes() -> None:
    assert_keeps_all(suite_for(FakeWatchdog))


@pytest.mark.parametrize(("rule", "driver"), BROKEN, ids=[driver.__name__ for _, driver in BROKEN])
def test_the_suite_catches_a_broken_watchdog(rule: str, driver: type[FakeWatchdog]) -> None:
    assert verdicts(suite_for(driver), rule)[rule] not in ("kept", "skipped")


def test_every_rule_for_watchdogs_can_fail() -> None:
    assert_every_rule_can_fail(WatchdogSuite, [rule for rule, _ in BROKEN])
