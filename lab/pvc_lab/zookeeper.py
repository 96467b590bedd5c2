# SPDX-License-Identifier: Apache-2.0
"""Run a real ZooKeeper server, alone or as a member of an ensemble, on any address and data folder.

The store's contract tests want a server on loopback within half a second; the lab wants the same
server inside a namespace; failure tests want to kill one and start it again on the same data. All
of these differ only in the address and in the way the process is spawned.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pvc_lab import processes
from pvc_lab.free_ports import free_port
from pvc_lab.processes import Process, Spawn, end_process, last_lines
from pvc_lab.starting import Startable
from pvc_lab.waiting import wait_for

CLIENT_PORT = 2181

_JAVA_FOLDER = Path("/usr/share/java")
_CLASS_PATH = (_JAVA_FOLDER / "zookeeper.jar", _JAVA_FOLDER / "slf4j-simple.jar")
_JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # half the start-up time; throughput does not matter here
    "-XX:+PerfDisableSharedMem",
    "-Djava.net.preferIPv4Stack=true",
    "-Dzookeeper.cnxTimeout=500",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
# tickTime is also the granularity of session expiry. forceSync=no survives a killed server, not a
# power failure of the machine under the lab.
_CONFIGURATION = """\
tickTime=200
minSessionTimeout=400
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
forceSync=no
preAllocSize=1024
"""


class ZooKeeperError(RuntimeError):
    """A server ended while it was starting; the message holds the end of its log."""


@dataclass(frozen=True)
class Member:
    """One server as the other members of its ensemble know it."""

    server_id: int
    host: str
    client_port: int
    quorum_port: int
    election_port: int

    @property
    def configuration_line(self) -> str:
        return (
            f"server.{self.server_id}={self.host}:{self.quorum_port}:{self.election_port}"
            f";{self.host}:{self.client_port}\n"
        )


class ZooKeeperServer(Startable):
    """One server process. Its data and its port stay the same from one start to the next.

    `port` None picks a free one. `spawn` starts the Java process; a lab passes one that starts it
    inside a namespace. Given `ensemble`, the server is the member with the ID `server_id`.
    """

    def __init__(
        self,
        data_dir: Path,
        host: str = "127.0.0.1",
        port: int | None = None,
        spawn: Spawn = processes.spawn,
        *,
        ensemble: Sequence[Member] = (),
        server_id: int = 1,
        jvm_options: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.host = host
        self.port = free_port(host) if port is None else port
        self.process: Process | None = None
        self._spawn = spawn
        self._ensemble = tuple(ensemble)
        self._server_id = server_id
        self._jvm_options = tuple(jvm_options)

    @property
    def hosts(self) -> str:
        """`host:port`, as a ZooKeeper client expects it."""
        return f"{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.data_dir / "server.log"

    def start(self, *, deadline_s: float = 60.0) -> None:
        """Start and return once it serves clients; if that fails, no process is left."""
        self.launch()
        try:
            self.wait_until_serving(deadline_s=deadline_s)
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start the process and return at once: a member serves only when its ensemble has a quorum."""
        if self.process is not None and self.process.poll() is None:
            raise ZooKeeperError(f"{self.hosts} is already running as process {self.process.pid}")
        configuration_path = self._write_configuration()
        class_path = ":".join(str(jar) for jar in _CLASS_PATH)
        self.process = self._spawn(
            [
                "java",
                *_JVM_OPTIONS,
                *self._jvm_options,
                "-cp",
                class_path,
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                str(configuration_path),
            ],
            self.log_path,
        )

    def wait_until_serving(self, *, deadline_s: float = 60.0) -> None:
        """Return once clients are served; ZooKeeperError as soon as the process has ended."""

        def serves() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise ZooKeeperError(f"{self.hosts} ended:\n{last_lines(self.log_path)}")
            # Not just anybody who serves there: another server may hold the port.
            return self.mode() is not None and str(self._database_dir) in self._configuration_in_use()

        wait_for(serves, f"ZooKeeper serves on {self.hosts}", deadline_s=deadline_s)

    def mode(self) -> str | None:
        """`standalone`, `leader` or `follower`; None while it serves nobody."""
        for line in four_letter_word(self.host, self.port, "srvr").splitlines():
            if line.startswith("Mode:"):
                return line.partition(":")[2].strip()
        return None

    def stop(self) -> None:
        """End it in order (SIGTERM); nothing to do if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would; nothing to do if it does not run."""
        self._end(signal.SIGKILL)

    def restart(self, *, deadline_s: float = 60.0) -> None:
        """Stop and start on the same data and port; sessions and records are still there."""
        self.stop()
        self.start(deadline_s=deadline_s)

    @property
    def _database_dir(self) -> Path:
        return self.data_dir / "database"

    def _configuration_in_use(self) -> str:
        return four_letter_word(self.host, self.port, "conf")

    def _end(self, signal_number: int) -> None:
        if self.process is None:
            if self.mode() is not None:
                raise ZooKeeperError(f"{self.hosts} was not started by this program")
            return
        end_process(self.process, signal_number)
        self.process = None

    def _write_configuration(self) -> Path:
        self._database_dir.mkdir(parents=True, exist_ok=True)
        text = f"{_CONFIGURATION}dataDir={self._database_dir}\n"
        if self._ensemble:
            (self._database_dir / "myid").write_text(f"{self._server_id}\n")
            text += "initLimit=20\nsyncLimit=5\n"
            text += "".join(member.configuration_line for member in self._ensemble)
        else:
            text += f"clientPort={self.port}\nclientPortAddress={self.host}\n"
        path = self.data_dir / "zoo.cfg"
        path.write_text(text)
        return path


def four_letter_word(host: str, port: int, word: str) -> str:
    """The answer to one of ZooKeeper's four-letter commands; empty if nobody answers."""
    try:
        with socket.create_connection((host, port), timeout=2.0) as connection:
            connection.sendall(word.encode())
            with connection.makefile("rb") as answer:
                return answer.read().decode(errors="replace")
    except OSError:  # refused, reset, unreachable or silent: all mean that nobody serves there
        return ""
