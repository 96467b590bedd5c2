# SPDX-License-Identifier: Apache-2.0
"""directory_storage: a backend `directory` with a pool in a folder of its own, and a guest that has a volume open."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pvc_core.plugin_types import PluginOptions
from pvc_core.registry import Registry, installed_plugins
from pvc_core.storage import StorageBackend, StorageBackendEntry, StorageSite
from pvc_lab.waiting import wait_for
from pvc_storage_backends.directory.options import Options, PoolOptions

POOL = "pool"


def options(folder: Path, shared: bool = True) -> PluginOptions:
    """One pool, in this folder."""
    return PluginOptions(machine=Options(pools={POOL: PoolOptions(str(folder), shared)}))


def entry() -> StorageBackendEntry:
    """The backend as it is installed."""
    found: StorageBackendEntry = Registry(installed_plugins([])).storage_backends["directory"]
    return found


def open_backend(folder: Path, shared: bool = True) -> StorageBackend:
    """The backend with a pool in this folder."""
    return entry().open(StorageSite("hv1", options(folder, shared)))


@contextmanager
def opened_by_a_guest(image: Path) -> Iterator[None]:
    """As long as this lasts, a process of QEMU may write to the image."""
    socket = image.with_name(f"nbd-{image.stem[:20]}.socket")
    program = shutil.which("qemu-nbd")
    assert program
    guest = subprocess.Popen([program, "--format=qcow2", f"--socket={socket}", "--persistent", str(image)])
    try:
        wait_for(lambda: socket.exists() or guest.poll() is not None, "qemu-nbd to open the image", deadline_s=20)
        assert guest.poll() is None
        yield
    finally:
        guest.terminate()
        guest.wait()
        socket.unlink(missing_ok=True)
