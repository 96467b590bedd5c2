# SPDX-License-Identifier: Apache-2.0
"""Real node daemons, each a process, on embedded parts, and an operator to command them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator
from pvc_lab.embedded_cluster import EmbeddedCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Three daemons; the API is not started."""
    cluster = EmbeddedCluster(tmp_path)
    try:
        for node in cluster.nodes:
            cluster.start_daemon(node)
        yield cluster
        with cluster.world() as world:
            assert world.ran_on_two_nodes() == []
    finally:
        cluster.down()


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        yield operator
