# SPDX-License-Identifier: Apache-2.0
"""watchdog_process: the process behind `process_watchdog`: counts down, and if nobody feeds it, ends the host.

    python -m pvc_daemon.watchdog_process LISTENING-DESCRIPTOR COMMAND...

Lines that it takes, each answered by "ok" or by what is wrong: `arm SECONDS PID`, `feed`, `disarm`. When the time is
over, PID is killed and COMMAND is run. That a connection breaks means nothing to it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

UNARMED_S = 10.0
"""So long it waits for the first `arm`."""


class Countdown:
    """The timer, and the process that armed it last."""

    def __init__(self) -> None:
        self.timeout_s = UNARMED_S
        self.ends_at_s = time.monotonic() + UNARMED_S
        self.daemon: int | None = None
        self.is_over = False
        """Disarmed."""

    def take(self, line: str) -> str:
        """Do what a line says; the answer. Raises `ValueError` for a number that is none, `OSError` for such a PID."""
        match line.split():
            case ["arm", seconds, pid]:
                daemon = os.pidfd_open(int(pid))
                if self.daemon is not None:
                    os.close(self.daemon)
                self.daemon = daemon
                self.timeout_s = float(seconds)
            case ["feed"] if self.daemon is not None:
                pass
            case ["disarm"]:
                self.is_over = True
            case _:
                return f"cannot {line!r}"
        self.ends_at_s = time.monotonic() + self.timeout_s
        return "ok"

    def end_the_host(self, command: Sequence[str]) -> int:
        """The time is over: kill the daemon, run the command; its exit status."""
        if self.daemon is None:
            return 0
        with suppress(ProcessLookupError):  # it has died already
            signal.pidfd_send_signal(self.daemon, signal.SIGKILL)
        return subprocess.run(command, check=False).returncode


class Connections:
    """Everybody who says something to the countdown."""

    def __init__(self, listener: socket.socket, countdown: Countdown) -> None:
        self._listener = listener
        self._countdown = countdown
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._open: dict[int, socket.socket] = {}
        self._unread: dict[int, bytes] = {}

    def serve_until(self, ends_at_s: float) -> None:
        """Serve whoever says something next, or nobody until this time."""
        for descriptor, _ in self._poll.poll(max(0.0, ends_at_s - time.monotonic()) * 1000):
            if descriptor == self._listener.fileno():
                self._accept()
            else:
                self._read(descriptor)

    def close(self) -> None:
        """From here on another process may take the name."""
        for connection in (self._listener, *self._open.values()):
            connection.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._open[connection.fileno()] = connection
        self._unread[connection.fileno()] = b""
        self._poll.register(connection, select.POLLIN)

    def _read(self, descriptor: int) -> None:
        connection = self._open[descriptor]
        try:
            received = connection.recv(1000)
            *lines, self._unread[descriptor] = (self._unread[descriptor] + received).split(b"\n")
            for line in lines:
                connection.sendall(f"{self._answer(line.decode())}\n".encode())
        except OSError:  # whoever has died meanwhile needs no answer
            received = b""
        if not received:
            self._poll.unregister(connection)
            self._open.pop(descriptor).close()
            del self._unread[descriptor]

    def _answer(self, line: str) -> str:
        try:
            return self._countdown.take(line)
        except (ValueError, OSError) as error:
            return f"cannot {line!r}: {error}"


def main(argv: Sequence[str]) -> int:
    """Serve until disarmed or until the time is over."""
    descriptor, *command = argv
    countdown = Countdown()
    connections = Connections(socket.socket(fileno=int(descriptor)), countdown)
    while not countdown.is_over and time.monotonic() < countdown.ends_at_s:
        connections.serve_until(countdown.ends_at_s)
    connections.close()
    return 0 if countdown.is_over else countdown.end_the_host(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
