# SPDX-License-Identifier: Apache-2.0
"""Two clusters for the core's tests: one played in memory step by step, one on a real embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import played_cluster
import pytest
from played_cluster import Play, PlayedCluster
from stored_cluster import ANY, UUID, Misfits, StoredCluster, Xml

from pvc_core.registry import Registry
from pvc_core.testing import played_agents
from pvc_core.vm_states import VmEvent


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The built-in drivers."""
    return Registry.load(disabled_env="")


@pytest.fixture
def xml() -> Xml:
    """Writes definitions."""
    return played_agents.xml


@pytest.fixture
def misfits() -> Misfits:
    """Looks for what must never be."""
    return played_cluster.misfits


@pytest.fixture
def play(registry: Registry) -> Play:
    """Builds a cluster from nodes and VMs, as `a_snapshot` does, and plays it."""
    return lambda nodes, vms=(), settings=None: PlayedCluster(registry, nodes, vms, settings)


@pytest.fixture
def cluster(tmp_path: Path, registry: Registry) -> Iterator[StoredCluster]:
    """An empty cluster on an embedded store."""
    stored = StoredCluster(tmp_path, registry)
    yield stored
    stored.close()


@pytest.fixture
def three(cluster: Any) -> Any:
    """A cluster of three equal, empty nodes."""
    cluster.add_nodes("hv1", "hv2", "hv3")
    return cluster


@pytest.fixture
def running(three: Any, xml: Xml) -> Any:
    """The same with web1 running on hv1, its home."""
    three.commands.define(xml("web1", uuid=UUID), ANY, target="hv1", start=True)
    three.happens("web1", VmEvent.STARTED)
    return three


@pytest.fixture
def stopped(three: Any, xml: Xml) -> Any:
    """The same with web1 stopped on hv1, its home."""
    three.commands.define(xml("web1", uuid=UUID), ANY, target="hv1")
    return three
