# SPDX-License-Identifier: Apache-2.0
"""memory_storage: storage in memory that all nodes share, with every capability: what a test needs instead of Ceph.

    storage = MemoryStorage({"vms": 2**30})
    registry = registry_of(storage.entry())
    backend = storage.open(StorageSite("hv1"))

A backend is what one node sees of the storage. It passes `pvc_core.testing.storage_suite`, as every backend does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_core.storage import (
    PoolUsage,
    Snapshot,
    StorageBackendEntry,
    StorageCapability,
    StorageHealth,
    StorageSite,
    Volume,
    check_volume_name,
    check_volume_size,
)

MIB = 2**20
CHUNK_BYTES = 64 * 1024


@dataclass
class Kept:
    """A snapshot and what the volume held. What is not in `data` reads as zeros."""

    size_bytes: int
    data: bytes
    protected: bool = False

    def named(self, name: str) -> Snapshot:
        """The snapshot as a backend shows it."""
        return Snapshot(name, self.size_bytes, self.protected)


@dataclass
class Held:
    """A volume of the storage. What is not in `data` reads as zeros; snapshots are oldest first."""

    size_bytes: int
    data: bytes = b""
    snapshots: dict[str, Kept] = field(default_factory=dict)


class MemoryStorage:
    """Pools with a size each, reserved in full by the volumes in them. Shared by the backends that it opens.

    client: how a node sees it. capabilities: what these backends name. unit_bytes: sizes are multiples of it.
    """

    def __init__(
        self,
        pools: Mapping[str, int] | None = None,
        *,
        client: type[MemoryBackend] | None = None,
        capabilities: Collection[StorageCapability] = tuple(StorageCapability),
        unit_bytes: int = 1,
        name: str = "memory",
    ) -> None:
        self.name = name
        self.capabilities = frozenset(capabilities)
        self.unit_bytes = unit_bytes
        self.pool_bytes = dict(pools or {"pool": 64 * MIB})
        self.lock = threading.RLock()
        self.held: dict[str, dict[str, Held]] = {pool: {} for pool in self.pool_bytes}
        self.in_use: set[tuple[str, str]] = set()
        """Pool and name of the volumes that a guest has open, by `attached`."""
        self.shut_out: set[str] = set()
        self.fenced: Counter[str] = Counter()
        """How often a node has been shut out: the clients that it had then stay out for ever."""
        self._client = client or MemoryBackend

    def entry(self) -> StorageBackendEntry:
        """The backend as a plugin registers it."""
        return StorageBackendEntry(self.name, "volumes in memory", self.open, plugin=self.name)

    def open(self, site: StorageSite) -> MemoryBackend:
        """What the node of this site sees of the storage."""
        return self._client(self, site)

    @contextmanager
    def attached(self, volume: Volume) -> Iterator[None]:
        """As long as this lasts, a guest uses the volume."""
        used = (volume.pool, volume.name)
        self.in_use.add(used)
        try:
            yield
        finally:
            self.in_use.discard(used)


class MemoryBackend:
    """One node's view of a `MemoryStorage`; implements `StorageBackend` and the Protocols of all capabilities."""

    def __init__(self, storage: MemoryStorage, site: StorageSite) -> None:
        self.storage = storage
        self.node = site.node
        self._started_after = storage.fenced[site.node]

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """See `StorageBackend`."""
        return self.storage.capabilities

    def health(self) -> StorageHealth:
        """See `StorageBackend`."""
        return StorageHealth(False, f"{self.node} is shut out") if self.is_shut_out() else StorageHealth(True)

    def pools(self) -> tuple[str, ...]:
        """See `StorageBackend`."""
        return tuple(sorted(self.storage.held))

    def is_shared(self, pool: str) -> bool:
        """See `StorageBackend`."""
        self._pool(pool)
        return StorageCapability.SHARED in self.capabilities

    def usage(self, pool: str) -> PoolUsage:
        """See `StorageBackend`."""
        with self.storage.lock:
            taken_bytes = sum(held.size_bytes for held in self._pool(pool).values())
            total_bytes = self.storage.pool_bytes[pool]
        return PoolUsage(total_bytes, total_bytes - taken_bytes)

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        """See `StorageBackend`."""
        with self.storage.lock:
            return tuple(self._shown(pool, name) for name in sorted(self._pool(pool)))

    def volume(self, pool: str, name: str) -> Volume:
        """See `StorageBackend`."""
        with self.storage.lock:
            return self._shown(pool, name)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """See `StorageBackend`."""
        with self._writing():
            check_volume_size(size_bytes)
            self._check_free(pool, name)
            rounded_bytes = self._rounded(size_bytes)
            self._check_room(pool, rounded_bytes)
            self._pool(pool)[name] = Held(rounded_bytes)
            return self._shown(pool, name)

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """See `StorageBackend`."""
        with self._writing():
            held = self.held(pool, name)
            self._check_free(pool, new_name)
            self._pool(pool)[new_name] = held
            del self._pool(pool)[name]
            return self._shown(pool, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        """See `StorageBackend`."""
        with self._writing():
            if self.held(pool, name).snapshots:
                raise Refused(f"volume {name}", "has snapshots")
            self._check_unused(pool, name)
            del self._pool(pool)[name]

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        """See `StorageBackend`."""
        self.volume(pool, name)
        source = quoteattr(f"{self.storage.name}/{pool}/{name}")
        return (
            f"<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
            f"<source protocol='rbd' name={source}/><target dev={quoteattr(device)} bus='virtio'/></disk>"
        )

    # --------------------------------------------------------------------------- resize, clone, contents

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """See `ResizesVolumes`."""
        with self._writing():
            held = self.held(pool, name)
            if size_bytes < held.size_bytes:
                raise InvalidInput("size_bytes", f"the volume has {held.size_bytes} already", str(size_bytes))
            rounded_bytes = self._rounded(size_bytes)
            self._check_room(pool, rounded_bytes - held.size_bytes)
            held.size_bytes = rounded_bytes
            return self._shown(pool, name)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """See `ClonesVolumes`."""
        with self._writing():
            held = self.held(pool, name)
            self._check_free(pool, new_name)
            self._check_room(pool, held.size_bytes)
            self._pool(pool)[new_name] = Held(held.size_bytes, held.data)
            return self._shown(pool, new_name)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        """See `MovesContents`."""
        size_bytes = self.volume(pool, name).size_bytes
        self._check_unused(pool, name)
        data = bytearray()
        # Without the lock: a source may be a slow network, and other volumes cannot wait for it.
        while chunk := source.read(CHUNK_BYTES):
            if len(data) + len(chunk) > size_bytes:
                raise Refused(f"volume {name}", f"holds {size_bytes} bytes, and more are uploaded")
            data += chunk
            report(len(data))
        with self._writing():
            held = self.held(pool, name)
            held.data = bytes(data) + held.data[len(data) :]
            return self._shown(pool, name)

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        """See `MovesContents`."""
        with self.storage.lock:
            held = self.held(pool, name)
            data = held.data.ljust(held.size_bytes, b"\0")
        for begin in range(0, len(data), CHUNK_BYTES):
            chunk = data[begin : begin + CHUNK_BYTES]
            target.write(chunk)
            report(begin + len(chunk))

    # ------------------------------------------------------------------------------------------ snapshots

    def snapshots(self, pool: str, volume: str) -> tuple[Snapshot, ...]:
        """See `SnapshotsVolumes`."""
        with self.storage.lock:
            return tuple(kept.named(name) for name, kept in self.held(pool, volume).snapshots.items())

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        """See `SnapshotsVolumes`."""
        with self._writing():
            held = self.held(pool, volume)
            check_volume_name(name)
            if name in held.snapshots:
                raise AlreadyExists("snapshot", name)
            held.snapshots[name] = Kept(held.size_bytes, held.data)
            return held.snapshots[name].named(name)

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        """See `SnapshotsVolumes`."""
        with self._writing():
            kept, held = self.kept(pool, volume, name), self.held(pool, volume)
            check_volume_name(new_name, "new_name")
            if new_name in held.snapshots:
                raise AlreadyExists("snapshot", new_name)
            # Built anew, so that it keeps its place among older and younger ones.
            held.snapshots = {new_name if each == name else each: found for each, found in held.snapshots.items()}
            return kept.named(new_name)

    def protect_snapshot(self, pool: str, volume: str, name: str, protected: bool) -> Snapshot:
        """See `SnapshotsVolumes`."""
        with self._writing():
            kept = self.kept(pool, volume, name)
            kept.protected = protected
            return kept.named(name)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        """See `SnapshotsVolumes`."""
        with self._writing():
            held, kept = self.held(pool, volume), self.kept(pool, volume, name)
            self._check_unused(pool, volume)
            self._check_room(pool, kept.size_bytes - held.size_bytes)
            held.size_bytes, held.data = kept.size_bytes, kept.data
            return self._shown(pool, volume)

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        """See `SnapshotsVolumes`."""
        with self._writing():
            if self.kept(pool, volume, name).protected:
                raise Refused(f"snapshot {name} of {volume}", "is protected")
            del self.held(pool, volume).snapshots[name]

    # ------------------------------------------------------------------------------------------- fencing

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        """See `FencesClients`."""
        with self.storage.lock:
            if request.node not in self.storage.shut_out:
                self.storage.shut_out.add(request.node)
                self.storage.fenced[request.node] += 1
        return FenceVerdict(True, f"no client of {request.node} can write to {self.storage.name}")

    def admit_clients(self, request: FenceRequest) -> None:
        """See `FencesClients`."""
        with self.storage.lock:
            self.storage.shut_out.discard(request.node)

    def is_shut_out(self) -> bool:
        """This node is fenced, or has been since this client began."""
        storage = self.storage
        with storage.lock:
            return self.node in storage.shut_out or self._started_after != storage.fenced[self.node]

    # --------------------------------------------------------------------------------------------- parts

    def held(self, pool: str, name: str) -> Held:
        """What the storage has of a volume. Raises `NotFound`."""
        volumes = self._pool(pool)
        if name not in volumes:
            raise NotFound("volume", name)
        return volumes[name]

    def kept(self, pool: str, volume: str, name: str) -> Kept:
        """What the storage has of a snapshot. Raises `NotFound`."""
        snapshots = self.held(pool, volume).snapshots
        if name not in snapshots:
            raise NotFound("snapshot", name, tuple(snapshots))
        return snapshots[name]

    def _pool(self, pool: str) -> dict[str, Held]:
        if pool not in self.storage.held:
            raise NotFound("pool", pool, self.pools())
        return self.storage.held[pool]

    def _shown(self, pool: str, name: str) -> Volume:
        size_bytes = self.held(pool, name).size_bytes
        return Volume(pool, name, size_bytes, used_bytes=size_bytes)

    def _rounded(self, size_bytes: int) -> int:
        unit_bytes = self.storage.unit_bytes
        return -(-size_bytes // unit_bytes) * unit_bytes

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self.storage.lock:
            if self.is_shut_out():
                raise Refused(f"node {self.node}", "is shut out of the storage")
            yield

    def _check_free(self, pool: str, name: str) -> None:
        check_volume_name(name)
        if name in self._pool(pool):
            raise AlreadyExists("volume", name)

    def _check_room(self, pool: str, more_bytes: int) -> None:
        free_bytes = self.usage(pool).free_bytes
        if more_bytes > free_bytes:
            raise Refused(f"pool {pool}", f"{more_bytes} bytes are wanted, {free_bytes} are free")

    def _check_unused(self, pool: str, name: str) -> None:
        if (pool, name) in self.storage.in_use:
            raise Refused(f"volume {name}", "is in use")
