# SPDX-License-Identifier: Apache-2.0
"""volume_views: the volumes of a VM as the API shows them: what the record has, and what its guest is known to have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from pvc_api.views import Answer, Version, VmVolumeView
from pvc_api.waiting import Predicate
from pvc_core.model import VmRecord
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF
from pvc_core.vm_volumes import VmVolume
from pvc_core.volume_claims import Unfinished


class VmVolumeList(Answer, frozen=True, kw_only=True):
    """The volumes of a VM in the order of their devices; what its definition has besides is not among them.

    settled: its guest, if it runs, has those of the record and no other.
    """

    vm: str
    uuid: str
    volumes: tuple[VmVolumeView, ...]
    settled: bool
    version: Version


class VmVolumeOutcome(Answer, frozen=True, kw_only=True):
    """What a command on a volume of a VM did. `watch` is the URL that tells when the guest has followed, or empty."""

    vm: str
    uuid: str
    volume: VmVolumeView
    changed: bool
    reason: str
    watch: str = ""


class UnfinishedVolumeView(Answer, frozen=True, kw_only=True):
    """A volume, or a snapshot of a VM, with which something was begun; remedy: what a repair does about it."""

    volume: str
    vm: str
    since: str
    problem: str
    remedy: str


class UnfinishedVolumes(Answer, frozen=True, kw_only=True):
    """What was begun with volumes and snapshots of VMs and has not come to an end."""

    volumes: tuple[UnfinishedVolumeView, ...]


def unfinished(found: Iterable[Unfinished]) -> UnfinishedVolumes:
    """As the API shows it."""
    return UnfinishedVolumes(volumes=tuple(UnfinishedVolumeView(**asdict(each)) for each in found))


def volumes_of_vm(record: VmRecord, snapshot: ClusterSnapshot) -> tuple[VmVolumeView, ...]:
    """All of them, vda before vdb and vdz before vdaa."""
    ordered = sorted(record.volumes, key=lambda volume: (len(volume.device), volume.device))
    return tuple(volume_view(volume, record, snapshot) for volume in ordered)


def volume_view(volume: VmVolume, record: VmRecord, snapshot: ClusterSnapshot) -> VmVolumeView:
    """One of them."""
    seen = _seen(record, snapshot)
    state = "attached" if seen.get(volume.id) == "" else "attaching"
    if record.state in OFF:
        state = "off"
    return VmVolumeView(
        device=volume.device,
        backend=volume.backend,
        pool=volume.pool,
        name=volume.name,
        node=volume.node,
        state="leaving" if volume.leaving else state,  # type: ignore[arg-type]  # one of the four words
        problem=seen.get(volume.id, ""),
    )


def volumes_settled(uuid: str, since: int) -> Predicate:
    """The guest has followed, in a version of the record that is not older than `since`; or there is no VM any more."""

    def done(snapshot: ClusterSnapshot) -> bool:
        stored = snapshot.vms.get(uuid)
        return stored is None or (stored.version >= since and is_settled(stored.value, snapshot))

    return done


def is_settled(record: VmRecord, snapshot: ClusterSnapshot) -> bool:
    """Whether nothing is to change about the disks of the VM's guest."""
    return all(view.state in ("off", "attached") for view in volumes_of_vm(record, snapshot))


def _seen(record: VmRecord, snapshot: ClusterSnapshot) -> Mapping[str, str]:
    """What the VM's node says of its guest's volumes, by id."""
    node = snapshot.nodes.get(record.node)
    domain = node.report.value.domains.get(record.uuid) if node and node.report else None
    return domain.volumes if domain else {}
