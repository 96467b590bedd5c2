# SPDX-License-Identifier: Apache-2.0
"""images: what is done with an image file, by qemu-img: always as qcow2, so that nothing a guest writes is believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import msgspec

from pvc_core.child_process import CommandFailed, run
from pvc_core.errors import NotFound, PluginError, Refused
from pvc_storage_backends.directory.folders import SLOWEST_BYTES_PER_S
from pvc_storage_backends.directory.users import users_of

PLUGIN = "directory"
PROGRAM = "qemu-img"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
LOOK_DEADLINE_S = 20.0
CHANGE_DEADLINE_S = 60.0
REMEMBERED = 10_000
SECTOR_BYTES = 512
_LOCKED = "Is another process using the image"
_FULL = "No space left on device"

Mark = tuple[int, int, int, int]


class Description(msgspec.Struct, rename="kebab", frozen=True):
    """What qemu-img says of an image, as far as it matters here."""

    virtual_size: int
    backing_filename: str = ""


class Images:
    """qemu-img, looked for in some folders. Thread-safe.

    Every method raises `Refused` while something else has the image, when there is no room and without qemu-img, and
    `PluginError` where qemu-img fails otherwise.
    """

    def __init__(self, programs: Sequence[str]) -> None:
        self._programs = tuple(programs)
        self._lock = Lock()
        self._known: dict[Path, tuple[Mark, Description]] = {}

    def problem(self) -> str:
        """Why nothing can be done with images; "" when all is well."""
        if shutil.which(PROGRAM, path=os.pathsep.join(self._programs)):
            return ""
        return f"there is no {PROGRAM} in {' or '.join(self._programs)}: install it, on Debian the package qemu-utils"

    # ------------------------------------------------------------------------------------------- looking

    def describe(self, image: Path) -> Description:
        """An image, also while a guest has it. Asked again only when the file has changed. Raises `NotFound`."""
        try:
            state = os.lstat(image)
        except FileNotFoundError as error:
            raise NotFound("volume", image.stem) from error
        mark = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns, state.st_size)
        with self._lock:
            known = self._known.get(image)
        if known and known[0] == mark:
            return known[1]
        answer = self._ask(image, LOOK_DEADLINE_S, "info", "--force-share", "--output=json", "-f", "qcow2", str(image))
        description = msgspec.json.decode(answer, type=Description)
        with self._lock:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[image] = (mark, description)
        return description

    def check_unused(self, image: Path) -> None:
        """Raises `Refused` while a guest or anything else may write to the image, by name where that is known."""
        self._ask(image, LOOK_DEADLINE_S, "info", "-f", "qcow2", str(image))

    # ------------------------------------------------------------------------------------------ changing

    def create(self, image: Path, size_bytes: int) -> None:
        """A new image that reads as zeros."""
        self._ask(image, CHANGE_DEADLINE_S, "create", "-q", "-f", "qcow2", str(image), str(size_bytes))

    def create_above(self, image: Path, below: str, size_bytes: int) -> None:
        """A new image that reads as another one of the same folder, which from now on must not change."""
        arguments = ["-q", "-f", "qcow2", "-b", below, "-F", "qcow2", str(image), str(size_bytes)]
        self._ask(image, CHANGE_DEADLINE_S, "create", *arguments)

    def put_on(self, image: Path, below: str) -> None:
        """Have an image stand on another one than it does, or on none (""), with the same contents as before."""
        on = ["-F", "qcow2", "-b", below] if below else ["-b", ""]
        self._ask(image, self._copying_s(image), "rebase", "-q", "-f", "qcow2", *on, str(image))

    def resize(self, image: Path, size_bytes: int) -> None:
        """Make an image larger."""
        self._ask(image, CHANGE_DEADLINE_S, "resize", "-q", "-f", "qcow2", str(image), str(size_bytes))

    def copy(self, image: Path, made: Path) -> None:
        """A new image with the same contents, which stands on no other."""
        self._ask(image, self._copying_s(image), "convert", "-f", "qcow2", "-O", "qcow2", str(image), str(made))

    # ------------------------------------------------------------------------------------------ contents

    def copy_out(self, image: Path, begin_bytes: int, length_bytes: int, file: Path) -> None:
        """Write a part of the contents, whole sectors, to a file; what it held is gone."""
        part = _part(image, begin_bytes, length_bytes)
        self._ask(image, CHANGE_DEADLINE_S, "convert", "--image-opts", "-O", "raw", part, str(file))

    def copy_in(self, file: Path, image: Path, begin_bytes: int, length_bytes: int) -> None:
        """Write a file, whole sectors, into the contents."""
        part = _part(image, begin_bytes, length_bytes)
        self._ask(image, CHANGE_DEADLINE_S, "convert", "-n", "-f", "raw", "--target-image-opts", str(file), part)

    # --------------------------------------------------------------------------------------------- parts

    def _copying_s(self, image: Path) -> float:
        return CHANGE_DEADLINE_S + self.describe(image).virtual_size / SLOWEST_BYTES_PER_S

    def _ask(self, image: Path, deadline_s: float, command: str, *arguments: str) -> bytes:
        program = shutil.which(PROGRAM, path=os.pathsep.join(self._programs))
        if program is None:
            raise Refused(f"storage backend {PLUGIN}", self.problem())
        try:
            ended = run([program, command, *arguments], b"", deadline_s, ENVIRONMENT)
        except CommandFailed as error:
            raise PluginError(PLUGIN, f"{PROGRAM} {command} {error}") from error
        if ended.status == 0:
            return ended.answer
        if _LOCKED in ended.complaint:
            raise Refused(f"volume {image.stem}", f"is in use by {users_of(image) or 'something on another host'}")
        if _FULL in ended.complaint:
            raise Refused(f"folder {image.parent}", "is full")
        raise PluginError(PLUGIN, f"{PROGRAM} {command} ended with {ended.how}: {ended.complaint}")


def rounded(size_bytes: int) -> int:
    """The size of an image that has room for this."""
    return -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES


def _part(image: Path, begin_bytes: int, length_bytes: int) -> str:
    """A part of an image's contents, as qemu-img is told of it."""
    name = str(image).replace(",", ",,")
    return (
        f"driver=raw,offset={begin_bytes},size={length_bytes},"
        f"file.driver=qcow2,file.file.driver=file,file.file.filename={name}"
    )
