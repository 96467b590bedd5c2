# SPDX-License-Identifier: Apache-2.0
"""storage: what a storage backend is asked: volumes in pools, and how a guest's disk is attached to one.

What a backend can do beyond volumes it says in `capabilities`, and implements the Protocol that belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pvc_core.plugin_types import NO_OPTIONS, PluginOptions

StorageCapability = Literal["resize", "clone", "snapshots", "shared", "fence-clients"]
"""shared: every node reaches the same volumes, so that their VMs can migrate without copying storage."""


@dataclass(frozen=True)
class Volume:
    """A volume of a pool: how large it is to the guest, and what it takes in the pool (None: unknown)."""

    pool: str
    name: str
    size_bytes: int
    used_bytes: int | None = None


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
    """Volumes of one kind, as seen from one host. Errors are `PvcError`s: `NotFound`, `AlreadyExists`, `Refused`."""

    @property
    def capabilities(self) -> frozenset[StorageCapability]: ...

    def health(self) -> StorageHealth: ...

    def pools(self) -> tuple[str, ...]:
        """The pools that volumes can be made in, sorted."""

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        """The volumes of a pool by name. Raises `NotFound` when there is no such pool."""

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """A new, empty volume. Raises `AlreadyExists`, `NotFound` (pool), `Refused` when the pool has no room."""

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """The volume under another name in its pool. Raises `NotFound`, `AlreadyExists`."""

    def remove_volume(self, pool: str, name: str) -> None:
        """Delete a volume and what is in it. Raises `NotFound`, `Refused` while something uses it."""

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        """Libvirt's `<disk>` element that attaches the volume as guest device `vda`, `vdb` ... Raises `NotFound`."""


@dataclass(frozen=True)
class StorageBackendEntry:
    """A storage backend by name; `open` builds it for a host without connecting."""

    name: str
    summary: str
    open: Callable[[StorageSite], StorageBackend]
    plugin: str = ""
