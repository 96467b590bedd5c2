# SPDX-License-Identifier: Apache-2.0
"""backend: volumes as qcow2 images in folders; whatever ends a call leaves the old state or the new one.

What is new is made under a name of PVC's own in the pool's folder and gets its name when it is whole. Nothing is
changed in place but where qemu-img itself does so safely.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import quoteattr

from pvc_core.errors import NotFound, PluginError
from pvc_core.storage import (
    PoolUsage,
    StorageCapability,
    StorageHealth,
    Volume,
    check_volume_size,
)
from pvc_storage_backends.directory.folders import PoolFolder, put_in_place, settle
from pvc_storage_backends.directory.images import Images
from pvc_storage_backends.directory.locks import locked

LOOKS_AT_ONCE = 4
SECTOR_BYTES = 512
BLOCK_BYTES = 512
"""What st_blocks counts."""


class DirectoryBackend:
    """The pools of one host; implements `StorageBackend`."""

    def __init__(self, folders: Iterable[PoolFolder], images: Images) -> None:
        self._folders = {folder.name: folder for folder in folders}
        self._images = images

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """See `StorageBackend`."""
        shared = all(folder.is_shared for folder in self._folders.values())
        return frozenset({StorageCapability.SHARED} if shared else ())

    def health(self) -> StorageHealth:
        """See `StorageBackend`."""
        pools = (f"pool {each.name}: {problem}" for each in self._folders.values() if (problem := each.problem()))
        problems = [*filter(None, [self._images.problem()]), *pools]
        return StorageHealth(not problems, "; ".join(problems))

    def pools(self) -> tuple[str, ...]:
        """See `StorageBackend`."""
        return tuple(sorted(self._folders))

    def is_shared(self, pool: str) -> bool:
        """See `StorageBackend`."""
        return self._folder(pool).is_shared

    def usage(self, pool: str) -> PoolUsage:
        """See `StorageBackend`."""
        return self._folder(pool).usage()

    # ------------------------------------------------------------------------------------------- volumes

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        """See `StorageBackend`. What qemu-img cannot read is left out: only a volume by its name says why."""
        folder = self._folder(pool)

        def look(name: str) -> Volume | None:
            with suppress(NotFound, PluginError):  # removed meanwhile, or no image
                return self._shown(folder, name)
            return None

        with ThreadPoolExecutor(LOOKS_AT_ONCE) as threads:
            return tuple(filter(None, threads.map(look, folder.names())))

    def volume(self, pool: str, name: str) -> Volume:
        """See `StorageBackend`."""
        folder = self._folder(pool)
        folder.existing(name)
        return self._shown(folder, name)

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """See `StorageBackend`."""
        folder = self._folder(pool)
        image = folder.image(name)
        check_volume_size(size_bytes)
        rounded_bytes = _rounded(size_bytes)
        folder.check_room(rounded_bytes)
        with locked(folder.lock, name), folder.new() as made:
            folder.check_free(name)
            self._images.create(made, rounded_bytes)
            put_in_place(made, image)
            return self._shown(folder, name)

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """See `StorageBackend`."""
        folder = self._folder(pool)
        image = folder.image(new_name)
        folder.existing(name)
        with locked(folder.lock, name, new_name):
            former = folder.existing(name)
            folder.check_free(new_name)
            self._images.check_unused(former)
            put_in_place(former, image)
            return self._shown(folder, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        """See `StorageBackend`."""
        folder = self._folder(pool)
        folder.existing(name)
        with locked(folder.lock, name):
            image = folder.existing(name)
            self._images.check_unused(image)
            os.unlink(image)
            settle(folder.path)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        """See `StorageBackend`."""
        image = self._folder(pool).existing(name)
        return (
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file={quoteattr(str(image))}/><target dev={quoteattr(device)} bus='virtio'/></disk>"
        )

    # --------------------------------------------------------------------------------------------- parts

    def _folder(self, pool: str) -> PoolFolder:
        if pool not in self._folders:
            raise NotFound("pool", pool, self.pools())
        return self._folders[pool]

    def _shown(self, folder: PoolFolder, name: str) -> Volume:
        image = folder.image(name)
        size_bytes = self._images.describe(image).virtual_size
        return Volume(folder.name, name, size_bytes, _used_bytes(image))


def _used_bytes(image: Path) -> int:
    return os.lstat(image).st_blocks * BLOCK_BYTES


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES
