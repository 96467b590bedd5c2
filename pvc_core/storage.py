# SPDX-License-Identifier: Apache-2.0
"""storage: what a storage backend is asked: volumes in pools, and how a guest's disk is attached to one.

Every backend implements `StorageBackend`. What it can do beyond that it names in `capabilities`, and implements the
Protocol that belongs to it in `CAPABILITY_PROTOCOLS`; who needs one of these asks for the capability first.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import BinaryIO, Protocol, runtime_checkable

from pvc_core.errors import InvalidInput, PluginError
from pvc_core.fencing import FenceRequest, FenceVerdict, checked_verdict
from pvc_core.host_secrets import HostSecret
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import NO_OPTIONS, PluginOptions

VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,126}")
FENCE_DEADLINE_S = 60.0
"""After which a backend's answer that a node is shut out does not count any more."""


class StorageCapability(enum.StrEnum):
    """What a backend can do beyond `StorageBackend`, each with its Protocol but for the first.

    SHARED: every node reaches the same volumes, in whichever pool; of one pool `is_shared` says it.
    """

    SHARED = "shared"
    RESIZE = "resize"
    CLONE = "clone"
    CONTENTS = "contents"
    SNAPSHOTS = "snapshots"
    FENCE_CLIENTS = "fence-clients"


@dataclass(frozen=True)
class Volume:
    """A volume of a pool: how large it is to the guest, and what it takes in the pool (None: unknown)."""

    pool: str
    name: str
    size_bytes: int
    used_bytes: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """What a volume held at one moment. protected: it cannot be removed until it is no longer protected."""

    name: str
    size_bytes: int
    protected: bool = False


@dataclass(frozen=True)
class PoolUsage:
    """How large a pool is, and how much of it can still be written, replication taken into account."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class StorageSite:
    """Where a backend works: the node's name ("" outside nodes) and what is configured for its plugin."""

    node: str
    options: PluginOptions = NO_OPTIONS


@dataclass(frozen=True)
class StorageHealth:
    """usable: volumes can be read and written from here now. detail: a sentence for the operator."""

    usable: bool
    detail: str = ""


class StorageBackend(Protocol):
    """Volumes of one kind, as seen from one host. Thread-safe.

    Errors are `PvcError`s: `NotFound` (a pool, a volume), `AlreadyExists`, `InvalidInput` (a name that
    `check_volume_name` refuses, a size), and `Refused` for what makes sense but not now. What is refused has changed
    nothing. Every call returns or raises within a bounded time, also when the storage is away (`StorageUnavailable`).
    A size is what was asked for or more, where the storage has units of its own; it is never less.
    """

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """What it can do beyond the methods below; the same for as long as it lives."""

    def health(self) -> StorageHealth:
        """Whether it can be used from here. Raises nothing: storage that is away is not usable."""

    def pools(self) -> tuple[str, ...]:
        """The pools that volumes can be made in, sorted."""

    def is_shared(self, pool: str) -> bool:
        """Whether every node reaches the same volumes in this pool, so that a VM can migrate without copying them.

        Otherwise they are in reach of the host alone that this is the view of. As it is configured, without a look at
        the storage. Raises `NotFound`.
        """

    def usage(self, pool: str) -> PoolUsage:
        """How full a pool is. Raises `NotFound`."""

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        """The volumes of a pool, sorted by name, in one bulk call. Raises `NotFound` when there is no such pool."""

    def volume(self, pool: str, name: str) -> Volume:
        """One volume. Raises `NotFound`."""

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """A new volume that reads as zeros. Raises `AlreadyExists`, `NotFound` (pool), `InvalidInput`, `Refused`.

        More than the pool's `free_bytes` is refused, also by storage that takes room only for what is written: a
        guest could not fill such a volume on the day it was made. Each volume is looked at by itself, so that thin
        storage may promise more in sum than it has.
        """

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """The volume with its snapshots under another name in its pool: wholly or not at all.

        Raises `NotFound`, `AlreadyExists`, `InvalidInput`.
        """

    def remove_volume(self, pool: str, name: str) -> None:
        """Delete a volume and what is in it. Raises `NotFound`, `Refused` while it is in use or has snapshots.

        Storage whose clones need their source may also refuse while it has clones: see `ClonesVolumes`.
        """

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        """Libvirt's `<disk>` element that attaches the volume as guest device `vda`, `vdb` ... Raises `NotFound`.

        Without an XML declaration, because it is put into a domain's definition.
        """


# ------------------------------------------------------------------------------------------- capabilities


class ResizesVolumes(Protocol):
    """Capability `resize`."""

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """Make a volume larger; what it holds stays. The size that it has is none to complain about.

        Raises `NotFound`, `InvalidInput` for less than it has, which would destroy data, `Refused` without room.
        """


class ClonesVolumes(Protocol):
    """Capability `clone`."""

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """Another volume of the pool with the same contents and no snapshots; its source stays as it is.

        What is written to one is not seen in the other. How the storage shares what they have in common is its own
        affair, and no clone ever loses its contents by it: the source can be removed at any time, or is refused for
        as long as it has clones, by a `Refused` whose reason names each of them. The clone can be removed at any
        time. Snapshots that the storage needs for it are not among those of the source. Raises `NotFound`,
        `AlreadyExists`, `InvalidInput`, `Refused` without room.
        """


class MovesContents(Protocol):
    """Capability `contents`: whole volumes are written and read as streams."""

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        """Fill an existing volume from its beginning; `report` gets the bytes written so far, at last all of them.

        The source may give less than it is asked for until it gives nothing. Raises `NotFound`, `Refused` before it is
        read while somebody has the volume open, and `Refused` when there is more in it than the volume holds. That
        shows only at its end: the volume then keeps its size, but not what it held. So does one whose source raises
        a `PvcError`, which passes: a sender that broke off.
        """

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        """Write all that the volume holds, `size_bytes` of it, to `target`; `report` as for an upload.

        Raises `NotFound`.
        """


class SnapshotsVolumes(Protocol):
    """Capability `snapshots`."""

    def snapshots(self, pool: str, volume: str) -> tuple[Snapshot, ...]:
        """The snapshots of a volume, oldest first. Raises `NotFound`."""

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        """Remember what the volume holds now. Raises `NotFound`, `AlreadyExists`, `InvalidInput`."""

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        """The same snapshot under another name. Raises `NotFound`, `AlreadyExists`, `InvalidInput`."""

    def protect_snapshot(self, pool: str, volume: str, name: str, protected: bool) -> Snapshot:
        """Keep a snapshot from being removed, or no longer. It may be so already. Raises `NotFound`."""

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        """Make the volume hold what it held then, also its size. All of its snapshots stay.

        Raises `NotFound`, `Refused` while the volume is in use, has later snapshots that the storage would lose, or
        was larger then than the room now allows.
        """

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        """Forget a snapshot. Raises `NotFound`, `Refused` while it is protected."""


class FencesClients(Protocol):
    """Capability `fence-clients`: the storage itself can shut a lost node out, which is as good as its power-off."""

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        """Confirmed: nothing that runs on this node can write to any volume, and the locks that it held are free.

        It stays so, also when the node comes back, until `admit_clients`. Idempotent. Other nodes are not affected.
        """

    def admit_clients(self, request: FenceRequest) -> None:
        """Let the node's clients in again, those it starts from now on. No error when they were never shut out."""


@runtime_checkable
class KeepsHostSecrets(Protocol):
    """What a backend may offer besides, whose disks need a secret of libvirt's."""

    def host_secrets(self) -> Sequence[HostSecret]:
        """The secrets that the disks of `disk_xml` name, asked for before each start; they may change."""


@dataclass(frozen=True)
class Leftover:
    """What a call that died has left in a pool. what, remedy: for the operator, what mending does; "": it cannot.

    problem: why it is still there after mending.
    """

    pool: str
    what: str
    remedy: str = ""
    problem: str = ""


@runtime_checkable
class MendsLeftovers(Protocol):
    """What a backend may offer besides, whose calls can leave something when their process dies.

    Nothing of it is ever seen as a volume that holds what it should not. Both raise `NotFound`, and `Refused` while
    somebody works in the pool.
    """

    def leftovers(self, pool: str) -> Sequence[Leftover]:
        """What there is to mend; nothing is changed."""

    def mend(self, pool: str) -> Sequence[Leftover]:
        """Mend it; each call that died is undone or ended. What is still there, with the problem."""


CAPABILITY_PROTOCOLS: Mapping[StorageCapability, type] = MappingProxyType(
    {
        StorageCapability.RESIZE: ResizesVolumes,
        StorageCapability.CLONE: ClonesVolumes,
        StorageCapability.CONTENTS: MovesContents,
        StorageCapability.SNAPSHOTS: SnapshotsVolumes,
        StorageCapability.FENCE_CLIENTS: FencesClients,
    }
)
"""The Protocol that a backend with this capability also implements; SHARED is a fact and needs none."""


@dataclass(frozen=True)
class StorageBackendEntry:
    """A storage backend by name; `open` builds it for a host without connecting."""

    name: str
    summary: str
    open: Callable[[StorageSite], StorageBackend]
    plugin: str = ""


def check_volume_name(name: str, field: str = "name") -> None:
    """Refuse what is no name of a volume or snapshot in every backend: letters, digits and `._+-`, 127 at most.

    Raises `InvalidInput` for `field`.
    """
    if not VOLUME_NAME.fullmatch(name):
        raise InvalidInput(field, "needs letters, digits, '.', '_', '+' or '-', a letter or digit first", name)


def check_volume_size(size_bytes: int) -> None:
    """Refuse a size that no volume can have. Raises `InvalidInput`."""
    if size_bytes <= 0:
        raise InvalidInput("size_bytes", "must be more than 0", str(size_bytes))


def fence_clients(
    entry: StorageBackendEntry,
    fencing: FencesClients,
    request: FenceRequest,
    calls: PluginCalls,
    options: PluginOptions,
) -> FenceVerdict:
    """Ask a backend to shut a lost node out. Fails closed, as `pvc_core.fencing.fence`."""

    def shut_out(request: FenceRequest) -> FenceVerdict:
        return checked_verdict(fencing.fence_clients(request))

    try:
        asked = replace(request, options=options)
        verdict = calls.insist(entry.plugin or entry.name, shut_out, asked, deadline_s=FENCE_DEADLINE_S)
    except PluginError as failure:
        return FenceVerdict(False, f"storage backend {entry.name}: {failure.problem}")
    if not verdict.confirmed:
        return FenceVerdict(False, f"storage backend {entry.name}: {verdict.detail or 'not confirmed'}")
    return verdict
