# SPDX-License-Identifier: Apache-2.0
"""The backend `directory` keeps every rule for storage backends, with the real qemu-img."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pvc_core.storage import StorageSite, Volume
from pvc_core.testing.storage_suite import HERE, StorageBackendSuite
from storage.directory_storage import opened_by_a_guest, options


class TestDirectory(StorageBackendSuite):
    """A pool that all nodes share."""

    name = "directory"
    shared = True

    @pytest.fixture(autouse=True)
    def folder(self, require: Callable[[str], None], tmp_path: Path) -> None:
        require("qemu-img")
        self.path = tmp_path

    def site(self) -> StorageSite:
        return StorageSite(HERE, options(self.path, self.shared))

    def attached(self, volume: Volume) -> AbstractContextManager[None]:
        return opened_by_a_guest(self.path / f"{volume.name}.qcow2")


class TestDirectoryOfOneNode(TestDirectory):
    """A pool that is a node's own."""

    shared = False
