# SPDX-License-Identifier: Apache-2.0
"""A program on a lab host, handled from outside like a subprocess.Popen.

It is a child of the host's first process, not of ours, so its end reaches us as a message over the
connection on which it was asked for (see host_init). Signals go through a pidfd and cannot hit
another process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class HostProcessError(RuntimeError):
    """The program could not be started on the host."""


class HostProcess:
    """One program on a host. Dropping the handle leaves the program running."""

    def __init__(self, argv: Sequence[str], connection_fd: int, pidfd: int) -> None:
        self.args = tuple(argv)
        self.returncode: int | None = None
        self._connection_fd = connection_fd
        self._pidfd = pidfd
        self._pid = _pid_of(pidfd)
        self._receiving = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process ID as seen from outside the host."""
        return self._pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._receive_status(wait_s=0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; subprocess.TimeoutExpired if it is not there in `timeout` seconds."""
        ends_at = None if timeout is None else time.monotonic() + timeout
        while True:
            wait_s = None if ends_at is None else max(0.0, ends_at - time.monotonic())
            status = self._receive_status(wait_s)
            if status is not None:
                return status
            if timeout is not None and wait_s == 0.0:
                raise subprocess.TimeoutExpired(list(self.args), timeout)

    def send_signal(self, sig: int) -> None:
        """Nothing happens if it has ended already."""
        if self.poll() is None:
            try:
                signal.pidfd_send_signal(self._pidfd, sig)
            except ProcessLookupError:
                return  # it ended just now; its status is on the way

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _receive_status(self, wait_s: float | None) -> int | None:
        if self.returncode is not None:
            return self.returncode
        ending = select.poll()
        ending.register(self._connection_fd, select.POLLIN)
        if not ending.poll(None if wait_s is None else wait_s * 1000):
            return None
        with self._receiving:  # several threads may wait; the message comes once
            if self.returncode is None:
                self.returncode = _status_in(self._connection_fd)
        return self.returncode

    def __del__(self) -> None:
        os.close(self._connection_fd)
        os.close(self._pidfd)


def start_on_host(init_socket: Path, argv: Sequence[str], log_path: Path, env: Mapping[str, str]) -> HostProcess:
    """Ask the host behind `init_socket` to start a program, its output appended to `log_path`.

    HostProcessError if the host is off or the program cannot be started.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    request = json.dumps({"argv": list(argv), "env": dict(env)}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection, log_path.open("ab") as log:
        try:
            connection.connect(str(init_socket))
            socket.send_fds(connection, [request], [log.fileno()])
            answer, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        except (ConnectionError, FileNotFoundError) as error:
            raise HostProcessError(f"{argv[0]}: the host is off ({init_socket}: {error})") from error
        if not descriptors:
            reason = json.loads(answer)["error"] if answer else "the host lost its power"
            raise HostProcessError(f"{argv[0]}: {reason}")
        os.set_inheritable(descriptors[0], False)
        return HostProcess(argv, connection.detach(), descriptors[0])


def _status_in(connection_fd: int) -> int:
    try:
        message = os.read(connection_fd, 4096)
    except ConnectionResetError:
        message = b""
    # No message, only the end of the connection: the host has lost its power.
    return int(json.loads(message)["returncode"]) if message else -signal.SIGKILL


def _pid_of(pidfd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    raise HostProcessError(f"descriptor {pidfd} is not a pidfd")
