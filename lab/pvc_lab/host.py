# SPDX-License-Identifier: Apache-2.0
"""A machine of the lab: network, mount, UTS and PID namespaces that start and die as one.

Hypervisors, ZooKeeper members and the API's machine are all such hosts. Power is the life of the
host's first process; the cable is the network's affair (see network).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvc_lab import host_init
from pvc_lab.host_process import HostProcess, start_on_host
from pvc_lab.network import Network, processes_in
from pvc_lab.processes import ProcessIdentity, last_lines, spawn
from pvc_lab.waiting import wait_for

LAB_VARIABLE = "PVC_LAB"
"""In the environment of every program on a host: the prefix of its lab, by which it is found."""


class HostError(RuntimeError):
    """A host did not come up, or is asked for something that its state forbids."""


@dataclass(frozen=True)
class CommandResult:
    """How a command on a host ended, and all that it printed."""

    returncode: int
    output: str


class Host:
    """One machine. `folder` is its disk, which survives a loss of power; /run does not.

    `number` is the last part of its address; `disk_folders` are the absolute paths that it does
    not share with the machine under the lab; `shared_files` maps paths on the host to files outside.
    """

    def __init__(
        self,
        name: str,
        number: int,
        network: Network,
        runtime_dir: Path,
        folder: Path,
        *,
        disk_folders: Sequence[str] = (),
        shared_files: Mapping[str, Path] | None = None,
    ) -> None:
        self.name = name
        self.number = number
        self.folder = folder
        self.run_dir = runtime_dir / name
        """What the host sees as /run, seen from outside."""
        self._network = network
        self._init_socket = runtime_dir / f"{name}.init"
        self._disk_folders = tuple(disk_folders)
        self._shared_files = dict(shared_files or {})
        self._starter: subprocess.Popen[bytes] | None = None
        self._frozen_init: ProcessIdentity | None = None

    @property
    def address(self) -> str:
        return self._network.address(self.number)

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return self._network.namespace(self.name)

    @property
    def is_on(self) -> bool:
        return self._init_pid() is not None

    def disk_path(self, inside: str) -> Path:
        """Where one of the host's own folders is seen from outside."""
        return self.folder / inside.strip("/").replace("/", "-")

    def power_on(self, *, deadline_s: float = 60.0) -> None:
        """Start the host and return when programs can be started on it."""
        self.begin_power_on()
        self.wait_until_on(deadline_s=deadline_s)

    def begin_power_on(self) -> None:
        """Start the host and return at once, so that several can start together."""
        if self.is_on:
            raise HostError(f"{self.name} is on already")
        self._clear()
        self.run_dir.mkdir(parents=True)
        (self.run_dir / "lock").mkdir()
        for inside in self._disk_folders:
            self.disk_path(inside).mkdir(parents=True, exist_ok=True)
        self._network.plug_in(self.name, self.number)
        self._starter = spawn(
            [
                *("ip", "netns", "exec", self.namespace),
                *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"),
                # Isolated and without site packages: half the start-up time of Python.
                *(sys.executable, "-I", "-S", host_init.__file__, json.dumps(self._plan())),
            ],
            self._log_path,
            env={LAB_VARIABLE: self._network.prefix},
        )

    def wait_until_on(self, *, deadline_s: float = 60.0) -> None:
        def on() -> bool:
            if self._starter is not None and self._starter.poll() is not None:
                raise HostError(f"{self.name} did not come up:\n{last_lines(self._log_path)}")
            return self.is_on

        wait_for(on, f"{self.name} is on", deadline_s=deadline_s)

    def power_off(self) -> None:
        """Pull the power: every process dies at once, unannounced; nothing to do if it is off.

        The cable goes first, so that no connection is seen to end, as with a real machine.
        """
        self._network.unplug(self.name)
        pid = self._init_pid()
        if pid is not None:
            ProcessIdentity.of(pid).end(signal.SIGKILL)
        if self._starter is not None:
            self._starter.kill()  # it waits for the first process only; kills it if it just starts
            self._starter.wait()
            self._starter = None
        self._clear()

    def freeze(self) -> None:
        """Let every process of the host stand still (SIGSTOP) until `thaw`: nothing is lost, and nobody answers."""
        pid = self._init_pid()
        if pid is None:
            raise HostError(f"{self.name} is off")
        self._frozen_init = ProcessIdentity.of(pid)
        frozen: set[ProcessIdentity] = set()
        while running := [process for process in self._processes() if process not in frozen]:
            for process in running:
                process.send(signal.SIGSTOP)
            frozen.update(running)

    def thaw(self, but: Collection[int] = ()) -> None:
        """Let every process go on (SIGCONT) but those with these IDs; nothing happens to those that did not stand."""
        self._frozen_init = None
        for process in self._processes():
            if process.pid not in but:
                process.send(signal.SIGCONT)

    def cut_cable(self) -> None:
        """Let nothing in or out until healed; everything on the host goes on running."""
        self._network.cut_cable(self.name)

    def heal_cable(self) -> None:
        self._network.heal_cable(self.name)

    def spawn(self, argv: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None) -> HostProcess:
        """Start a program on the host, in this program's environment with `env` added."""
        environment = {**os.environ, **(env or {}), LAB_VARIABLE: self._network.prefix}
        return start_on_host(self._init_socket, argv, log_path, environment)

    def run(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, deadline_s: float = 60.0
    ) -> CommandResult:
        """Run a command on the host to its end; it is killed at the deadline (TimeoutExpired)."""
        output_path = self.run_dir / f"command-{os.urandom(4).hex()}"
        process = self.spawn(argv, output_path, env)
        try:
            returncode = process.wait(deadline_s)
            return CommandResult(returncode, output_path.read_text(errors="replace"))
        finally:
            process.kill()
            output_path.unlink(missing_ok=True)

    def enter_argv(self) -> list[str]:
        """What to put before a command to run it on the host from a terminal."""
        pid = self._init_pid()
        if pid is None:
            raise HostError(f"{self.name} is off")
        return ["nsenter", f"--target={pid}", "--mount", "--uts", "--net", "--pid"]

    @property
    def _log_path(self) -> Path:
        return self.folder / "init.log"

    def _processes(self) -> list[ProcessIdentity]:
        return processes_in(self.namespace)

    def _plan(self) -> dict[str, object]:
        binds = [(str(self.run_dir), "/run")]
        binds += [(str(self.disk_path(inside)), inside) for inside in self._disk_folders]
        binds += [(str(outside), inside) for inside, outside in self._shared_files.items()]
        # /run last: it hides the paths of the others, should they lie in it.
        return {"hostname": self.name, "socket": str(self._init_socket), "binds": binds[1:] + binds[:1]}

    def _init_pid(self) -> int | None:
        """The ID of the first process, from outside; None if the host is off or just starting."""
        if self._frozen_init is not None:  # it takes no calls, and as many as a queue holds would not even be noticed
            return self._frozen_init.pid if self._frozen_init.is_alive else None
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            try:
                connection.connect(str(self._init_socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])

    def _clear(self) -> None:
        """Remove what does not survive a loss of power."""
        self._frozen_init = None
        self._network.unplug(self.name)
        self._network.remove_namespace(self.name)
        self._init_socket.unlink(missing_ok=True)
        if self.run_dir.exists():
            shutil.rmtree(self.run_dir)
