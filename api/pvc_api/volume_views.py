# SPDX-License-Identifier: Apache-2.0
"""volume_views: the volumes of a VM as the API shows them, and what became of a command on one."""

from __future__ import annotations

from pvc_api.views import Answer, Version, VmVolumeView
from pvc_core.model import VmRecord
from pvc_core.vm_volumes import VmVolume


class VmVolumeList(Answer, frozen=True, kw_only=True):
    """The volumes of a VM in the order of their devices; what its definition has besides is not among them."""

    vm: str
    uuid: str
    volumes: tuple[VmVolumeView, ...]
    version: Version


class VmVolumeOutcome(Answer, frozen=True, kw_only=True):
    """What a command on a volume of a VM did, and the volume."""

    vm: str
    uuid: str
    volume: VmVolumeView
    changed: bool
    reason: str


def volumes_of_vm(record: VmRecord) -> tuple[VmVolumeView, ...]:
    """All of them, vda before vdb and vdz before vdaa."""
    ordered = sorted(record.volumes, key=lambda volume: (len(volume.device), volume.device))
    return tuple(volume_view(volume) for volume in ordered)


def volume_view(volume: VmVolume) -> VmVolumeView:
    """One of them."""
    return VmVolumeView(
        device=volume.device, backend=volume.backend, pool=volume.pool, name=volume.name, node=volume.node
    )
