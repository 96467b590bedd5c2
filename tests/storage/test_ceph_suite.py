# SPDX-License-Identifier: Apache-2.0
"""The backend `ceph` keeps every rule for storage backends on a real cluster, with a lost node that is one to Ceph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from uuid import uuid4

import pytest

from pvc_core import StorageBackend, StorageSite
from pvc_core.storage import Volume
from pvc_core.testing.storage_suite import ELSEWHERE, HERE, StorageBackendSuite
from pvc_lab.ceph_cluster import CephCluster
from storage.ceph_storage import Elsewhere, opened_by_a_guest, options


@pytest.mark.ceph
class TestCeph(StorageBackendSuite):
    """A pool of its own for each test."""

    name = "ceph"

    @pytest.fixture(autouse=True)
    def pool_of_this_test(self, ceph_network: tuple[CephCluster, Elsewhere]) -> Iterator[None]:
        self.cluster, self.elsewhere = ceph_network
        self.opened: list[StorageBackend] = []
        self.pool_name = f"suite-{uuid4().hex[:8]}"
        self.cluster.create_pool(self.pool_name)
        self.client(ELSEWHERE).health()  # as its daemon does before it starts any guest
        yield
        for backend in self.opened:
            backend.close()  # type: ignore[attr-defined]
        self.cluster.remove_pool(self.pool_name)

    def site(self) -> StorageSite:
        return StorageSite(HERE, options(self.cluster))

    def backend(self) -> StorageBackend:
        self.opened.append(super().backend())
        return self.opened[-1]

    def pool(self, backend: StorageBackend) -> str:
        return self.pool_name

    def client(self, node: str) -> StorageBackend:
        self.opened.append(self.entry().open(replace(self.site(), node=node)))
        return self.elsewhere.seen(self.opened[-1])

    def attached(self, volume: Volume) -> AbstractContextManager[None]:
        return opened_by_a_guest(self.cluster, volume.pool, volume.name)
