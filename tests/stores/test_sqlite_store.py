# SPDX-License-Identifier: Apache-2.0
"""The embedded store keeps the contract of all stores, and some promises of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pvc_core.ports import ClusterStore
from pvc_core.testing.store_suite import StoreContract, StoreHarness
from pvc_plugins.stores.embedded import SqliteStore


class SqliteHarness(StoreHarness):
    """Every store reaches the same file through a folder of its own, a symbolic link that can be taken away."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file = folder / "data" / "store.db"
        self.file.parent.mkdir()
        self._links = folder / "links"
        self._links.mkdir()
        self._link_of: dict[ClusterStore, Path] = {}

    @property
    def opener(self) -> Callable[[], ClusterStore]:
        return partial(SqliteStore, f"sqlite://{self.file}")

    def build_store(self) -> ClusterStore:
        link = self._links / str(len(self._link_of))
        link.symlink_to(self.file.parent)
        store = SqliteStore(f"sqlite://{link / self.file.name}")
        self._link_of[store] = link
        return store

    def expire_session(self, store: ClusterStore) -> None:
        helper = self.opener()
        assert isinstance(helper, SqliteStore)
        helper.start()
        helper.expire_session(store.session_id)
        helper.close()

    def disconnect(self, store: ClusterStore) -> None:
        self._link_of[store].unlink()

    def reconnect(self, store: ClusterStore) -> None:
        self._link_of[store].symlink_to(self.file.parent)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


class TestSqliteStore(StoreContract):
    """All rules of the store port."""
