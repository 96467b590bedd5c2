# SPDX-License-Identifier: Apache-2.0
"""storage_resources: what the API serves below /storage/<backend>/pool, which is the same for every backend.

    @hookimpl
    def pvc_api_resources():
        return volume_resources(ENTRY)

serves the pools, volumes and snapshots of a `StorageBackendEntry`; what else a backend has, it adds itself. What all
nodes reach is done by the process that serves the API. A volume in a pool of one host's own is out of its reach, and
refused; a volume that is a disk of a VM is neither renamed nor removed nor taken back to what it held.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from pvc_core.contributions import ApiResource, api_method
from pvc_core.errors import PluginError, Refused, StorageUnavailable
from pvc_core.sizes import size_words
from pvc_core.storage import (
    ClonesVolumes,
    ResizesVolumes,
    SnapshotsVolumes,
    StorageBackend,
    StorageBackendEntry,
    StorageCapability,
)
from pvc_core.storage_answers import (
    NewStorageVolume,
    StorageName,
    StoragePoolList,
    StoragePoolView,
    StorageProtection,
    StorageRollback,
    StorageSnapshotList,
    StorageSnapshotOutcome,
    StorageVolumeList,
    StorageVolumeOutcome,
    StorageVolumeSize,
    StorageVolumeView,
    snapshot_view,
    volume_view,
)
from pvc_core.storage_contents import VolumeContents
from pvc_core.storage_repair import Repair
from pvc_core.storage_serving import NOT_HERE, NOT_SO, VOLUME, VOLUMES, OpenedOnce, Served

SNAPSHOTS = f"{VOLUME}/snapshot"
SNAPSHOT = f"{SNAPSHOTS}/{{snapshot}}"


def volume_resources(
    entry: StorageBackendEntry | OpenedOnce,
    capabilities: Sequence[StorageCapability] = tuple(StorageCapability),
    *,
    lists_pools: bool = True,
    mends: bool = False,
) -> tuple[ApiResource, ...]:
    """The resources of a backend, also of one that is opened for others of its resources as well.

    capabilities: which it can have; what needs another one is not served. lists_pools: False for a backend that
    serves `/pool` itself, because it has more to say. mends: True for one that is a `MendsLeftovers`.
    """
    opened = entry if isinstance(entry, OpenedOnce) else OpenedOnce(entry)
    name = opened.entry.name
    served: list[tuple[str, type[Served], str, StorageCapability | None]] = [
        ("/pool", Pools, "The pools", None),
        (VOLUMES, Volumes, "The volumes of a pool", None),
        (VOLUME, OneVolume, "A volume", None),
        (f"{VOLUME}/rename", VolumeRename, "What a volume is called", None),
        (f"{VOLUME}/resize", VolumeResize, "How large a volume is", StorageCapability.RESIZE),
        (f"{VOLUME}/clone", VolumeClone, "Copies of a volume", StorageCapability.CLONE),
        (f"{VOLUME}/contents", VolumeContents, "What a volume holds", StorageCapability.CONTENTS),
        ("/repair", Repair, "What calls that died have left in the pools", None),
        (SNAPSHOTS, Snapshots, "The snapshots of a volume", StorageCapability.SNAPSHOTS),
        (SNAPSHOT, OneSnapshot, "A snapshot of a volume", StorageCapability.SNAPSHOTS),
        (f"{SNAPSHOT}/rename", SnapshotRename, "What a snapshot is called", StorageCapability.SNAPSHOTS),
        (f"{SNAPSHOT}/protect", SnapshotProtect, "Whether a snapshot may be removed", StorageCapability.SNAPSHOTS),
        (f"{SNAPSHOT}/rollback", SnapshotRollback, "The way back to a snapshot", StorageCapability.SNAPSHOTS),
    ]
    return tuple(
        ApiResource(f"/storage/{name}{template}", partial(kind, opened), f"{summary} of storage {name}")
        for template, kind, summary, needed in served
        if (needed is None or needed in capabilities)
        and (lists_pools or kind is not Pools)
        and (mends or kind is not Repair)
    )


class Pools(Served):
    """/pool"""

    @api_method("viewer", StoragePoolList)
    def on_get(self, req: Any, resp: Any) -> None:
        """List the pools, and how full those are that all nodes share."""
        backend = self.backend()
        resp.media = StoragePoolList(pools=tuple(self._pool(backend, pool) for pool in backend.pools()))

    @staticmethod
    def _pool(backend: StorageBackend, pool: str) -> StoragePoolView:
        if not backend.is_shared(pool):
            return StoragePoolView(name=pool, shared=False)
        try:
            usage = backend.usage(pool)
        except (Refused, StorageUnavailable, PluginError) as error:  # one pool that is away hides no other
            return StoragePoolView(name=pool, shared=True, problem=error.sentence())
        return StoragePoolView(name=pool, shared=True, total_bytes=usage.total_bytes, free_bytes=usage.free_bytes)


class Volumes(Served):
    """/pool/{pool}/volume"""

    @api_method("viewer", StorageVolumeList, problems=NOT_HERE)
    def on_get(self, req: Any, resp: Any, pool: str) -> None:
        """List the volumes of a pool, each with the VM that it belongs to."""
        volumes = self.reaching(pool).volumes(pool)
        owners = self.owners(pool, [volume.name for volume in volumes])
        resp.media = StorageVolumeList(
            volumes=tuple(volume_view(volume, owners.get(volume.name, "")) for volume in volumes)
        )

    @api_method("operator", StorageVolumeOutcome, status=201, body=NewStorageVolume, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str) -> None:
        """Make a volume that reads as zeros."""
        body: NewStorageVolume = req.context.json
        made = self.reaching(pool).create_volume(pool, body.name, body.size_bytes)
        resp.status = 201
        reason = f"volume {made.name} of {size_words(made.size_bytes)} is made in pool {pool}"
        resp.media = self.outcome(req, pool, reason, made.name)


class OneVolume(Served):
    """/pool/{pool}/volume/{volume}"""

    @api_method("viewer", StorageVolumeView, problems=NOT_HERE)
    def on_get(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Show a volume."""
        resp.media = volume_view(self.reaching(pool).volume(pool, volume), self.owner(pool, volume))

    @api_method("operator", StorageVolumeOutcome, problems=NOT_HERE)
    def on_delete(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Remove a volume and what it holds. Refused while it is a disk of a VM, is in use or has snapshots."""
        backend = self.reaching(pool)
        self.check_nobodys(pool, volume)
        backend.remove_volume(pool, volume)
        resp.media = self.outcome(req, pool, f"volume {volume} is removed from pool {pool}")


class VolumeRename(Served):
    """/pool/{pool}/volume/{volume}/rename"""

    @api_method("operator", StorageVolumeOutcome, body=StorageName, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Give a volume another name, with its snapshots. Refused while it is a disk of a VM."""
        backend, name = self.reaching(pool), req.context.json.name
        self.check_nobodys(pool, volume)
        backend.rename_volume(pool, volume, name)
        resp.media = self.outcome(req, pool, f"volume {volume} of pool {pool} is called {name} now", name)


class VolumeResize(Served):
    """/pool/{pool}/volume/{volume}/resize"""

    @api_method("operator", StorageVolumeOutcome, body=StorageVolumeSize, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Make a volume larger; what it holds stays."""
        backend = cast(ResizesVolumes, self.able(pool, StorageCapability.RESIZE))
        resized = backend.resize_volume(pool, volume, req.context.json.size_bytes)
        reason = f"volume {volume} of pool {pool} has {size_words(resized.size_bytes)} now"
        resp.media = self.outcome(req, pool, reason, volume)


class VolumeClone(Served):
    """/pool/{pool}/volume/{volume}/clone"""

    @api_method("operator", StorageVolumeOutcome, status=201, body=StorageName, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Make another volume of the pool that holds the same. May take as long as copying it."""
        backend = cast(ClonesVolumes, self.able(pool, StorageCapability.CLONE))
        name = req.context.json.name
        backend.clone_volume(pool, volume, name)
        resp.status = 201
        resp.media = self.outcome(req, pool, f"volume {name} holds what {volume} of pool {pool} does", name)


class _ServedSnapshots(Served):
    def keeping(self, pool: str) -> SnapshotsVolumes:
        """The backend as one with snapshots. Raises as `able`."""
        return cast(SnapshotsVolumes, self.able(pool, StorageCapability.SNAPSHOTS))


class Snapshots(_ServedSnapshots):
    """/pool/{pool}/volume/{volume}/snapshot"""

    @api_method("viewer", StorageSnapshotList, problems=NOT_HERE)
    def on_get(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """List the snapshots of a volume, the oldest first."""
        found = self.keeping(pool).snapshots(pool, volume)
        resp.media = StorageSnapshotList(snapshots=tuple(snapshot_view(each) for each in found))

    @api_method("operator", StorageSnapshotOutcome, status=201, body=StorageName, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Remember what a volume holds now."""
        made = self.keeping(pool).create_snapshot(pool, volume, req.context.json.name)
        resp.status = 201
        reason = f"snapshot {made.name} keeps what volume {volume} of pool {pool} holds"
        resp.media = StorageSnapshotOutcome(reason=reason, snapshot=snapshot_view(made))
        req.context.outcome = reason


class OneSnapshot(_ServedSnapshots):
    """/pool/{pool}/volume/{volume}/snapshot/{snapshot}"""

    @api_method("operator", StorageSnapshotOutcome, problems=NOT_HERE)
    def on_delete(self, req: Any, resp: Any, pool: str, volume: str, snapshot: str) -> None:
        """Forget a snapshot. Refused while it is protected."""
        self.keeping(pool).remove_snapshot(pool, volume, snapshot)
        req.context.outcome = f"snapshot {snapshot} of volume {volume} of pool {pool} is removed"
        resp.media = StorageSnapshotOutcome(reason=req.context.outcome)


class SnapshotRename(_ServedSnapshots):
    """/pool/{pool}/volume/{volume}/snapshot/{snapshot}/rename"""

    @api_method("operator", StorageSnapshotOutcome, body=StorageName, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str, snapshot: str) -> None:
        """Give a snapshot another name."""
        renamed = self.keeping(pool).rename_snapshot(pool, volume, snapshot, req.context.json.name)
        req.context.outcome = f"snapshot {snapshot} of volume {volume} of pool {pool} is called {renamed.name} now"
        resp.media = StorageSnapshotOutcome(reason=req.context.outcome, snapshot=snapshot_view(renamed))


class SnapshotProtect(_ServedSnapshots):
    """/pool/{pool}/volume/{volume}/snapshot/{snapshot}/protect"""

    @api_method("operator", StorageSnapshotOutcome, body=StorageProtection, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str, snapshot: str) -> None:
        """Keep a snapshot from being removed, or no longer."""
        protected = req.context.json.protected
        found = self.keeping(pool).protect_snapshot(pool, volume, snapshot, protected)
        how = "is protected" if protected else "is protected no longer"
        req.context.outcome = f"snapshot {snapshot} of volume {volume} of pool {pool} {how}"
        resp.media = StorageSnapshotOutcome(reason=req.context.outcome, snapshot=snapshot_view(found))


class SnapshotRollback(_ServedSnapshots):
    """/pool/{pool}/volume/{volume}/snapshot/{snapshot}/rollback"""

    @api_method("operator", StorageVolumeOutcome, body=StorageRollback, problems=NOT_SO)
    def on_post(self, req: Any, resp: Any, pool: str, volume: str, snapshot: str) -> None:
        """Make a volume hold what it held then; what it holds now is lost. Refused while a guest has it."""
        self.keeping(pool).roll_back(pool, volume, snapshot)
        reason = f"volume {volume} of pool {pool} holds what it held at snapshot {snapshot}"
        resp.media = self.outcome(req, pool, reason, volume)
