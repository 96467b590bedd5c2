# SPDX-License-Identifier: Apache-2.0
"""The driver for the kernel's watchdog device, on a kernel that is played by what its documentation says of it."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from pvc_core.errors import WatchdogError
from pvc_core.ports import Watchdog
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.watchdog_suite import WatchdogSuite
from pvc_daemon.device_watchdog import GET_SUPPORT, GET_TIMEOUT, SET_TIMEOUT, DeviceWatchdog, LinuxKernel

MAGIC_CLOSE, SETS_TIMEOUT, KEEPS_ALIVE = 0x0100, 0x0080, 0x8000


class PlayedKernel:
    """One device: opening starts its timer, writing feeds it, closing stops it if the last byte written was V."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.options = MAGIC_CLOSE | SETS_TIMEOUT | KEEPS_ALIVE
        self.nowayout = False
        self.timeout_s = 60
        self.fixed = False
        self.ends_at_s: float | None = None
        self.descriptor: int | None = None
        self._may_stop = False
        self.is_broken = False

    def open(self, path: str) -> int:
        if path != "/dev/watchdog":
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if self.descriptor is not None:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.descriptor = 7
        self._feed()
        return self.descriptor

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        self._check(descriptor)
        if request == GET_SUPPORT:
            return struct.pack("@II32s", self.options, 1, b"Played Watchdog")
        if request == SET_TIMEOUT:
            if self.fixed:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            (self.timeout_s,) = struct.unpack("@i", argument)
            self._feed()
            return argument
        assert request == GET_TIMEOUT
        return struct.pack("@i", self.timeout_s)

    def write(self, descriptor: int, data: bytes) -> None:
        self._check(descriptor)
        self._may_stop = b"V" in data
        self._feed()

    def close(self, descriptor: int) -> None:
        self.descriptor = None
        if not self.nowayout and (self._may_stop or not self.options & MAGIC_CLOSE):
            self.ends_at_s = None
        self._may_stop = False

    def never_stops(self, path: str) -> bool:
        return self.nowayout

    def is_off(self) -> bool:
        return self.ends_at_s is not None and self.clock.monotonic_s() >= self.ends_at_s

    def _feed(self) -> None:
        if not self.is_off():
            self.ends_at_s = self.clock.monotonic_s() + self.timeout_s

    def _check(self, descriptor: int) -> None:
        if self.is_broken:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if descriptor != self.descriptor:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class Bench:
    timeout_s = 10.0

    def __init__(self) -> None:
        self.kernel = PlayedKernel()

    def watchdog(self) -> DeviceWatchdog:
        return DeviceWatchdog("/dev/watchdog", self.kernel)

    def kill(self, watchdog: Watchdog) -> None:
        if self.kernel.descriptor is not None:
            self.kernel.close(self.kernel.descriptor)

    def lives_for(self, seconds: float) -> bool:
        self.kernel.clock.advance(seconds)
        return not self.kernel.is_off()

    def ends_within(self, seconds: float) -> bool:
        return not self.lives_for(seconds)

    def close(self) -> None: ...


class TestDeviceWatchdog(WatchdogSuite):
    def bench(self) -> Bench:
        return Bench()


@pytest.fixture
def kernel() -> PlayedKernel:
    return PlayedKernel()


@pytest.fixture
def watchdog(kernel: PlayedKernel) -> DeviceWatchdog:
    return DeviceWatchdog("/dev/watchdog", kernel)


def test_a_device_counts_whole_seconds_and_never_fewer_than_asked(
    watchdog: DeviceWatchdog, kernel: PlayedKernel
) -> None:
    assert watchdog.arm(7.2) == 8.0
    assert kernel.timeout_s == 8


def test_a_device_with_a_time_of_its_own_is_taken_with_that(watchdog: DeviceWatchdog, kernel: PlayedKernel) -> None:
    kernel.fixed = True
    assert watchdog.arm(10.0) == 60.0


def test_one_whose_own_time_is_too_short_is_left_disarmed(watchdog: DeviceWatchdog, kernel: PlayedKernel) -> None:
    kernel.fixed = True
    with pytest.raises(WatchdogError, match="waits for 60 s and no longer"):
        watchdog.arm(90.0)
    assert kernel.ends_at_s is None


def test_a_device_that_stops_with_its_process_is_refused_and_left_disarmed(
    watchdog: DeviceWatchdog, kernel: PlayedKernel
) -> None:
    kernel.options = SETS_TIMEOUT | KEEPS_ALIVE
    with pytest.raises(WatchdogError, match=r"\(Played Watchdog\) stops when its process dies"):
        watchdog.arm(10.0)
    assert kernel.ends_at_s is None


def test_a_device_that_could_never_be_disarmed_is_not_even_opened(
    watchdog: DeviceWatchdog, kernel: PlayedKernel
) -> None:
    kernel.nowayout = True
    with pytest.raises(WatchdogError, match="without nowayout"):
        watchdog.arm(10.0)
    assert kernel.ends_at_s is None


def test_a_device_that_another_program_has_is_named_with_the_likely_one(
    watchdog: DeviceWatchdog, kernel: PlayedKernel
) -> None:
    kernel.open("/dev/watchdog")
    with pytest.raises(WatchdogError, match="busy; another program, such as systemd, uses it"):
        watchdog.arm(10.0)


def test_a_device_that_fails_meanwhile_is_opened_anew_the_next_time(
    watchdog: DeviceWatchdog, kernel: PlayedKernel
) -> None:
    watchdog.arm(10.0)
    kernel.is_broken = True
    for use in (watchdog.feed, lambda: watchdog.arm(10.0)):
        with pytest.raises(WatchdogError, match="No such device"):
            use()
    assert kernel.ends_at_s is not None, "it was given up, not stopped"
    kernel.is_broken = False
    assert watchdog.arm(10.0) == 10.0


def test_a_device_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(WatchdogError, match="absent: No such file"):
        DeviceWatchdog(str(tmp_path / "absent")).arm(10.0)


def test_what_is_no_watchdog_is_refused_by_the_real_kernel(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(WatchdogError, match="file: "):
        DeviceWatchdog(str(file)).arm(10.0)
    assert not LinuxKernel().never_stops(str(file))
