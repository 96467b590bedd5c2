# SPDX-License-Identifier: Apache-2.0
"""mending: what calls that were killed have left in a pool's folder, which of it is of no use, and how it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pvc_core.errors import NotFound, PluginError
from pvc_storage_backends.directory.folders import LAYER, NEW, SUFFIX, PoolFolder, settle
from pvc_storage_backends.directory.images import Images
from pvc_storage_backends.directory.layers import NOTE_SUFFIX, layers_of, note_path
from pvc_storage_backends.directory.locks import repairing


@dataclass(frozen=True)
class Leftover:
    """A file of PVC's own that nothing needs. what: a sentence for the operator."""

    file: str
    what: str
    used_bytes: int


@dataclass(frozen=True)
class PoolState:
    """What is wrong in a pool. unreadable: volumes that qemu-img cannot read, with its reason."""

    leftovers: tuple[Leftover, ...]
    unreadable: dict[str, str]


def look_over(folder: PoolFolder, images: Images) -> PoolState:
    """What a pool has that nothing needs. Waits until nobody works in it; raises `Refused` when somebody goes on."""
    folder.be_there()
    with repairing(folder.lock):
        return _state(folder, images)


def mend(folder: PoolFolder, images: Images) -> PoolState:
    """Remove what nothing needs; what there was."""
    folder.be_there()
    with repairing(folder.lock):
        state = _state(folder, images)
        for leftover in state.leftovers:
            (folder.path / leftover.file).unlink(missing_ok=True)
        settle(folder.path)
        return state


def _state(folder: PoolFolder, images: Images) -> PoolState:
    needed: set[Path] = set()
    unreadable: dict[str, str] = {}
    for name in folder.names():
        try:
            needed.update(layer.image for layer in layers_of(folder.image(name), images))
        except (PluginError, NotFound) as error:
            unreadable[name] = error.sentence()
    # Which layers a volume needs that cannot be read, nobody knows: none is given up then.
    return PoolState(tuple(_leftovers(folder.path, None if unreadable else needed)), unreadable)


def _leftovers(path: Path, needed: set[Path] | None) -> Iterator[Leftover]:
    for file in sorted(path.iterdir()):
        if file.name.startswith((NEW, f"{LAYER}new-")):
            yield _leftover(file, "was being made by a call that was ended")
        elif needed is None or not file.name.startswith(LAYER):
            continue
        elif file.suffix == SUFFIX and file not in needed:
            yield _leftover(file, "belongs to a snapshot that no volume has")
        elif file.suffix == NOTE_SUFFIX and file not in {note_path(each) for each in needed}:
            yield _leftover(file, "names a snapshot that no volume has")


def _leftover(file: Path, what: str) -> Leftover:
    return Leftover(file.name, what, os.lstat(file).st_blocks * 512)
