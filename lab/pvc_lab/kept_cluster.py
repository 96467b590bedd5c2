# SPDX-License-Identifier: Apache-2.0
"""kept_cluster: an embedded cluster that stays up when the program that started it has ended, to be used by hand.

What runs is in a file beside it: address, token and processes, each by its ID and the moment it was started, so that
a process which got the ID later is never taken for one of ours. Whatever was left behind, `up` and `down` get along.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pvc_lab.access import write_access
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.processes import ProcessIdentity
from pvc_lab.tour_cluster import NODES
from pvc_lab.waiting import DeadlineExceededError

ENDING_S = 20.0


class NotUpError(Exception):
    """There is no cluster to do this with."""


class NotOursError(Exception):
    """The folder belongs to somebody else, or to something else."""


@dataclass(frozen=True)
class Running:
    """What the file says."""

    port: int
    token: str
    processes: Mapping[str, ProcessIdentity]

    @property
    def is_whole(self) -> bool:
        """All of it still runs."""
        return all(process.is_alive for process in self.processes.values())


class KeptCluster:
    """An embedded cluster in a folder, with a life of its own."""

    def __init__(
        self,
        root: Path,
        nodes: Sequence[str] = NODES,
        *,
        labels: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.root = root
        self._nodes = tuple(nodes)
        self._labels = labels

    @property
    def access_path(self) -> Path:
        """What a person sources."""
        return self.root / "access.sh"

    @property
    def is_up(self) -> bool:
        """All of its processes run."""
        running = self._running()
        return running is not None and running.is_whole

    def up(self) -> bool:
        """Start it, with the VMs that were there when it was ended by force; False when it is up already."""
        with self._alone():
            running = self._running()
            if running is not None and running.is_whole:
                return False
            self._end(running)
            self._start(running)
            return True

    def restart(self) -> None:
        """End and start the daemons and the API, so that they load new plugins. Guests run on. Raises `NotUpError`."""
        with self._alone():
            running = self._running()
            if running is None:
                raise NotUpError(f"no demo cluster is up in {self.root}")
            self._end(running)
            self._start(running)

    def down(self) -> bool:
        """End it and remove all that it had; False when there was nothing."""
        if not self._state_path.exists():
            return False
        with self._alone():
            self._end(self._running())
            shutil.rmtree(self.root)
        return True

    # ------------------------------------------------------------------------------------------ parts

    @property
    def _state_path(self) -> Path:
        return self.root / "running.json"

    def _start(self, before: Running | None) -> None:
        """Start everything, at the address and with the token that it had before, and write down what runs."""
        cluster = EmbeddedCluster(self.root, self._nodes, labels=self._labels, port=before.port if before else None)
        cluster.up(token=before.token if before else "")
        identities = {name: ProcessIdentity.of(pid) for name, pid in cluster.let_go().items()}
        written = {
            "port": cluster.port,
            "token": cluster.token,
            "processes": {name: [one.pid, one.start_ticks] for name, one in identities.items()},
        }
        self._state_path.touch(mode=0o600)
        self._state_path.write_text(json.dumps(written))
        write_access(self.access_path, cluster.environment)

    def _running(self) -> Running | None:
        try:
            written = json.loads(self._state_path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        processes = {name: ProcessIdentity(*identity) for name, identity in written["processes"].items()}
        return Running(written["port"], written["token"], processes)

    def _end(self, running: Running | None) -> None:
        """The API first, then whatever an interrupted start has left; who does not obey is killed."""
        for _, process in sorted(running.processes.items()) if running else ():
            _end_process(process)
        for process in EmbeddedCluster(self.root, self._nodes).processes_left():
            _end_process(process)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else starts or ends it meanwhile. Raises `NotOursError`."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = self.root.stat()
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            raise NotOursError(f"{self.root} can be written by others than you; use another folder with --root")
        strangers = {path.name for path in self.root.iterdir()} - {"lock"}
        if strangers and not self._state_path.exists() and not (self.root / "store.db").exists():
            raise NotOursError(f"{self.root} holds something else ({min(strangers)}); use another folder with --root")
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _end_process(process: ProcessIdentity) -> None:
    try:
        process.end(signal.SIGTERM, deadline_s=ENDING_S)
    except DeadlineExceededError:
        process.end(signal.SIGKILL)
