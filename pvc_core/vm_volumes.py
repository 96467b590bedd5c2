# SPDX-License-Identifier: Apache-2.0
"""vm_volumes: which volumes a VM has as its disks, as its record says, and which device names they may have.

They stand in the record and not in the definition, which stays as its author wrote it: so a volume gets another name
without a change of anybody's XML, and PVC knows which VM a volume belongs to without reading any.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import product
from string import ascii_lowercase
from typing import Literal

import msgspec

from pvc_core import layout
from pvc_core.errors import InvalidInput

Purpose = Literal["attached", "creating", "removing", "renaming"]
_DEVICE = re.compile(r"vd[a-z]{1,2}")
DEVICE_RULE = "vda to vdz, then vdaa to vdzz"
MARK = "ua-pvc-"
"""With this begin the aliases of the disks that are volumes; libvirt keeps aliases that begin with `ua-`."""


class VmVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that is a disk of a VM: guest device `device` (vda, vdb ...) is `pool`/`name` of a storage backend.

    node: the host on which it lies; "" for storage that all nodes reach. id: drawn when it was added, and kept whatever
    its name becomes, so that it is known among the disks of a guest that runs. leaving: it is to be the VM's no more,
    and is still until its guest, which runs, has let go of it. renaming: the name that it is about to get, "" for none;
    until that is over nobody knows which of both it has.
    """

    device: str
    backend: str
    pool: str
    name: str
    node: str = ""
    id: str = ""
    leaving: bool = False
    renaming: str = ""

    @property
    def mark(self) -> str:
        """The alias of its disk in a domain."""
        return f"{MARK}{self.device}-{self.id}"

    @property
    def title(self) -> str:
        """How people are told of it: `ceph vms/web1 on hv1`."""
        return f"{self.backend} {self.pool}/{self.name}{f' on {self.node}' if self.node else ''}"


class VolumeClaim(msgspec.Struct, frozen=True, kw_only=True):
    """To which VM a volume belongs. There is one per volume, so that no two VMs ever have the same.

    vm: its UUID, vm_name: what it was called then. purpose: it is a disk of the VM, is being made for it, is being
    removed for good, or is the name that one of its volumes is about to get; with these, whoever finds them later knows
    what a process that died had begun.
    """

    schema: int = layout.SCHEMA_VERSION
    backend: str
    pool: str
    name: str
    node: str = ""
    vm: str
    vm_name: str = ""
    purpose: Purpose = "attached"
    since: str = ""

    @property
    def key(self) -> str:
        """Where it stands in the store."""
        return layout.volume_claim(self.backend, self.pool, self.name, self.node)

    @property
    def title(self) -> str:
        """How people are told of the volume."""
        return VmVolume(device="", backend=self.backend, pool=self.pool, name=self.name, node=self.node).title


def renaming_sentence(volumes: Iterable[VmVolume]) -> str:
    """Which of these volumes is getting another name, so that its VM does not start; "" when none is."""
    for volume in volumes:
        if volume.renaming:
            repair = "if nobody does so any more, `pvc vm volume repair` brings it to an end"
            return f"{volume.title} is getting the name {volume.renaming}; {repair}"
    return ""


def claim_key(volume: VmVolume) -> str:
    """Where the claim on a volume stands."""
    return layout.volume_claim(volume.backend, volume.pool, volume.name, volume.node)


def check_device(device: str, field: str = "device") -> None:
    """Raise `InvalidInput` for what is no name of a disk that PVC attaches."""
    if not _DEVICE.fullmatch(device):
        raise InvalidInput(field, "is no name of a disk", device[:80], (DEVICE_RULE,))


def free_device(taken: Collection[str]) -> str:
    """The first name that is not taken. Raises `InvalidInput` when all are."""
    for length in (1, 2):
        for letters in product(ascii_lowercase, repeat=length):
            if (device := f"vd{''.join(letters)}") not in taken:
                return device
    raise InvalidInput("device", "is free no more: the VM has all the disks that can be", "", (DEVICE_RULE,))


def of_device(volumes: Iterable[VmVolume], device: str) -> VmVolume | None:
    """The volume that is this device."""
    return next((volume for volume in volumes if volume.device == device), None)
