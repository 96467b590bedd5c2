# SPDX-License-Identifier: Apache-2.0
"""The first process of a lab host: sets its namespaces up, starts programs on request, reaps.

A script of its own, on the standard library alone, run inside new network, mount, UTS and PID
namespaces. Everything on the host descends from it, so killing it is pulling the power: the kernel
then ends every other process of the host at once. Programs are started here rather than entered
from outside, because a namespace is not gone until its last process has been reaped, and a process
started from outside is reaped by whoever started it, perhaps never.

Protocol: a client connects to the socket (SOCK_SEQPACKET) and sends {"argv", "env"} with the file
descriptor for the output. The answer is {} with a pidfd, or {"error"}. The connection stays open;
when the program has ended, {"returncode"} follows.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

MAX_REQUEST_BYTES = 192 * 1024
REQUEST_DEADLINE_S = 5.0
_MS_BIND = 0x1000
_MS_REC = 0x4000


class Init:
    """Starts programs for clients and tells each client how its program ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}
        self._child_ended, self._wake_up = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_up)
        signal.signal(signal.SIGCHLD, _only_wake_up)

    def serve(self) -> NoReturn:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ, self._accept)
            selector.register(self._child_ended, selectors.EVENT_READ, self._reap)
            while True:
                for key, _ in selector.select():
                    key.data()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(REQUEST_DEADLINE_S)
        try:
            self._clients[start_for(client)] = client
        except (OSError, ValueError) as error:
            _tell(client, {"error": str(error)})
            client.close()

    def _reap(self) -> None:
        os.read(self._child_ended, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            client = self._clients.pop(pid, None)  # None: an orphan that this process inherited
            if client is not None:
                _tell(client, {"returncode": os.waitstatus_to_exitcode(status)})
                client.close()


def start_for(client: socket.socket) -> int:
    """Start the program that the client asks for; its process ID inside the host.

    Raises OSError if it cannot be started and ValueError if the request makes no sense.
    """
    message, descriptors, _, _ = socket.recv_fds(client, MAX_REQUEST_BYTES, 1)
    try:
        if not message or len(descriptors) != 1:
            raise ValueError("a request needs a message and one file descriptor")
        os.set_inheritable(descriptors[0], False)  # the program gets it as its output, not as such
        request = json.loads(message)
        pid = os.posix_spawnp(
            request["argv"][0],
            request["argv"],
            request["env"],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, descriptors[0], 1),
                (os.POSIX_SPAWN_DUP2, descriptors[0], 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these; programs must not
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    handle = os.pidfd_open(pid)  # the program cannot have been reaped yet: only `_reap` does that
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its program runs without it
            socket.send_fds(client, [b"{}"], [handle])
    finally:
        os.close(handle)
    return pid


def set_up(plan: dict[str, Any]) -> None:
    """Give the host its name, its private folders and a /proc of its own processes."""
    socket.sethostname(plan["hostname"])
    for source, target in plan["binds"]:
        if Path(source).is_dir():
            Path(target).mkdir(parents=True, exist_ok=True)
        mount(source, target, None, _MS_BIND | _MS_REC)
    mount("proc", "/proc", "proc", 0)
    os.chdir("/")
    os.umask(0o022)


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """mount(2), which the standard library does not offer."""
    libc = ctypes.CDLL(None, use_errno=True)
    kind_bytes = None if kind is None else kind.encode()
    if libc.mount(source.encode(), target.encode(), kind_bytes, flags, None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source}: {os.strerror(number)}", target)


def _tell(client: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
        client.send(json.dumps(message).encode())  # a client that has gone wants to know no more


def _only_wake_up(_signal_number: int, _frame: FrameType | None) -> None:
    """A handler must exist for the wake-up descriptor to be written."""


def main() -> NoReturn:
    plan = json.loads(sys.argv[1])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(plan["socket"])  # before the private /run covers this path
    set_up(plan)
    listener.listen(128)  # from here on a client's connect() succeeds: the host is on
    Init(listener).serve()


if __name__ == "__main__":
    main()
