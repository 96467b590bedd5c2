# SPDX-License-Identifier: Apache-2.0
"""osd_tool: `ceph-volume` on this host, Ceph's own tool for the disks of OSDs: what is on them, made and wiped by it.

It lays an OSD on a disk in one of two ways: `lvm`, on a logical volume that systemd activates at each boot, and `raw`,
on the bare device, which whoever starts the host's OSDs has to activate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pvc_core.child_process import CommandFailed, run
from pvc_core.errors import PluginError, Refused
from pvc_storage_backends.ceph.options import Options

PROGRAM = "/usr/sbin/ceph-volume"
LOOK_S = 60.0
CHANGE_S = 600.0
"""A large disk is discarded as a whole before anything is written."""
OSD_FOLDERS = Path("/var/lib/ceph/osd")
KEY_OF_BOOTSTRAP = Path("/var/lib/ceph/bootstrap-osd/ceph.keyring")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_FIELD = "{osd}"


@dataclass(frozen=True)
class OsdOnDisk:
    """An OSD that has a disk of this host. uuid: what tells it from one that had its number before."""

    number: int
    uuid: str
    device: str

    @property
    def name(self) -> str:
        """As Ceph calls it."""
        return f"osd.{self.number}"


class OsdTool:
    """Raises `Refused` about the disk or OSD for what `ceph-volume` does not do, in its own words."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._layout = options.osd_layout

    def check_free(self, device: str) -> None:
        """Raises `Refused` unless nothing is on the disk and nothing uses it."""
        if not Path(device).is_block_device():
            raise Refused(device, "is no block device of this host")
        found = json.loads(self._asked(device, "inventory", "--format", "json", device))
        if not found["available"]:
            reasons = ", ".join(found["rejected_reasons"])
            raise Refused(device, f"is not free: {reasons or 'ceph-volume does not say why'}")

    def prepare(self, device: str, device_class: str = "") -> OsdOnDisk:
        """Make an OSD on a free disk; it does not run yet. What fails half-way is undone by `ceph-volume` itself."""
        classes = ["--crush-device-class", device_class] if device_class else []
        self._done(device, "prepare", "--bluestore", "--data", device, *classes)
        made = [osd for osd in self.osds() if os.path.realpath(osd.device) == os.path.realpath(device)]
        if not made:
            raise PluginError("ceph", f"{device}: ceph-volume has made an OSD there and does not list it")
        return made[0]

    def osds(self) -> Sequence[OsdOnDisk]:
        """Those of this cluster and others that have a disk here."""
        answer = json.loads(self._asked("this host", self._layout, "list", "--format", "json"))
        return tuple(_laid_by_lvm(answer) if self._layout == "lvm" else _laid_raw(answer))

    def activate(self, osd: OsdOnDisk) -> None:
        """Let it run, now and after each boot as far as the layout provides for that."""
        if self._layout == "lvm":
            self._done(osd.name, "activate", "--bluestore", str(osd.number), osd.uuid)
            return
        self._done(osd.name, "activate", "--device", osd.device, "--no-systemd")
        self._service(osd, self._options.osd_start)

    def stop(self, osd: OsdOnDisk) -> None:
        """Let it run no more, also after the next boot."""
        self._service(osd, self._options.osd_stop)

    def wipe(self, osd: OsdOnDisk) -> None:
        """Free its disk: what is on it is lost."""
        folder = OSD_FOLDERS / f"ceph-{osd.number}"
        if folder.is_mount():
            self._ran(osd.name, ["/usr/bin/umount", str(folder)])
        if self._layout == "lvm":
            self._ran(osd.name, [PROGRAM, "lvm", "zap", "--destroy", "--osd-id", str(osd.number)])
        else:
            self._ran(osd.name, [PROGRAM, "lvm", "zap", osd.device])
        with suppress(FileNotFoundError):
            folder.rmdir()

    def keep_key(self, keyring: str) -> None:
        """What `ceph-volume` names itself by to the monitors; a file that is there stays as it is."""
        if not KEY_OF_BOOTSTRAP.exists():
            KEY_OF_BOOTSTRAP.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(KEY_OF_BOOTSTRAP, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(keyring)

    def _environment(self) -> dict[str, str]:
        """Of the daemon's own, what is meant for `ceph-volume`, such as `CEPH_VOLUME_ALLOW_LOOP_DEVICES`."""
        own = {name: value for name, value in os.environ.items() if name.startswith("CEPH_VOLUME_")}
        return {**_ENVIRONMENT, **own, "CEPH_CONF": self._options.conf}

    def _service(self, osd: OsdOnDisk, command: Sequence[str]) -> None:
        self._ran(osd.name, [word.replace(_FIELD, str(osd.number)) for word in command])

    def _done(self, subject: str, *arguments: str) -> None:
        self._ran(subject, [PROGRAM, self._layout, *arguments])

    def _asked(self, subject: str, *arguments: str) -> bytes:
        return self._ran(subject, [PROGRAM, *arguments], LOOK_S)

    def _ran(self, subject: str, command: Sequence[str], deadline_s: float = CHANGE_S) -> bytes:
        name = Path(command[0]).name
        try:
            ended = run(command, b"", deadline_s, self._environment())
        except CommandFailed as error:
            raise PluginError("ceph", f"{subject}: {name} {error}") from error
        if ended.status:
            raise Refused(subject, f"{name} ended with {ended.how}: {ended.complaint[-1000:]}")
        return ended.answer


def _laid_by_lvm(answer: Mapping[str, Any]) -> Iterator[OsdOnDisk]:
    """`ceph-volume lvm list` has the volumes of each OSD by its number."""
    for number, volumes in answer.items():
        for volume in volumes:
            if volume["type"] == "block":
                yield OsdOnDisk(int(number), volume["tags"]["ceph.osd_fsid"], volume["devices"][0])


def _laid_raw(answer: Mapping[str, Any]) -> Iterator[OsdOnDisk]:
    """`ceph-volume raw list` has OSDs by their UUID."""
    for uuid, found in answer.items():
        yield OsdOnDisk(int(found["osd_id"]), uuid, found["device"])
