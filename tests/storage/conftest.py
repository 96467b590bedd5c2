# SPDX-License-Identifier: Apache-2.0
"""Real storage for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster
    from storage.ceph_storage import Elsewhere


@pytest.fixture(scope="session")
def ceph_network(
    require: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CephCluster, Elsewhere]]:
    """A Ceph cluster that two hosts reach: this one, and a network namespace."""
    require("ceph")
    require("lab")
    from storage.ceph_storage import cluster_and_elsewhere

    with cluster_and_elsewhere(tmp_path_factory.mktemp("ceph-network")) as both:
        yield both
