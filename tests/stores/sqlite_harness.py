# SPDX-License-Identifier: Apache-2.0
"""The store's conformance suite on one SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pvc_core.ports import ClusterStore
from pvc_core.testing.store_suite import StoreHarness
from pvc_plugins.stores.embedded import SqliteStore


class SqliteHarness(StoreHarness):
    """Every store reaches the same file through a folder of its own, a symbolic link that can be taken away."""

    def __init__(self, folder: Path, store: type[SqliteStore] = SqliteStore) -> None:
        super().__init__()
        self._store = store
        self.file = folder / "data" / "store.db"
        self.file.parent.mkdir()
        self._links = folder / "links"
        self._links.mkdir()
        self._link_of: dict[ClusterStore, Path] = {}

    @property
    def opener(self) -> Callable[[], ClusterStore]:
        return partial(self._store, f"sqlite://{self.file}")

    def build_store(self) -> ClusterStore:
        link = self._links / str(len(self._link_of))
        link.symlink_to(self.file.parent)
        store = self._store(f"sqlite://{link / self.file.name}")
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
