# SPDX-License-Identifier: Apache-2.0
"""snapshot_views: the snapshots of a VM as the API shows them, and when one that its node is to take is there."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pvc_api.views import Answer, Version
from pvc_api.waiting import Predicate
from pvc_core.codec import Stored
from pvc_core.model import VmMetadata, VmRecord
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_snapshots import Consistency, VmSnapshot, VmSnapshotState


class SnapshotVolumeView(Answer, frozen=True, kw_only=True):
    """A volume in a snapshot of a VM. snapshot: what its storage calls the snapshot of it."""

    device: str
    backend: str
    pool: str
    name: str
    snapshot: str
    size_bytes: int


class VmSnapshotView(Answer, frozen=True, kw_only=True):
    """A snapshot of a VM: what it was `at` this time.

    consistency: its guest was off, had its file systems frozen, or it is what a power cut would have left (crash).
    automatic: it was made with a number to keep, and goes when it is too old.
    """

    name: str
    state: VmSnapshotState
    since: str
    at: str
    consistency: Consistency
    automatic: bool
    volumes: tuple[SnapshotVolumeView, ...]


class VmSnapshotInfo(VmSnapshotView, frozen=True, kw_only=True):
    """A snapshot of a VM with all that it would put back."""

    definition: str
    metadata: VmMetadata


class VmSnapshotList(Answer, frozen=True, kw_only=True):
    """The snapshots of a VM, oldest first.

    settled: its node has none to take. problem: why the one that its node was to take last is not there.
    """

    vm: str
    uuid: str
    snapshots: tuple[VmSnapshotView, ...]
    settled: bool
    problem: str
    version: Version


class VmSnapshotOutcome(Answer, frozen=True, kw_only=True):
    """What a command on a snapshot did; snapshot: as it is now. `watch` is the URL that tells when it is there."""

    vm: str
    uuid: str
    snapshot: VmSnapshotView | None
    reason: str
    warnings: tuple[str, ...] = ()
    watch: str = ""


def snapshot_view(snapshot: VmSnapshot) -> VmSnapshotView:
    """One of them."""
    volumes = [
        SnapshotVolumeView(
            device=each.device,
            backend=each.backend,
            pool=each.pool,
            name=each.name,
            snapshot=each.snapshot,
            size_bytes=each.size_bytes,
        )
        for each in snapshot.volumes
    ]
    return VmSnapshotView(
        name=snapshot.name,
        state=snapshot.state,
        since=snapshot.since,
        at=snapshot.at,
        consistency=snapshot.consistency,
        automatic=snapshot.automatic,
        volumes=tuple(volumes),
    )


def snapshot_info(snapshot: VmSnapshot) -> VmSnapshotInfo:
    """One of them with its definition and metadata."""
    shown = msgspec.structs.asdict(snapshot_view(snapshot))
    return VmSnapshotInfo(**shown, definition=snapshot.definition, metadata=snapshot.metadata)


def snapshot_list(stored: Stored[VmRecord], snapshots: Iterable[VmSnapshot], since: int) -> VmSnapshotList:
    """All of a VM."""
    record = stored.value
    return VmSnapshotList(
        vm=record.name,
        uuid=record.uuid,
        snapshots=tuple(map(snapshot_view, snapshots)),
        settled=stored.version >= since and not record.snapshots.taking,
        problem=record.snapshots.problem,
        version=stored.version,
    )


def none_is_taken(uuid: str, since: int) -> Predicate:
    """The VM's node has none to take, in a version of the record that is not older; or there is no VM any more."""

    def done(snapshot: ClusterSnapshot) -> bool:
        stored = snapshot.vms.get(uuid)
        return stored is None or (stored.version >= since and not stored.value.snapshots.taking)

    return done
