# SPDX-License-Identifier: Apache-2.0
"""A cluster without servers or root: the embedded store and simulated hypervisors, everything else is real.

Real node daemons, the real API under gunicorn, the real command; each a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import NAMESPACE_DNS, uuid5

from pvc_lab.api_health import is_serving
from pvc_lab.free_ports import free_port
from pvc_lab.processes import ProcessIdentity, last_lines, spawn
from pvc_lab.tour_cluster import NODES, STARTUP_DEADLINE_S, ConsoleMark, make_admin_token, program
from pvc_lab.waiting import wait_for
from pvc_plugins.hypervisors.simulated import SimulatedWorld

STOP_DEADLINE_S = 20.0
ROOT_VARIABLE = "PVC_LAB_CLUSTER_ROOT"
"""In the environment of every process of a cluster, by which those of one whose program was killed are found."""

_DOMAIN = """\
<domain type='kvm'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    <sim:guest xmlns:sim='https://pvc.example/simulated/1' ignores-shutdown='{stubborn}'/>
  </metadata>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
</domain>
"""


class EmbeddedCluster:
    """Three nodes, one API. `root` holds everything: the store, the simulated hosts, configuration and logs."""

    kind = "embedded parts: SQLite store, simulated hypervisors; real daemons, real API, real command"

    def __init__(
        self,
        root: Path,
        nodes: Sequence[str] = NODES,
        *,
        memory_mib: int = 2048,
        workers: int = 1,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        port: int | None = None,
        watchdog_s: float = 0.0,
    ) -> None:
        """`watchdog_s`: the time of each node's watchdog, a process that cuts its power; 0: they have none."""
        self.root = root
        self.nodes = tuple(nodes)
        self._memory_mib = memory_mib
        self._workers = workers
        self._labels = labels or {}
        self._watchdog_s = watchdog_s
        self.port = free_port() if port is None else port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""

    # ------------------------------------------------------------------------------------- life

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self, token: str = "") -> None:
        """Start everything; return when every node has reported and the API answers. token: an administrator's."""
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            for node in self.nodes:
                self.start_daemon(node)
            self.start_api()
            self.token = token or make_admin_token(self.configuration_path(self.nodes[0]))
            wait_for(
                self._is_ready, f"{len(self.nodes)} nodes to report; logs in {self.root}", deadline_s=STARTUP_DEADLINE_S
            )
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop everything, the API first. Can be repeated. Raises what one has raised once all have been stopped."""
        with ExitStack() as stopping:
            for name in sorted(self._processes, reverse=True):
                stopping.callback(self.stop, name)

    def processes_left(self) -> tuple[ProcessIdentity, ...]:
        """What runs of a cluster with this root, whoever has started it; the oldest first."""
        mark = f"{ROOT_VARIABLE}={self.root}".encode()
        found = []
        for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(ProcessIdentity.of(int(entry.name)))
            except OSError:
                continue  # it has ended, or is not ours
        return tuple(found)

    def let_go(self) -> dict[str, int]:
        """Leave everything running when this program ends; the IDs of the processes by name."""
        left = {name: process.pid for name, process in self._processes.items()}
        for process in self._processes.values():
            process.returncode = 0  # nobody waits for it any more, and nobody is to be warned of that
        self._processes.clear()
        return left

    def start_daemon(self, node: str) -> None:
        """Start a node's daemon, in the background."""
        self.volumes.mkdir(exist_ok=True)
        path = self.configuration_path(node)
        path.write_text(self._configuration(node))
        self._spawn(node, [program("pvc-node")], path)

    def start_api(self) -> None:
        """Start the API, in the background."""
        self._spawn("api", [program("pvc-api")], self.configuration_path(self.nodes[0]))

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a node's daemon or the "api" a signal, such as one that stops it where it stands."""
        self._processes[name].send_signal(number)

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a node's daemon or the "api" by a signal and wait for it."""
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            process.wait(timeout=STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{name} did not end on {number.name}: {last_lines(self.log_path(name))}") from None

    def _spawn(self, name: str, argv: Sequence[str], configuration: Path) -> None:
        environment = {**os.environ, "PVC_CONFIG": str(configuration), ROOT_VARIABLE: str(self.root)}
        self._processes[name] = spawn(argv, self.log_path(name), environment)

    def _is_ready(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended: {last_lines(self.log_path(name))}")
        return is_serving(self.url, self.token, len(self.nodes))

    # ------------------------------------------------------------------------------------ where

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def store_url(self) -> str:
        """Of the store that all share."""
        return f"sqlite://{self.root}/store.db"

    @property
    def volumes(self) -> Path:
        """The folder of the nodes' pool of volumes; being on one machine, all have the same."""
        return self.root / "volumes"

    @property
    def environment(self) -> Mapping[str, str]:
        """With it the `pvc` command reaches the API as an administrator."""
        return {
            "PVC_API_URL": self.url,
            "PVC_API_TOKEN": self.token,
            "PVC_CONFIG": str(self.configuration_path(self.nodes[0])),
            "XDG_CONFIG_HOME": str(self.root),
        }

    def configuration_path(self, node: str) -> Path:
        """Of a node; the first node's also names the API."""
        return self.root / f"{node}.toml"

    def log_path(self, name: str) -> Path:
        """Of a node's daemon or of the "api"."""
        return self.root / f"{name}.log"

    def _configuration(self, node: str) -> str:
        labels = ", ".join(f'{name} = "{value}"' for name, value in self._labels.get(node, {}).items())
        return (
            f'[cluster]\nstore = "{self.store_url}"\n'
            f'[node]\nname = "{node}"\n'
            f'hypervisor = "simulated://{self.root}/hosts?memory_mib={self._memory_mib}&cores=4"\n'
            f"labels = {{{labels}}}\n"
            f"{self._watchdog(node)}"
            f'[api]\nlisten = "127.0.0.1:{self.port}"\nworkers = {self._workers}\n'
            f'[plugin.directory.pools.default]\nfolder = "{self.volumes}"\nshared = true\n'
        )

    def _watchdog(self, node: str) -> str:
        command = json.dumps([sys.executable, "-m", "pvc_lab.power_cut", f"{self.root}/hosts", node])
        section = f'[watchdog]\ndriver = "process"\ntimeout_s = {self._watchdog_s}\ncommand = {command}\n'
        return section if self._watchdog_s else ""

    # ------------------------------------------------------------------------------------- guests

    def definition(self, name: str, *, stubborn: bool = False, memory_mib: int = 128) -> str:
        """See `TourCluster`."""
        ignores = "yes" if stubborn else "no"
        return _DOMAIN.format(name=name, uuid=_uuid_of(name), stubborn=ignores, memory_mib=memory_mib)

    def console(self, name: str) -> ConsoleMark:
        """See `TourCluster`."""
        with self.world() as world:
            console = world.console(_uuid_of(name))
        return ConsoleMark(console.boot_id, console.ticks)

    def active_on(self, name: str) -> tuple[str, ...]:
        """See `TourCluster`."""
        with self.world() as world:
            return tuple(domain.node for domain in world.domains() if domain.uuid == _uuid_of(name))

    def two_nodes(self) -> Sequence[str]:
        """See `TourCluster`; the simulated hosts keep account themselves."""
        with self.world() as world:
            return tuple(str(seen) for seen in world.ran_on_two_nodes())

    def world(self) -> SimulatedWorld:
        """The simulated hosts, to look at and to break."""
        return SimulatedWorld(self.root / "hosts")


def _uuid_of(name: str) -> str:
    return str(uuid5(NAMESPACE_DNS, name))
