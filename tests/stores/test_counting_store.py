# SPDX-License-Identifier: Apache-2.0
"""The counting store counts what is asked and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_core.ports import Check, ClusterStore, Create, Entry, Set
from pvc_core.testing.counting_store import Call, CountingStore
from pvc_core.testing.store_suite import Recorder
from pvc_plugins.stores.embedded import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CountingStore]:
    store = CountingStore(SqliteStore(f"sqlite://{tmp_path}/store.db"))
    store.start()
    yield store
    store.close()


def test_each_call_counts_for_its_requests_and_is_listed(store: CountingStore) -> None:
    store.ensure(["/vms", "/names"])
    store.transaction([Create("/vms/a", b"A"), Create("/vms/b", b"")])
    store.reset()
    assert store.get("/vms/a") == Entry("/vms/a", b"A", 0)
    assert list(store.get_many(["/vms/a", "/vms/none"])) == ["/vms/a"]
    assert store.children("/vms") == ("a", "b")
    assert store.transaction([Check("/vms/b", 0), Set("/vms/a", b"", 0)]) == (0, 1)
    store.rename("/vms/a", "/vms/c", [Check("/vms/b", 0)])
    store.watch("/vms/b", Recorder[Entry | None]())
    store.mirror("/vms", Recorder[object]())
    assert store.calls == (
        Call("get", ("/vms/a",), 1),
        Call("get_many", ("/vms/a", "/vms/none"), 2),
        Call("children", ("/vms",), 1),
        Call("transaction", ("/vms/b", "/vms/a"), 1),
        Call("rename", ("/vms/a", "/vms/c", "/vms/b"), 1),
        Call("watch", ("/vms/b",), 1),
        Call("mirror", ("/vms",), 3),
    )
    assert store.requests == 10


def test_a_mirror_counts_its_first_call_only(store: CountingStore) -> None:
    news = Recorder[object]()
    store.ensure(["/vms"])
    store.reset()
    store.mirror("/vms", news)
    store.inner.transaction([Create("/vms/a", b"")])
    news.wait_until(lambda told: len(told) == 2, "the change")
    assert store.requests == 1


def test_it_is_a_store(store: CountingStore) -> None:
    as_port: ClusterStore = store
    assert as_port.session_id == store.inner.session_id
    assert as_port.session_state is store.inner.session_state
