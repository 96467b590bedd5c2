# SPDX-License-Identifier: Apache-2.0
"""osd_tasks: to make an OSD on a disk, and to remove one without losing a copy: what the host with the disk does.

Removing waits until Ceph says that nothing is lost by it, and can be begun again at any point. Making one is undone
when it is called off; what fails after the disk was prepared leaves an OSD that does not run, which removing clears
away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from pvc_core import NodeTaskEntry, TaskReport, TaskRequest
from pvc_core.errors import NotFound, Refused
from pvc_core.task_entries import TaskCancelled
from pvc_storage_backends.ceph.administration import order
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.connection import Connection
from pvc_storage_backends.ceph.failures import Subject
from pvc_storage_backends.ceph.options import Options
from pvc_storage_backends.ceph.osd_tool import OsdOnDisk, OsdTool

ADD, REMOVE = "ceph-osd-add", "ceph-osd-remove"
UP_S = 120.0
"""How long a new OSD may take until the monitors count it as up."""
LOOK_EVERY_S = 1.0
_BOOTSTRAP = "client.bootstrap-osd"
_UNSAFE = {
    "active": "placement groups use it",
    "missing_stats": "it has not told what it holds",
    "stored_pgs": "it holds copies, and not all placement groups are whole elsewhere",
}


def add_osd(request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
    """Make an OSD on `device`, of the class `device_class` ("": Ceph decides), and let it run."""
    device, device_class = request.parameters["device"], request.parameters["device_class"]
    with _at_work(request) as work:
        report(0, 4, f"looking at {device}")
        work.tool.check_free(device)
        work.tool.keep_key(_bootstrap_keyring(work.connection))
        report(1, 4, f"preparing {device}")
        osd = work.tool.prepare(device, device_class)
        try:
            report(2, 4, f"starting {osd.name}")
            work.tool.activate(osd)
            work.wait_until_up(osd, lambda: report(3, 4, f"waiting until {osd.name} is up"))
        except TaskCancelled:
            work.destroy(osd)
            raise
    return {"osd": osd.name, "device": device}


def remove_osd(request: TaskRequest, report: TaskReport) -> Mapping[str, Any]:
    """Move everything away from the OSD `osd`, a number, then forget it and free its disk."""
    number = request.parameters["osd"]
    with _at_work(request) as work:
        osd = next((found for found in work.tool.osds() if found.number == number), None)
        if osd is None and request.resumed and not work.state_of(number):
            return {"osd": f"osd.{number}"}  # an earlier life of the daemon came to the end of it
        if osd is None:
            raise Refused(f"osd.{number}", f"has no disk of {request.node}")
        report(0, 0, f"moving what {osd.name} holds to others")
        if work.is_known(osd):
            work.empty(osd, report)
        report(0, 0, f"removing {osd.name}")
        work.destroy(osd)
    return {"osd": osd.name, "device": osd.device}


def task_entries() -> tuple[NodeTaskEntry, ...]:
    """What the plugin registers."""
    return (
        NodeTaskEntry(ADD, "make an OSD on a disk of the host", add_osd),
        NodeTaskEntry(REMOVE, "remove an OSD of the host and free its disk", remove_osd, resumable=True),
    )


@dataclass(frozen=True)
class _Work:
    """The cluster, and the tool for the disks of this host."""

    connection: Connection
    tool: OsdTool

    def state_of(self, number: int) -> Mapping[str, Any]:
        """What the map of OSDs says of one; nothing of one that there is not."""
        osds = self.connection.command("osd dump")["osds"]
        return next((found for found in osds if found["osd"] == number), {})

    def is_known(self, osd: OsdOnDisk) -> bool:
        """Whether it is still part of the cluster, and not another that has its number by now."""
        return self.state_of(osd.number).get("uuid") == osd.uuid

    def wait_until_up(self, osd: OsdOnDisk, report: Callable[[], None]) -> None:
        """Raises `Refused` when it takes too long."""
        ends_s = time.monotonic() + UP_S
        while not self.state_of(osd.number).get("up"):
            if time.monotonic() > ends_s:
                clears = f"`pvc storage ceph osd remove {osd.name}` clears it away"
                raise Refused(osd.name, f"is made and has not come up within {UP_S:g} s: see its log; {clears}")
            report()
            time.sleep(LOOK_EVERY_S)

    def empty(self, osd: OsdOnDisk, report: TaskReport) -> None:
        """Return once nothing is lost when it is gone. When that is called off it takes part as before."""
        took_part = bool(self.state_of(osd.number).get("in"))
        order(self.connection, "osd out", _subject(osd), ids=[str(osd.number)])
        most = 0
        try:
            while reason := self._why_not_safe(osd):
                left = self._groups_of(osd)
                most = max(most, left)
                report(most - left, most, f"moving what {osd.name} holds to others: {reason}")
                time.sleep(LOOK_EVERY_S)
        except TaskCancelled:
            if took_part:
                order(self.connection, "osd in", _subject(osd), ids=[str(osd.number)])
            raise

    def destroy(self, osd: OsdOnDisk) -> None:
        """Stop it, forget it, and free its disk; what has been done of that already is no error."""
        self.tool.stop(osd)
        if self.is_known(osd):
            order(self.connection, "osd down", _subject(osd), ids=[str(osd.number)])
            self.connection.command(
                "osd purge", to="mgr", subject=_subject(osd), id=osd.number, yes_i_really_mean_it=True
            )
        self.tool.wipe(osd)

    def _why_not_safe(self, osd: OsdOnDisk) -> str:
        """Why a copy could be lost by it; "" when it may go. Ceph answers so or so without an error."""
        subject = _subject(osd)
        answer = self.connection.command("osd safe-to-destroy", to="mgr", subject=subject, ids=[str(osd.number)])
        if osd.number in answer["safe_to_destroy"]:
            return ""
        return next((why for where, why in _UNSAFE.items() if osd.number in answer[where]), "Ceph does not say why not")

    def _groups_of(self, osd: OsdOnDisk) -> int:
        """How many placement groups it still has."""
        nodes = self.connection.command("osd df", to="mgr")["nodes"]
        return next((int(found["pgs"]) for found in nodes if found["id"] == osd.number), 0)


@contextmanager
def _at_work(request: TaskRequest) -> Iterator[_Work]:
    """Raises `StorageUnavailable` while the monitors have no quorum."""
    options: Options = request.options.machine
    with closing(CephBackend(request.node, options)) as ceph:
        ceph.check_quorum()
        yield _Work(ceph.connection, OsdTool(options))


def _bootstrap_keyring(connection: Connection) -> str:
    """Of the user that may make OSDs, which there is in every cluster unless somebody has removed it."""
    try:
        (found,) = connection.command("auth get", subject=Subject("user", _BOOTSTRAP), entity=_BOOTSTRAP)
    except NotFound:
        caps = ["mon", "allow profile bootstrap-osd"]
        (found,) = connection.command("auth get-or-create", entity=_BOOTSTRAP, caps=caps)
    return f"[{_BOOTSTRAP}]\n\tkey = {found['key']}\n"


def _subject(osd: OsdOnDisk) -> Subject:
    return Subject("OSD", osd.name)
