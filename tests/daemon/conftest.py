# SPDX-License-Identifier: Apache-2.0
"""Real node daemons, each a process, on embedded parts, and an operator to command them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator, running
from pvc_lab.embedded_cluster import EmbeddedCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Three daemons; the API is not started."""
    with running(EmbeddedCluster(tmp_path)) as cluster:
        yield cluster


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        yield operator
