# SPDX-License-Identifier: Apache-2.0
"""The store's conformance suite on a real ZooKeeper: each test in a chroot, each session behind a cable of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from kazoo.client import KazooClient

from pvc_core.ports import ClusterStore
from pvc_core.testing.store_harness import DEADLINE_S, StoreHarness, eventually
from pvc_lab.zookeeper import ZooKeeperServer
from pvc_plugins.stores.zookeeper import ZooKeeperStore
from stores.tcp_proxy import TcpProxy


def end_session(store: ZooKeeperStore, hosts: str) -> None:
    """End a session as its expiry does, and wait for the store's next one."""
    before = store.session_id

    def has_another() -> bool:
        client_id = store.client_id
        if store.session_id == before and client_id is not None:
            _close_session(hosts, client_id)
        return store.session_id != before

    # The owner reconnects as soon as the session is taken from it, and may so take it back before it is closed.
    eventually(has_another, "the store has another session")


def _close_session(hosts: str, client_id: tuple[int, bytes]) -> None:
    """Take the session over, as anybody can who has its ID and password, and close it."""
    thief = KazooClient(hosts, client_id=client_id, connection_retry={"max_tries": -1, "delay": 0.01, "max_delay": 0.1})
    thief.start_async().wait(DEADLINE_S)
    thief.stop()
    thief.close()


class ZooKeeperHarness(StoreHarness):
    def __init__(self, server: ZooKeeperServer, session_timeout_s: float = 4.0) -> None:
        super().__init__()
        self.server = server
        self._tail = f"/pvc-tests/{uuid.uuid4().hex}?session_timeout_s={session_timeout_s}"
        self.proxies: dict[ClusterStore, TcpProxy] = {}

    @property
    def opener(self) -> Callable[[], ClusterStore]:
        return partial(ZooKeeperStore, f"zookeeper://{self.server.hosts}{self._tail}")

    def build_store(self) -> ZooKeeperStore:
        proxy = TcpProxy((self.server.host, self.server.port))
        store = ZooKeeperStore(f"zookeeper://{proxy.hosts}{self._tail}")
        self.proxies[store] = proxy
        return store

    def new_store(self) -> ZooKeeperStore:
        store = super().new_store()
        assert isinstance(store, ZooKeeperStore)
        return store

    def expire_session(self, store: ClusterStore) -> None:
        assert isinstance(store, ZooKeeperStore)
        end_session(store, self.server.hosts)

    def disconnect(self, store: ClusterStore) -> None:
        self.proxies[store].cut()

    def reconnect(self, store: ClusterStore) -> None:
        self.proxies[store].mend()

    def close(self) -> None:
        super().close()
        for proxy in self.proxies.values():
            proxy.close()
