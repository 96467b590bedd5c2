# SPDX-License-Identifier: Apache-2.0
"""brittle_storage: a plugin with volumes in a folder that all nodes reach, which breaks as files in it say.

Beside the images: `refuse-NAME` (a snapshot of this volume is refused), `kill-NAME` (the process that takes it dies,
once), `hang-NAME` (it takes until the file is gone).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from pvc_core import StorageBackendEntry, StorageSite, hookimpl
from pvc_core.errors import Refused
from pvc_core.storage import Snapshot
from pvc_storage_backends.directory.backend import DirectoryBackend
from pvc_storage_backends.directory.folders import pool_folders
from pvc_storage_backends.directory.images import Images
from pvc_storage_backends.directory.options import Options, PoolOptions

VARIABLE = "BRITTLE_FOLDER"
POOL = "vms"


def folder() -> Path:
    """Where it all is."""
    return Path(os.environ[VARIABLE])


class Brittle(DirectoryBackend):
    """One host's view."""

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        """As files say."""
        if (folder() / f"refuse-{volume}").exists():
            raise Refused(f"volume {volume}", "is busy")
        taken = super().create_snapshot(pool, volume, name)
        dies = folder() / f"kill-{volume}"
        if dies.exists():
            dies.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        while (folder() / f"hang-{volume}").exists():
            time.sleep(0.01)
        return taken


def open_backend(_site: StorageSite) -> Brittle:
    """The pool in the folder."""
    options = Options(pools={POOL: PoolOptions(str(folder() / "images"), True)})
    return Brittle(pool_folders(options), Images(options.programs))


@hookimpl
def pvc_storage_backends() -> Sequence[StorageBackendEntry]:
    return (StorageBackendEntry("brittle", "volumes in a folder, that break", open_backend, plugin="brittle"),)
