# SPDX-License-Identifier: Apache-2.0
"""One cluster with two nodes and one API process per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from pvc_core.testing.builders import a_node


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with the nodes hv1 and hv2, 4096 MiB each."""
    made = Cluster(tmp_path)
    made.has([a_node("hv1"), a_node("hv2")])
    yield made
    made.close()


@pytest.fixture
def process(cluster: Cluster) -> Iterator[ApiProcess]:
    """An API process on the cluster, connected."""
    made = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    made.connection.open()
    yield made
    made.waiter.stop()
    made.connection.close()


@pytest.fixture
def api(process: ApiProcess) -> Iterator[httpx.Client]:
    """An admin's client."""
    with process.client(process.token("admin")) as client:
        yield client
