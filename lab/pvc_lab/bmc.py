# SPDX-License-Identifier: Apache-2.0
"""Run a BMC: what switches a host of the lab on and off over IPMI, and can itself be silent, dead or deaf.

    with Bmc(folder, "10.77.0.101", 623, user="admin", password="secret", on_power=host.switch):
        ...  # ipmitool -I lanplus -H 10.77.0.101 -U admin -P secret chassis power off

The protocol is pyghmi's (the extra `lab`), in a process of its own.
"""

from __future__ import annotations

import json
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

from pvc_lab import processes
from pvc_lab.free_ports import free_port
from pvc_lab.processes import Process, Spawn, end_process, last_lines
from pvc_lab.starting import Startable
from pvc_lab.waiting import wait_for

IPMI_PORT = 623
Power = Literal["on", "off"]
OnPower = Callable[[Power], None] | Sequence[str]
"""Switches the host before the BMC says that it is done. A callable is called with "on" or "off" on a thread of the
owner, which has to live as long as the BMC; a command is run by the BMC with that word as its last argument."""

# Below the range that the kernel gives to outgoing connections, so that a port stays ours while its BMC is down.


class BmcError(RuntimeError):
    """A BMC ended while it was starting; the message holds the end of its log."""


class Bmc(Startable):
    """One BMC. Its address, port and power state stay the same from one start to the next; the host is on at first.

    `folder`: its own, for state and log. `port` None picks a free one. `on_power`: see `OnPower`; () when nothing
    hangs on it. `spawn` starts its process; a lab passes one that starts it inside a namespace.
    """

    def __init__(
        self,
        folder: Path,
        address: str = "127.0.0.1",
        port: int | None = IPMI_PORT,
        *,
        user: str,
        password: str,
        on_power: OnPower = (),
        spawn: Spawn = processes.spawn,
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = free_port(address, socket.SOCK_DGRAM) if port is None else port
        self.process: Process | None = None
        self._user = user
        self._password = password
        self._on_power = on_power
        self._spawn = spawn
        self._ear: _Ear | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "power").exists():
            self.power = "on"

    @property
    def log_path(self) -> Path:
        return self.folder / "bmc.log"

    @property
    def power(self) -> Power:
        """What the BMC says of its host. Its owner sets it when the host goes on or off by other means."""
        return cast(Power, (self.folder / "power").read_text())

    @power.setter
    def power(self, power: Power) -> None:
        changed = self.folder / "power.new"
        changed.write_text(power)
        changed.replace(self.folder / "power")

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start and return once it answers; if that fails, no process is left."""
        if self.process is not None and self.process.poll() is None:
            raise BmcError(f"the BMC at {self.address} already runs as process {self.process.pid}")
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        if callable(self._on_power):
            self._ear = _Ear(self.folder / "owner", self._on_power)
        self._write_configuration()
        self.process = self._spawn([sys.executable, "-m", "pvc_lab.bmc_process", str(self.folder)], self.log_path)
        try:
            wait_for(lambda: ready.exists() or self._ended(), "the BMC listens", deadline_s=deadline_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once; nothing to do if it does not run. The host stays as it is."""
        if self.process is not None:
            end_process(self.process, signal.SIGKILL)
            self.process = None
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    def silence(self) -> None:
        """It hangs: takes packets and answers none, until `speak`."""
        assert self.process, "it does not run"
        self.process.send_signal(signal.SIGSTOP)

    def speak(self) -> None:
        """It answers again."""
        assert self.process, "it does not run"
        self.process.send_signal(signal.SIGCONT)

    def ignore_commands(self, is_deaf: bool = True) -> None:
        """It takes commands to switch, says yes, and does nothing; False: it obeys again."""
        deaf = self.folder / "deaf"
        if is_deaf:
            deaf.touch()
        else:
            deaf.unlink(missing_ok=True)

    def _ended(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise BmcError(f"the BMC at {self.address}:{self.port} ended:\n{last_lines(self.log_path)}")
        return False

    def _write_configuration(self) -> None:
        path = self.folder / "bmc.json"
        path.touch(mode=0o600)
        configuration = {
            "address": self.address,
            "port": self.port,
            "user": self._user,
            "password": self._password,
            "command": [] if callable(self._on_power) else list(self._on_power),
            "socket": str(self._ear.path) if self._ear else "",
        }
        path.write_text(json.dumps(configuration))


class _Ear:
    """Calls the owner's hook for the BMC's process, over a socket in the BMC's folder."""

    def __init__(self, path: Path, on_power: Callable[[Power], None]) -> None:
        class Answer(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                on_power(cast(Power, self.rfile.readline().decode().strip()))
                self.wfile.write(b"done\n")  # without it the BMC knows that the hook has failed

        self.path = path
        path.unlink(missing_ok=True)
        self._server = socketserver.UnixStreamServer(str(path), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="bmc-hook", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.path.unlink(missing_ok=True)
