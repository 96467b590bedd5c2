# SPDX-License-Identifier: Apache-2.0
"""folders: which files of a pool's folder are volumes, which are PVC's own, and which are nobody's business.

A volume `web1` is the regular file `web1.qcow2`, also when somebody else has put it there. What begins with `.pvc-`
is PVC's own. Everything else, symbolic links among it, is never listed, read or changed: no name leads out of the
folder.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pvc_core.child_process import CommandFailed, answer_of
from pvc_core.errors import AlreadyExists, NotFound, Refused
from pvc_core.storage import VOLUME_NAME, PoolUsage, check_volume_name
from pvc_storage_backends.directory.options import DEFAULT_FOLDER, DEFAULT_POOL, Options

SUFFIX = ".qcow2"
OWN = ".pvc-"
NEW = f"{OWN}new-"
"""Begins what is being made; it gets its name when it is whole."""
LAYER = f"{OWN}layer-"
"""Begins what a snapshot keeps: `<LAYER><id>.qcow2` and its name in `<LAYER><id>.json`."""
LOCK = f"{OWN}lock"
COPY_DEADLINE_S = 60.0
SLOWEST_BYTES_PER_S = 5 * 2**20
"""What is copied more slowly than this is given up."""


@dataclass(frozen=True)
class PoolFolder:
    """A pool. is_default: nobody has configured it, so that its folder is made when it is needed."""

    name: str
    path: Path
    is_shared: bool = False
    is_default: bool = False

    def problem(self) -> str:
        """Why it cannot be used; "" when it can."""
        if not self.path.is_dir():
            return "" if self.is_default else f"its folder {self.path} is not there"
        return "" if os.access(self.path, os.R_OK | os.W_OK | os.X_OK) else f"its folder {self.path} is not writable"

    def be_there(self) -> None:
        """Make the folder where that is PVC's affair. Raises `Refused` when it cannot be used."""
        if self.is_default:
            self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        if problem := self.problem():
            raise Refused(f"pool {self.name}", problem)

    def usage(self) -> PoolUsage:
        """Of the file system that the folder is on."""
        self.be_there()
        found = os.statvfs(self.path)
        return PoolUsage(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    # ------------------------------------------------------------------------------------------- volumes

    def image(self, name: str) -> Path:
        """Where the volume of this name is or would be. Raises `InvalidInput` for what is no name."""
        check_volume_name(name)
        return self.path / f"{name}{SUFFIX}"

    def has(self, name: str) -> bool:
        """Whether there is such a volume."""
        return VOLUME_NAME.fullmatch(name) is not None and is_file(self.image(name))

    def existing(self, name: str) -> Path:
        """The file of a volume. Raises `NotFound`."""
        self.be_there()
        if not self.has(name):
            raise NotFound("volume", name)
        return self.image(name)

    def names(self) -> list[str]:
        """The volumes, sorted."""
        self.be_there()
        found = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name.removesuffix(SUFFIX)
                if name != entry.name and VOLUME_NAME.fullmatch(name) and entry.is_file(follow_symlinks=False):
                    found.append(name)
        return sorted(found)

    def check_free(self, name: str) -> None:
        """Raises `AlreadyExists` when there is anything under this name, a volume or not."""
        if os.path.lexists(self.image(name)):
            raise AlreadyExists("volume", name)

    def check_room(self, more_bytes: int) -> None:
        """Raises `Refused` when so much cannot be written any more."""
        free_bytes = self.usage().free_bytes
        if more_bytes > free_bytes:
            raise Refused(f"pool {self.name}", f"{more_bytes} bytes are wanted, {free_bytes} are free")

    @property
    def lock(self) -> Path:
        """The file by which calls wait for one another."""
        return self.path / LOCK

    @contextmanager
    def new(self) -> Iterator[Path]:
        """Where something can be made. What has not been put in its place in the end is removed."""
        made = self.path / f"{NEW}{uuid4().hex}{SUFFIX}"
        try:
            yield made
        finally:
            made.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether a regular file is there, no link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def settle(path: Path) -> None:
    """What is written in the file or folder survives a power cut from now on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(file: Path, made: Path) -> None:
    """As it is, sharing what it holds where the file system can. Raises `Refused` when there is no room."""
    deadline_s = COPY_DEADLINE_S + file.stat().st_size / SLOWEST_BYTES_PER_S
    program = shutil.which("cp", path="/usr/bin:/bin") or "/bin/cp"
    try:
        answer_of([program, "--reflink=auto", "--sparse=always", str(file), str(made)], b"", deadline_s, {})
    except CommandFailed as error:
        raise Refused(f"volume {file.stem}", f"its image cannot be copied: cp {error}") from error


def put_in_place(made: Path, path: Path) -> None:
    """Give what was made its name, instead of what has it: before a crash the one is there, after it the other."""
    settle(made)
    os.replace(made, path)
    settle(path.parent)


def pool_folders(options: Options) -> tuple[PoolFolder, ...]:
    """The pools that are configured, else the one that needs no configuration."""
    if not options.pools:
        return (PoolFolder(DEFAULT_POOL, Path(DEFAULT_FOLDER), is_default=True),)
    return tuple(PoolFolder(name, Path(pool.folder), pool.shared) for name, pool in sorted(options.pools.items()))
