# SPDX-License-Identifier: Apache-2.0
"""A host with a disk for an OSD: a loop device, and a /var/lib/ceph of its own in a mount namespace.

Run as a program within that namespace, this carries out a task and tells of it on standard output, a line of JSON for
each report and one for the end; a line on standard input calls it off.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pvc_core import PluginOptions, TaskRequest
from pvc_core.errors import PvcError
from pvc_core.task_entries import TaskCancelled

NODE = "hv1"
DISK_BYTES = 6 * 2**30
"""`ceph-volume` takes no disk below 5 GiB."""
_INSIDE = 'mount -t tmpfs tmpfs /var/lib/ceph && mkdir /var/lib/ceph/osd && exec "$@"'


class OsdHost:
    """folder: for the disk and what a daemon on it writes. conf: of the cluster."""

    def __init__(self, folder: Path, conf: Path) -> None:
        self._folder = folder
        self._keyring = conf.parent / "keyring"
        self.conf = folder / "host.conf"
        self.conf.write_text(_without_paths_of_the_cluster(conf))
        self.device = ""

    @contextmanager
    def disk(self) -> Iterator[str]:
        """The path of an empty disk, which is taken away at the end with what runs on it."""
        file = self._folder / "disk"
        with file.open("wb") as opened:
            opened.truncate(DISK_BYTES)
        self.device = _output("losetup", "--find", "--show", str(file))
        try:
            yield self.device
        finally:
            for pid in self._folder.glob("osd.*.pid"):
                _kill(pid)
            subprocess.run(["losetup", "--detach", self.device], check=True)

    def namespace(self) -> subprocess.Popen[bytes]:
        """A process that keeps the host's mounts for as long as it lives."""
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", _INSIDE, "sh", "sleep", "infinity"])

    def task(self, namespace: int, kind: str, **parameters: Any) -> subprocess.Popen[str]:
        """Carry it out on the host."""
        asked = json.dumps({"kind": kind, "parameters": parameters, "options": self._options()})
        return subprocess.Popen(
            ["nsenter", "--mount", f"--target={namespace}", sys.executable, "-m", "storage.osd_host", asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "CEPH_VOLUME_ALLOW_LOOP_DEVICES": "1"},
        )

    def _options(self) -> dict[str, Any]:
        """What stands in for systemd: an OSD that is started leads a session of its own, as a service does."""
        pid = f"{self._folder}/osd.{{osd}}.pid"
        program = f"ceph-osd -c {self.conf} --cluster ceph -f -i {{osd}} >{self._folder}/osd.log 2>&1"
        start = f"setsid sh -c 'echo $$ >{pid}; exec {program}' & while ! test -s {pid}; do sleep 0.05; done"
        stop = f"test ! -e {pid} || {{ kill $(cat {pid}); while kill -0 $(cat {pid}); do sleep 0.05; done; rm {pid}; }}"
        return {
            "conf": str(self.conf),
            "keyring": str(self._keyring),
            "osd_layout": "raw",
            "osd_start": ["/bin/sh", "-c", start],
            "osd_stop": ["/bin/sh", "-c", stop],
        }


def _without_paths_of_the_cluster(conf: Path) -> str:
    """A host has what its own daemons write, and their keys, in its own places."""
    return "".join(f"{line}\n" for line in conf.read_text().splitlines() if str(conf.parent) not in line)


def _kill(pid_file: Path) -> None:
    number = int(pid_file.read_text())
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        print(f"process {number} had ended")


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Carry out the task of the first argument."""
    import msgspec

    from pvc_storage_backends.ceph.options import Options
    from pvc_storage_backends.ceph.osd_tasks import task_entries

    asked = json.loads(sys.argv[1])
    entry = next(entry for entry in task_entries() if entry.name == asked["kind"])

    def report(done: int, total: int, sentence: str) -> None:
        print(json.dumps({"done": done, "total": total, "sentence": sentence}), flush=True)
        if select.select([sys.stdin], [], [], 0)[0] and sys.stdin.readline():
            raise TaskCancelled

    options = PluginOptions(machine=msgspec.convert(asked["options"], Options))
    try:
        result: dict[str, Any] = {"result": dict(entry.run(TaskRequest(NODE, asked["parameters"], options), report))}
    except TaskCancelled:
        result = {"cancelled": True}
    except PvcError as error:
        result = {"problem": error.sentence()}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
