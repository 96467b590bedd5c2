# SPDX-License-Identifier: Apache-2.0
"""storage_answers: what the API takes and answers about the pools, volumes and snapshots of any storage backend."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pvc_core.contributions import ApiBody, ApiQuery
from pvc_core.storage import Snapshot, Volume

SizeBytes = Annotated[int, msgspec.Meta(gt=0, le=2**62, description="In bytes")]


class StoragePoolView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool. total_bytes, free_bytes: None where each node has its own, or `problem` says why they are not known."""

    name: str
    shared: bool
    total_bytes: int | None = None
    free_bytes: int | None = None
    problem: str = ""


class StoragePoolList(msgspec.Struct, frozen=True, kw_only=True):
    """The pools of a storage backend, by name."""

    pools: tuple[StoragePoolView, ...]


class StorageVolumeView(msgspec.Struct, frozen=True, kw_only=True):
    """A volume: its size to a guest, what it takes in its pool (None: unknown), and whose disk it is ("": no VM's)."""

    pool: str
    name: str
    size_bytes: int
    used_bytes: int | None = None
    vm: str = ""


class StorageVolumeList(msgspec.Struct, frozen=True, kw_only=True):
    """The volumes of a pool, by name."""

    volumes: tuple[StorageVolumeView, ...]


class NodeVolumeList(msgspec.Struct, frozen=True, kw_only=True):
    """Volumes of a pool of one node's own, by name. total: how many it has. more: further ones come after the last."""

    volumes: tuple[StorageVolumeView, ...]
    total: int
    more: bool


class NodeVolumeQuery(ApiQuery, frozen=True, kw_only=True):
    """Which of a node's volumes."""

    limit: Annotated[int, msgspec.Meta(ge=0, description="At most this many; 0 = as many as one answer holds")] = 0
    after: Annotated[str, msgspec.Meta(description="Only those whose names come after this one")] = ""


class StorageVolumeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has been done, in a sentence, and the volume as it is now; None when it is gone."""

    reason: str
    volume: StorageVolumeView | None = None


class StorageSnapshotView(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a volume, and how large the volume was then."""

    name: str
    size_bytes: int
    protected: bool


class StorageSnapshotList(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of a volume, oldest first."""

    snapshots: tuple[StorageSnapshotView, ...]


class StorageSnapshotOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has been done, in a sentence, and the snapshot as it is now; None when it is gone."""

    reason: str
    snapshot: StorageSnapshotView | None = None


class StorageLeftover(msgspec.Struct, frozen=True, kw_only=True):
    """What a call that died has left in a pool, and what repair does with it ("": it cannot be repaired).

    problem: why it is still there.
    """

    pool: str
    what: str
    remedy: str = ""
    problem: str = ""


class StoragePoolProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that could not be looked at, and why."""

    pool: str
    problem: str


class StorageLeftovers(msgspec.Struct, frozen=True, kw_only=True):
    """What repair finds in the pools that all nodes share."""

    leftovers: tuple[StorageLeftover, ...]
    problems: tuple[StoragePoolProblem, ...] = ()


class StorageRepair(msgspec.Struct, frozen=True, kw_only=True):
    """What repair has done, in a sentence, what there was, and what is still there."""

    reason: str
    repaired: tuple[StorageLeftover, ...]
    left: tuple[StorageLeftover, ...]
    problems: tuple[StoragePoolProblem, ...] = ()


class StorageRepairOrder(ApiBody, frozen=True, kw_only=True):
    """Nothing further is needed to repair."""


class NewStorageVolume(ApiBody, frozen=True, kw_only=True):
    """A volume to make."""

    name: str
    size_bytes: SizeBytes


class StorageVolumeSize(ApiBody, frozen=True, kw_only=True):
    """How large a volume is to be."""

    size_bytes: SizeBytes


class StorageName(ApiBody, frozen=True, kw_only=True):
    """How something is to be called."""

    name: str


class StorageProtection(ApiBody, frozen=True, kw_only=True):
    """Whether a snapshot is to be kept from being removed."""

    protected: bool = True


class StorageRollback(ApiBody, frozen=True, kw_only=True):
    """Nothing further is needed to go back to a snapshot."""


def volume_view(volume: Volume, vm: str = "") -> StorageVolumeView:
    """A volume as the API shows it."""
    return StorageVolumeView(
        pool=volume.pool, name=volume.name, size_bytes=volume.size_bytes, used_bytes=volume.used_bytes, vm=vm
    )


def snapshot_view(snapshot: Snapshot) -> StorageSnapshotView:
    """A snapshot as the API shows it."""
    return StorageSnapshotView(name=snapshot.name, size_bytes=snapshot.size_bytes, protected=snapshot.protected)
