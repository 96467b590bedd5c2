# SPDX-License-Identifier: Apache-2.0
"""disks: what disks a guest has, one more, and one less, which the guest has to agree to.

A guest is asked to let go of a disk and may take its time, or not hear it at all, as while it boots. libvirt tells by
an event when it has; whether the disk is gone is looked up besides: events are missed while a connection is made anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from pvc_core.disk_xml import disks_in
from pvc_core.errors import HypervisorError
from pvc_core.ports import Disk
from pvc_plugins.hypervisors.libvirt_driver.bindings import (
    LibvirtConnection,
    LibvirtDomain,
    find_domain,
    is_active,
    is_not_possible_now,
)

LOOK_AGAIN_S = 1.0
"""How soon a disk is looked for without an event."""


class DiskRemovals:
    """What libvirt tells of disks that guests were asked to let go of. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._refused: dict[tuple[str, str], bool | None] = {}

    def removed(self, uuid: str, alias: str) -> None:
        """The guest has let go of it."""
        self._tell(uuid, alias, refused=False)

    def refused(self, uuid: str, alias: str) -> None:
        """The guest has said that it will not."""
        self._tell(uuid, alias, refused=True)

    def _tell(self, uuid: str, alias: str, *, refused: bool) -> None:
        with self._changed:
            if (uuid, alias) in self._refused:
                self._refused[uuid, alias] = refused
                self._changed.notify_all()

    @contextmanager
    def awaited(self, uuid: str, alias: str) -> Iterator[None]:
        """What is told of this disk is remembered meanwhile."""
        with self._changed:
            self._refused[uuid, alias] = None
        try:
            yield
        finally:
            with self._changed:
                self._refused.pop((uuid, alias), None)

    def wait(self, uuid: str, alias: str, timeout_s: float) -> bool | None:
        """Whether the guest has refused; None when nothing was told within the time."""
        with self._changed:
            self._changed.wait_for(lambda: self._refused.get((uuid, alias)) is not None, timeout_s)
            return self._refused.get((uuid, alias))


def disks_of(connection: LibvirtConnection, uuid: str) -> tuple[Disk, ...]:
    """Raises `HypervisorError` when the domain is not active."""
    return disks_in(_active(connection, uuid).XMLDesc(0))


def attach(connection: LibvirtConnection, uuid: str, xml: str) -> None:
    """Domains are transient, so that there is no other definition to be changed than that of what runs."""
    _active(connection, uuid).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def detach(connection: LibvirtConnection, uuid: str, device: str, timeout_s: float, removals: DiskRemovals) -> None:
    """Ask the guest to let go of the disk, and wait."""
    domain, ends_at = _active(connection, uuid), time.monotonic() + timeout_s
    alias = _alias(domain, device)
    if alias is None:
        return
    with removals.awaited(uuid, alias):
        try:
            domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError:
            if _alias(domain, device) != alias:
                return
            raise
        while True:
            left_s = ends_at - time.monotonic()
            refused = removals.wait(uuid, alias, max(0.0, min(left_s, LOOK_AGAIN_S)))
            if _alias(domain, device) != alias:
                return
            if refused:
                raise HypervisorError(f"the guest does not let go of {device}")
            if left_s <= 0:
                raise HypervisorError(f"the guest has not let go of {device} within {timeout_s:g} s")


def _active(connection: LibvirtConnection, uuid: str) -> LibvirtDomain:
    domain = find_domain(connection, uuid)
    if domain is None or not is_active(domain):
        raise HypervisorError(f"no domain {uuid} runs here")
    return domain


def _alias(domain: LibvirtDomain, device: str) -> str | None:
    """Of the domain's disk that is this device; None when it has none, or is gone."""
    try:
        found = disks_in(domain.XMLDesc(0))
    except libvirt.libvirtError as error:
        if is_not_possible_now(error):
            return None
        raise
    return next((disk.alias for disk in found if disk.device == device), None)
