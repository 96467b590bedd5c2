# SPDX-License-Identifier: Apache-2.0
"""The ZooKeeper store keeps the contract of all stores, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvc_core.testing.store_suite import StoreContract
from pvc_lab.zookeeper import ZooKeeperServer
from stores.zookeeper_harness import ZooKeeperHarness

pytestmark = pytest.mark.zookeeper


@pytest.fixture
def harness(zookeeper: ZooKeeperServer) -> Iterator[ZooKeeperHarness]:
    harness = ZooKeeperHarness(zookeeper)
    yield harness
    harness.close()


class TestZooKeeperStore(StoreContract):
    """All rules of the store port."""
