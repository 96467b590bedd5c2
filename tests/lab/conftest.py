# SPDX-License-Identifier: Apache-2.0
"""One PVC on real parts for all tests of a module; each finds all nodes ready and no VM, and leaves it so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from machine_room import MachineRoom

from lab_support import clean_up
from operators import Operator, an_operator
from pvc_lab import leftovers
from pvc_lab.real_cluster import RealCluster


@pytest.fixture(scope="module")
def real_cluster(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Iterator[RealCluster]:
    for part in ("zookeeper", "libvirt", "lab"):
        require(part)
    cluster = RealCluster(tmp_path_factory.mktemp("pvc-lab"), workers=2)
    prefix = cluster.lab.plan.prefix
    with cluster:
        yield cluster
    assert leftovers.leftovers(prefix) == []


@pytest.fixture(scope="module")
def module_operator(real_cluster: RealCluster) -> Iterator[Operator]:
    with an_operator(real_cluster.store_url, len(real_cluster.lab.nodes)) as operator:
        yield operator


@pytest.fixture
def cluster(real_cluster: RealCluster, module_operator: Operator) -> Iterator[RealCluster]:
    yield real_cluster
    clean_up(module_operator)
    for console in (real_cluster.lab.root / "consoles").iterdir():
        console.unlink()
    assert real_cluster.two_nodes() == (), "a guest ran on two nodes"
    assert real_cluster.watch.samples > 0


@pytest.fixture
def operator(cluster: RealCluster, module_operator: Operator) -> Operator:
    return module_operator


@pytest.fixture(scope="module")
def whole_room(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Iterator[MachineRoom]:
    for part in ("zookeeper", "libvirt", "lab"):
        require(part)
    cluster = MachineRoom.of_four_nodes(tmp_path_factory.mktemp("pvc-lab"))
    prefix = cluster.lab.plan.prefix
    with cluster, an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        cluster.add_fence_devices()
        yield MachineRoom(cluster, operator)
    assert leftovers.leftovers(prefix) == []


@pytest.fixture
def room(whole_room: MachineRoom) -> Iterator[MachineRoom]:
    whole_room.tidy()
    yield whole_room
    assert whole_room.cluster.two_nodes() == (), "a guest ran on two nodes"
