# SPDX-License-Identifier: Apache-2.0
"""options: which folders of this machine are pools, and whether all nodes see the same files there."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pvc_core.storage import VOLUME_NAME

DEFAULT_POOL = "default"
DEFAULT_FOLDER = "/var/lib/pvc/volumes"


class PoolOptions(msgspec.Struct, frozen=True):
    """[plugin.directory.pools.<name>]: one folder."""

    folder: str
    """The folder by its whole path; it has to be there."""
    shared: bool = False
    """Whether all nodes have the same files there, as with NFS."""

    def __post_init__(self) -> None:
        if not self.folder.startswith("/"):
            raise ValueError(f"{self.folder!r} is no whole path, which begins with /")


class Options(msgspec.Struct, frozen=True):
    """[plugin.directory]."""

    pools: dict[str, PoolOptions] = {}
    """The pools by name; none: the pool `default` in /var/lib/pvc/volumes, each node's own, made when it is needed."""
    programs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("/usr/bin", "/usr/local/bin")
    """Where qemu-img is, looked through in this order."""

    def __post_init__(self) -> None:
        for name in self.pools:
            if not VOLUME_NAME.fullmatch(name):
                raise ValueError(f"a pool cannot be called {name!r}: letters, digits and '._+-', 127 at most")
        folders = [pool.folder.rstrip("/") for pool in self.pools.values()]
        if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
            raise ValueError(f"two pools have the folder {twice[0]}")
