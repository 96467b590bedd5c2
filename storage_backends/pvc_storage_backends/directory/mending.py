# SPDX-License-Identifier: Apache-2.0
"""mending: what calls that were killed have left in a pool's folder, which of it is of no use, and how it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pvc_core.errors import NotFound, PluginError
from pvc_core.sizes import size_words
from pvc_core.storage import Leftover
from pvc_storage_backends.directory.folders import LAYER, NEW, SUFFIX, PoolFolder, settle
from pvc_storage_backends.directory.images import Images
from pvc_storage_backends.directory.layers import NOTE_SUFFIX, layers_of, note_path
from pvc_storage_backends.directory.locks import repairing

REMOVED = "the file is removed"


@dataclass(frozen=True)
class _State:
    """Files of PVC's own that nothing needs, with a sentence each, and volumes that qemu-img cannot read."""

    unneeded: dict[Path, str]
    unreadable: dict[str, str]

    def leftovers(self, pool: str) -> tuple[Leftover, ...]:
        return (*(Leftover(pool, what, REMOVED) for what in self.unneeded.values()), *self.damage(pool))

    def damage(self, pool: str) -> tuple[Leftover, ...]:
        """What no mending helps."""
        return tuple(
            Leftover(pool, f"volume {name} cannot be read", problem=reason) for name, reason in self.unreadable.items()
        )


def look_over(folder: PoolFolder, images: Images) -> tuple[Leftover, ...]:
    """What a pool has that nothing needs. Waits until nobody works in it; raises `Refused` when somebody goes on."""
    folder.be_there()
    with repairing(folder.lock):
        return _state(folder, images).leftovers(folder.name)


def mend(folder: PoolFolder, images: Images) -> tuple[Leftover, ...]:
    """Remove what nothing needs; what is wrong still. Raises as `look_over`."""
    folder.be_there()
    with repairing(folder.lock):
        state = _state(folder, images)
        for file in state.unneeded:
            file.unlink(missing_ok=True)
        settle(folder.path)
        return state.damage(folder.name)


def _state(folder: PoolFolder, images: Images) -> _State:
    needed: set[Path] = set()
    unreadable: dict[str, str] = {}
    for name in folder.names():
        try:
            needed.update(layer.image for layer in layers_of(folder.image(name), images))
        except (PluginError, NotFound) as error:
            unreadable[name] = error.sentence()
    # Which layers a volume needs that cannot be read, nobody knows: none is given up then.
    return _State(dict(_unneeded(folder.path, None if unreadable else needed)), unreadable)


def _unneeded(path: Path, needed: set[Path] | None) -> Iterator[tuple[Path, str]]:
    for file in sorted(path.iterdir()):
        if file.name.startswith((NEW, f"{LAYER}new-")):
            yield _described(file, "was being made by a call that was ended")
        elif needed is None or not file.name.startswith(LAYER):
            continue
        elif file.suffix == SUFFIX and file not in needed:
            yield _described(file, "belongs to a snapshot that no volume has")
        elif file.suffix == NOTE_SUFFIX and file not in {note_path(each) for each in needed}:
            yield _described(file, "names a snapshot that no volume has")


def _described(file: Path, what: str) -> tuple[Path, str]:
    return file, f"{file.name}, which takes {size_words(os.lstat(file).st_blocks * 512)}, {what}"
