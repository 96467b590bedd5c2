# SPDX-License-Identifier: Apache-2.0
"""backend: volumes as qcow2 images in folders; whatever ends a call leaves the old state or the new one.

What is new is made under a name of PVC's own in the pool's folder and gets its name when it is whole. Nothing is
changed in place but where qemu-img itself does so safely.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

from pvc_core.errors import InvalidInput, NotFound, PluginError, Refused
from pvc_core.storage import (
    Leftover,
    PoolUsage,
    Snapshot,
    StorageCapability,
    StorageHealth,
    Volume,
    check_volume_name,
    check_volume_size,
)
from pvc_storage_backends.directory.contents import fill, pour
from pvc_storage_backends.directory.folders import PoolFolder, copy_file, put_in_place, settle
from pvc_storage_backends.directory.images import Images, rounded
from pvc_storage_backends.directory.layers import (
    Note,
    check_unnamed,
    drop,
    keep,
    layer_called,
    layers_of,
    write_note,
)
from pvc_storage_backends.directory.locks import locked
from pvc_storage_backends.directory.mending import look_over, mend

CAPABILITIES = frozenset(
    {
        StorageCapability.RESIZE,
        StorageCapability.CLONE,
        StorageCapability.CONTENTS,
        StorageCapability.SNAPSHOTS,
    }
)
"""Of every pool; SHARED comes to them where all pools are."""
LOOKS_AT_ONCE = 4
BLOCK_BYTES = 512
"""What st_blocks counts."""


class DirectoryBackend:
    """The pools of one host; implements `StorageBackend` and the Protocols of its capabilities."""

    def __init__(self, folders: Iterable[PoolFolder], images: Images) -> None:
        self._folders = {folder.name: folder for folder in folders}
        self._images = images

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """See `StorageBackend`."""
        shared = all(folder.is_shared for folder in self._folders.values())
        return CAPABILITIES | ({StorageCapability.SHARED} if shared else frozenset())

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
        rounded_bytes = rounded(size_bytes)
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
        with self._volume(folder, name) as image:
            self._images.check_unused(image)
            if layers := layers_of(image, self._images):
                raise Refused(f"volume {name}", f"has snapshots: {', '.join(layer.name for layer in layers)}")
            os.unlink(image)
            settle(folder.path)

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        """See `StorageBackend`."""
        image = self._folder(pool).existing(name)
        return (
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file={quoteattr(str(image))}/><target dev={quoteattr(device)} bus='virtio'/></disk>"
        )

    # --------------------------------------------------------------------------- resize, clone, contents

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """See `ResizesVolumes`."""
        folder = self._folder(pool)
        with self._volume(folder, name) as image:
            former_bytes = self._images.describe(image).virtual_size
            if size_bytes < former_bytes:
                raise InvalidInput("size_bytes", f"the volume has {former_bytes} already", str(size_bytes))
            rounded_bytes = rounded(size_bytes)
            if rounded_bytes > former_bytes:
                folder.check_room(rounded_bytes - former_bytes)
                self._images.resize(image, rounded_bytes)
                settle(image)
            return self._shown(folder, name)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """See `ClonesVolumes`. A copy in full, which needs its source for nothing."""
        folder = self._folder(pool)
        clone = folder.image(new_name)
        folder.existing(name)
        with locked(folder.lock, new_name, reading=[name]), folder.new() as made:
            image = folder.existing(name)
            folder.check_free(new_name)
            folder.check_room(self._images.describe(image).virtual_size)
            self._images.copy(image, made)
            put_in_place(made, clone)
            return self._shown(folder, new_name)

    def upload_volume(self, pool: str, name: str, source: BinaryIO, report: Callable[[int], None]) -> Volume:
        """See `MovesContents`. What the volume held is there until all has come."""
        folder = self._folder(pool)
        with self._volume(folder, name) as image, folder.new() as made:
            self._images.check_unused(image)
            copy_file(image, made)
            fill(folder, made, name, source, self._images, report)
            self._images.check_unused(image)
            put_in_place(made, image)
            return self._shown(folder, name)

    def download_volume(self, pool: str, name: str, target: BinaryIO, report: Callable[[int], None]) -> None:
        """See `MovesContents`."""
        folder = self._folder(pool)
        folder.existing(name)
        with locked(folder.lock, reading=[name]):
            pour(folder, folder.existing(name), target, self._images, report)

    # ------------------------------------------------------------------------------------------ snapshots

    def snapshots(self, pool: str, volume: str) -> tuple[Snapshot, ...]:
        """See `SnapshotsVolumes`."""
        image = self._folder(pool).existing(volume)
        return tuple(layer.shown for layer in layers_of(image, self._images))

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        """See `SnapshotsVolumes`. Of a volume in use only QEMU itself could take one: that is refused."""
        check_volume_name(name)
        folder = self._folder(pool)
        with self._volume(folder, volume) as image:
            check_unnamed(layers_of(image, self._images), name)
            self._images.check_unused(image)
            return keep(folder, image, name, self._images).shown

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        """See `SnapshotsVolumes`."""
        check_volume_name(new_name, "new_name")
        with self._volume(self._folder(pool), volume) as image:
            layers = layers_of(image, self._images)
            layer = layer_called(layers, name)
            check_unnamed(layers, new_name)
            write_note(layer.image, Note(new_name, layer.is_protected))
            return Snapshot(new_name, layer.size_bytes, layer.is_protected)

    def protect_snapshot(self, pool: str, volume: str, name: str, protected: bool) -> Snapshot:
        """See `SnapshotsVolumes`."""
        with self._volume(self._folder(pool), volume) as image:
            layer = layer_called(layers_of(image, self._images), name)
            write_note(layer.image, Note(name, protected))
            return Snapshot(name, layer.size_bytes, protected)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        """See `SnapshotsVolumes`. To the last snapshot only: those after another would be lost."""
        folder = self._folder(pool)
        with self._volume(folder, volume) as image, folder.new() as made:
            layers = layers_of(image, self._images)
            layer = layer_called(layers, name)
            later = [each.name for each in layers[layers.index(layer) + 1 :]]
            if later:
                raise Refused(f"volume {volume}", f"has later snapshots, to be removed first: {', '.join(later)}")
            self._images.check_unused(image)
            folder.check_room(layer.size_bytes - self._images.describe(image).virtual_size)
            self._images.create_above(made, layer.image.name, layer.size_bytes)
            put_in_place(made, image)
            return self._shown(folder, volume)

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        """See `SnapshotsVolumes`. Takes as long as copying what the snapshot alone has."""
        with self._volume(self._folder(pool), volume) as image:
            layers = layers_of(image, self._images)
            layer = layer_called(layers, name)
            if layer.is_protected:
                raise Refused(f"snapshot {name} of {volume}", "is protected")
            self._images.check_unused(image)
            drop(image, layers, layer, self._images)

    # ------------------------------------------------------------------------------------------- mending

    def leftovers(self, pool: str) -> tuple[Leftover, ...]:
        """See `MendsLeftovers`."""
        return look_over(self._folder(pool), self._images)

    def mend(self, pool: str) -> tuple[Leftover, ...]:
        """See `MendsLeftovers`."""
        return mend(self._folder(pool), self._images)

    # --------------------------------------------------------------------------------------------- parts

    def _folder(self, pool: str) -> PoolFolder:
        if pool not in self._folders:
            raise NotFound("pool", pool, self.pools())
        return self._folders[pool]

    @contextmanager
    def _volume(self, folder: PoolFolder, name: str) -> Iterator[Path]:
        """The image of a volume, which nobody else works on meanwhile. Raises `NotFound`, `Refused`."""
        folder.existing(name)  # before waiting for what does not exist
        with locked(folder.lock, name):
            yield folder.existing(name)

    def _shown(self, folder: PoolFolder, name: str) -> Volume:
        image = folder.image(name)
        size_bytes = self._images.describe(image).virtual_size
        files = [image, *(layer.image for layer in layers_of(image, self._images))]
        return Volume(folder.name, name, size_bytes, sum(os.lstat(file).st_blocks * BLOCK_BYTES for file in files))
