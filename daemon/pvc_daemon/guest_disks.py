# SPDX-License-Identifier: Apache-2.0
"""guest_disks: the volumes of this node's VMs become disks of its guests.

Each volume's backend is asked on this node, when the disk is needed: what it says may differ between nodes and days.
"""

from __future__ import annotations

from collections.abc import Callable

from pvc_core.disk_xml import with_disks
from pvc_core.errors import HypervisorError, PvcError
from pvc_core.model import VmRecord
from pvc_core.vm_volumes import VmVolume

DiskOf = Callable[[VmVolume], str]
"""The `<disk>` element of a volume on this node, marked; `StorageAccess.disk_of`."""


class GuestDisks:
    """The disks of one node's guests. Thread-safe."""

    def __init__(self, disk_of: DiskOf) -> None:
        self._disk_of = disk_of

    def composed(self, definition: str, record: VmRecord) -> str:
        """The domain to start: definition and a disk for each volume. Raises `HypervisorError` naming the volume."""
        disks = [self._disk(volume) for volume in record.volumes]
        try:
            return with_disks(definition, disks)
        except PvcError as error:
            raise HypervisorError(error.sentence()) from error

    def _disk(self, volume: VmVolume) -> str:
        try:
            return self._disk_of(volume)
        except PvcError as error:
            raise HypervisorError(f"volume {volume.title} ({volume.device}): {error.sentence()}") from error
