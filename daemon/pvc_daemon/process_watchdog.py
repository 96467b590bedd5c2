# SPDX-License-Identifier: Apache-2.0
"""process_watchdog: for labs and tests: a process of its own ends this "host" by a command unless it is fed.

It stands in for the kernel's watchdog where a host is only a group of processes. It outlives the daemon, however that
ends, and does not notice whether the daemon is stopped; but unlike a device it dies with the machine's memory, its
user can kill it, and its command takes its time. So it proves nothing about a real host.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from pvc_core.errors import WatchdogError

ANSWER_S = 5.0


class ProcessWatchdog:
    """The watchdog process of `name`, which is unique on this machine; `command` ends the host."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._address = f"\0pvc-watchdog/{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        self._command = tuple(command)
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def arm(self, timeout_s: float) -> float:
        """See `pvc_core.ports.Watchdog`."""
        try:
            if self._connection is None:
                self._connection = self._taken_over() or self._started()
            self._tell(f"arm {timeout_s} {os.getpid()}")
        except OSError as error:
            raise self._gone(error) from error
        return timeout_s

    def feed(self) -> None:
        """See `pvc_core.ports.Watchdog`."""
        if self._connection is None:
            raise WatchdogError("its process is not armed")
        try:
            self._tell("feed")
        except OSError as error:
            raise self._gone(error) from error

    def disarm(self) -> None:
        """See `pvc_core.ports.Watchdog`."""
        if self._connection is None:
            return
        try:
            self._tell("disarm")
            if self._process is not None:
                self._process.wait(ANSWER_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._gone(error) from error
        self._let_go()

    def _taken_over(self) -> socket.socket | None:
        """A connection to the process that an earlier life has left."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(self._address)
        except ConnectionRefusedError:
            connection.close()
            return None
        return connection

    def _started(self) -> socket.socket:
        """A connection to a new process. It inherits a socket that listens already, so that nothing is waited for."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self._address)
            listener.listen()
            argv = [sys.executable, "-m", "pvc_daemon.watchdog_process", str(listener.fileno()), *self._command]
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # whoever reads the daemon's is to see that it has ended
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        connection = self._taken_over()
        if connection is None:
            raise WatchdogError("its process ended at once")
        return connection

    def _tell(self, line: str) -> None:
        if self._connection is None:
            raise ConnectionError("its process is not connected")
        self._connection.sendall(f"{line}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            received = self._connection.recv(1000)
            if not received:
                raise ConnectionError("its process has ended")
            answer += received
        if answer != b"ok\n":
            raise WatchdogError(f"its process answers {answer.decode().strip()}")

    def _gone(self, error: Exception) -> WatchdogError:
        self._let_go()
        return WatchdogError(f"its process cannot be reached: {error or type(error).__name__}")

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._process = None
