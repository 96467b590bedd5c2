# SPDX-License-Identifier: Apache-2.0
"""layers: a volume's snapshots: read-only images below it, each with a note of its name.

To take a snapshot is to keep the volume's image as a layer, and to put an empty image on top of it under the volume's
name. Which snapshots a volume has is thus written in its own image, in one place, and moves with it; a note says no
more than what a layer is called and whether it may be removed. Layers and notes have names that never change.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import msgspec

from pvc_core.errors import AlreadyExists, NotFound, Refused
from pvc_core.storage import Snapshot
from pvc_storage_backends.directory.folders import LAYER, SUFFIX, PoolFolder, put_in_place, settle
from pvc_storage_backends.directory.images import Images

_LAYER = re.compile(re.escape(LAYER) + r"[0-9a-f]{32}" + re.escape(SUFFIX))
NOTE_SUFFIX = ".json"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Note(msgspec.Struct, frozen=True):
    """What is written beside a layer."""

    name: str
    protected: bool = False


@dataclass(frozen=True)
class Layer:
    """What a snapshot keeps. note: None when somebody has taken it away."""

    image: Path
    size_bytes: int
    note: Note | None

    @property
    def name(self) -> str:
        """Of the snapshot; of one without a note, what there is to tell it by."""
        return self.note.name if self.note else self.image.stem.removeprefix(LAYER)

    @property
    def is_protected(self) -> bool:
        """Whether it may not be removed."""
        return self.note is not None and self.note.protected

    @property
    def shown(self) -> Snapshot:
        """As the backend shows it."""
        return Snapshot(self.name, self.size_bytes, self.is_protected)


def layers_of(image: Path, images: Images) -> tuple[Layer, ...]:
    """The layers below a volume's image, the oldest first."""
    found: list[Layer] = []
    below = images.describe(image).backing_filename
    while _LAYER.fullmatch(below):
        layer = image.parent / below
        description = images.describe(layer)
        found.append(Layer(layer, description.virtual_size, _note_of(layer)))
        below = description.backing_filename
    return tuple(reversed(found))


def layer_called(layers: Sequence[Layer], name: str) -> Layer:
    """The one of this name. Raises `NotFound`."""
    for layer in layers:
        if layer.name == name:
            return layer
    raise NotFound("snapshot", name, tuple(layer.name for layer in layers))


def check_unnamed(layers: Sequence[Layer], name: str) -> None:
    """Raises `AlreadyExists` when a snapshot has this name."""
    if any(layer.name == name for layer in layers):
        raise AlreadyExists("snapshot", name)


def keep(folder: PoolFolder, image: Path, name: str, images: Images) -> Layer:
    """Make what the volume's image holds a layer below it. What is written from now on goes into a new image."""
    layer = folder.path / f"{LAYER}{uuid4().hex}{SUFFIX}"
    size_bytes = images.describe(image).virtual_size
    try:
        write_note(layer, Note(name))
        _link(image, layer)
        with folder.new() as made:
            images.create_above(made, layer.name, size_bytes)
            settle(image)
            put_in_place(made, image)
    except BaseException:
        if not layer.exists() or layer.samefile(image):  # otherwise the volume stands on it already
            layer.unlink(missing_ok=True)
            note_path(layer).unlink(missing_ok=True)
        raise
    return Layer(layer, size_bytes, Note(name))


def drop(image: Path, layers: Sequence[Layer], layer: Layer, images: Images) -> None:
    """Take a layer out from below a volume: what lies on it gets what it needs of it, and no contents change."""
    at = layers.index(layer)
    above = layers[at + 1].image if at + 1 < len(layers) else image
    images.put_on(above, images.describe(layer.image).backing_filename)
    settle(above)
    layer.image.unlink()
    note_path(layer.image).unlink(missing_ok=True)
    settle(image.parent)


def write_note(layer: Path, note: Note) -> None:
    """Replace the note of a layer."""
    made = layer.with_name(layer.name.replace(LAYER, f"{LAYER}new-")).with_suffix(NOTE_SUFFIX)
    made.write_bytes(msgspec.json.encode(note))
    put_in_place(made, note_path(layer))


def note_path(layer: Path) -> Path:
    """Where the note of a layer is."""
    return layer.with_suffix(NOTE_SUFFIX)


def _note_of(layer: Path) -> Note | None:
    try:
        return msgspec.json.decode(note_path(layer).read_bytes(), type=Note)
    except FileNotFoundError:
        return None


def _link(image: Path, layer: Path) -> None:
    try:
        os.link(image, layer)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise Refused(f"folder {image.parent}", "its file system has no hard links, which snapshots need") from error
