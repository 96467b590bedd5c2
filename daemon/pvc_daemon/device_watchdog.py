# SPDX-License-Identifier: Apache-2.0
"""device_watchdog: the kernel's watchdog device resets this host unless it is fed.

The interface is that of Linux's `Documentation/watchdog/watchdog-api.rst`: opening the device starts the timer, every
write feeds it, and closing it stops the timer only if the last thing written was the letter V. A device that stops
whenever it is closed would be stopped by the very crash that it is there for, and one that never stops would reset a
host on which all VMs were moved away; both are refused.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pvc_core.errors import WatchdogError

GET_SUPPORT = 0x80285700
SET_TIMEOUT = 0xC0045706
GET_TIMEOUT = 0x80045707
STOPS_ONLY_WHEN_TOLD = 0x0100
"""WDIOF_MAGICCLOSE among the options."""
_INFO = struct.Struct("@II32s")
_INT = struct.Struct("@i")
FOOD = b"\0"
FAREWELL = b"V"
CLASS = Path("/sys/class/watchdog")


class Kernel(Protocol):
    """The system calls that the driver makes. All raise `OSError`."""

    def open(self, path: str) -> int: ...
    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes: ...
    def write(self, descriptor: int, data: bytes) -> None: ...
    def close(self, descriptor: int) -> None: ...
    def never_stops(self, path: str) -> bool:
        """The device's `nowayout`: once started, it cannot be stopped."""


class LinuxKernel:
    """The real ones."""

    def open(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        return fcntl.ioctl(descriptor, request, argument)

    def write(self, descriptor: int, data: bytes) -> None:
        os.write(descriptor, data)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def never_stops(self, path: str) -> bool:
        name = Path(path).resolve().name
        attribute = CLASS / ("watchdog0" if name == "watchdog" else name) / "nowayout"
        return attribute.exists() and attribute.read_text().strip() == "1"


class DeviceWatchdog:
    """The watchdog device at `path`."""

    def __init__(self, path: str, kernel: Kernel | None = None) -> None:
        self._path = path
        self._kernel = kernel or LinuxKernel()
        self._descriptor: int | None = None

    def arm(self, timeout_s: float) -> float:
        """See `pvc_core.ports.Watchdog`."""
        was_armed = self._descriptor is not None
        try:
            return self._armed(timeout_s)
        except (OSError, WatchdogError) as error:
            if not was_armed:  # opening the device has started its timer
                self.disarm()
            if isinstance(error, OSError):
                self._let_go()
                raise self._problem(error) from error
            raise

    def feed(self) -> None:
        """See `pvc_core.ports.Watchdog`."""
        if self._descriptor is None:
            raise WatchdogError(f"{self._path} is not armed")
        try:
            self._kernel.write(self._descriptor, FOOD)
        except OSError as error:
            raise self._problem(error) from error

    def disarm(self) -> None:
        """See `pvc_core.ports.Watchdog`."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            self._stop(descriptor)
        except OSError as error:
            raise self._problem(error) from error

    def _armed(self, timeout_s: float) -> float:
        if self._descriptor is None:
            if self._kernel.never_stops(self._path):
                raise WatchdogError(f"{self._path} could never be disarmed: load its module without nowayout")
            self._descriptor = self._kernel.open(self._path)
        options, _, name = _INFO.unpack(self._kernel.ioctl(self._descriptor, GET_SUPPORT, bytes(_INFO.size)))
        if not options & STOPS_ONLY_WHEN_TOLD:
            known_as = name.rstrip(b"\0").decode("ascii", "replace")
            raise WatchdogError(f"{self._path} ({known_as}) stops when its process dies, and so proves nothing")
        armed_s = self._set_timeout(self._descriptor, math.ceil(timeout_s))
        if armed_s < timeout_s:
            raise WatchdogError(f"{self._path} waits for {armed_s} s and no longer: configure no more than that")
        self._kernel.write(self._descriptor, FOOD)
        return float(armed_s)

    def _set_timeout(self, descriptor: int, seconds: int) -> int:
        """What the device makes of it; some have a time of their own."""
        try:
            self._kernel.ioctl(descriptor, SET_TIMEOUT, _INT.pack(seconds))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
                raise
        (armed_s,) = _INT.unpack(self._kernel.ioctl(descriptor, GET_TIMEOUT, _INT.pack(0)))
        return int(armed_s)

    def _let_go(self) -> None:
        """Close the device without a farewell, to open it anew the next time; its timer goes on."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # it has failed already, which is told
                self._kernel.close(descriptor)

    def _stop(self, descriptor: int) -> None:
        try:
            self._kernel.write(descriptor, FAREWELL)
        finally:
            self._kernel.close(descriptor)

    def _problem(self, error: OSError) -> WatchdogError:
        in_use = "; another program, such as systemd, uses it" if error.errno == errno.EBUSY else ""
        return WatchdogError(f"{self._path}: {error.strerror}{in_use}")
