# SPDX-License-Identifier: Apache-2.0
"""watchdog_suite: the rules every watchdog driver keeps, as tests that a driver's author inherits.

    from pvc_core.testing.watchdog_suite import WatchdogSuite

    class TestMyWatchdog(WatchdogSuite):
        def bench(self):
            return MyBench()  # see WatchdogBench

A watchdog that ends too early costs a host; one that ends too late, or not at all, lets a guest run on two nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest

from pvc_core.errors import WatchdogError
from pvc_core.ports import Watchdog


class WatchdogBench(Protocol):
    """A host that its watchdog may end, or a simulation of one. It is on."""

    timeout_s: float
    """A time that is worth a test: as short as can be measured."""

    def watchdog(self) -> Watchdog:
        """The driver as the next life of the host's daemon makes it."""

    def kill(self, watchdog: Watchdog) -> None:
        """End the process that uses this driver in the hardest way; the host itself lives on."""

    def lives_for(self, seconds: float) -> bool:
        """Let so much time pass; whether the host is still on then."""

    def ends_within(self, seconds: float) -> bool:
        """Whether the host is off in so much time at the latest, allowing for what the bench itself takes."""

    def close(self) -> None:
        """End everything that is left."""


class WatchdogSuite:
    """All rules of `pvc_core.ports.Watchdog`. A subclass has `bench`."""

    def bench(self) -> WatchdogBench:
        """A new host."""
        raise NotImplementedError("a suite for watchdogs needs a bench")

    @contextmanager
    def host(self) -> Iterator[WatchdogBench]:
        """One for a rule."""
        bench = self.bench()
        try:
            yield bench
        finally:
            bench.close()

    def test_a_host_that_is_not_fed_ends_in_the_time_that_was_told(self) -> None:
        with self.host() as host:
            told_s = host.watchdog().arm(host.timeout_s)
            assert told_s >= host.timeout_s, "sooner than was asked for"
            assert host.ends_within(told_s)

    def test_it_does_not_end_before(self) -> None:
        with self.host() as host:
            host.watchdog().arm(host.timeout_s)
            assert host.lives_for(host.timeout_s / 2)

    def test_a_host_that_is_fed_lives(self) -> None:
        with self.host() as host:
            watchdog = host.watchdog()
            watchdog.arm(host.timeout_s)
            for _ in range(4):
                assert host.lives_for(host.timeout_s / 2)
                watchdog.feed()

    def test_food_lasts_once(self) -> None:
        with self.host() as host:
            watchdog = host.watchdog()
            told_s = watchdog.arm(host.timeout_s)
            assert host.lives_for(host.timeout_s / 2)
            watchdog.feed()
            assert host.ends_within(told_s), "it is not armed any more"

    def test_a_host_that_is_disarmed_lives(self) -> None:
        with self.host() as host:
            watchdog = host.watchdog()
            told_s = watchdog.arm(host.timeout_s)
            watchdog.disarm()
            watchdog.disarm()
            assert host.lives_for(2 * told_s)

    def test_it_can_be_armed_again_after_that(self) -> None:
        with self.host() as host:
            watchdog = host.watchdog()
            watchdog.arm(host.timeout_s)
            watchdog.disarm()
            assert host.ends_within(watchdog.arm(host.timeout_s))

    def test_arming_again_begins_the_time_anew_with_the_new_length(self) -> None:
        with self.host() as host:
            watchdog = host.watchdog()
            watchdog.arm(host.timeout_s)
            watchdog.arm(4 * host.timeout_s)
            assert host.lives_for(2 * host.timeout_s)

    def test_the_death_of_the_process_does_not_stop_it(self) -> None:
        with self.host() as host:
            watchdog = host.watchdog()
            told_s = watchdog.arm(host.timeout_s)
            host.kill(watchdog)
            assert host.ends_within(told_s), "a daemon that crashes is not fenced"

    def test_the_next_life_takes_it_over_and_can_stop_it(self) -> None:
        with self.host() as host:
            first, second = host.watchdog(), host.watchdog()
            first.arm(4 * host.timeout_s)
            host.kill(first)
            told_s = second.arm(host.timeout_s)
            second.feed()
            second.disarm()
            assert host.lives_for(2 * told_s)

    def test_food_for_one_that_is_not_armed_is_refused(self) -> None:
        with self.host() as host:
            with pytest.raises(WatchdogError):
                host.watchdog().feed()
            watchdog = host.watchdog()
            watchdog.arm(host.timeout_s)
            watchdog.disarm()
            with pytest.raises(WatchdogError):
                watchdog.feed()
