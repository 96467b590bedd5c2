# SPDX-License-Identifier: Apache-2.0
"""Daemons whose plugin has in-memory storage: the volumes in a VM's record become disks of its guest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator, running
from pvc_core import StorageBackendEntry, hookimpl
from pvc_core.disk_xml import disks_in, marks_of
from pvc_core.storage import StorageSite
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_lab.embedded_cluster import EmbeddedCluster

VOLUMES = ("web1", "data", "logs")
PLUGIN = f"""
    from pvc_core import hookimpl
    from pvc_core.storage import StorageSite
    from pvc_core.testing.memory_storage import MemoryStorage

    storage = MemoryStorage({{"vms": 2**30}})
    for name in {VOLUMES}:
        storage.open(StorageSite("")).create_volume("vms", name, 1024)

    @hookimpl
    def pvc_storage_backends():
        return [storage.entry()]
"""


class Storage:
    """The same storage in this process, with a volume that no node finds."""

    def __init__(self) -> None:
        self.storage = MemoryStorage({"vms": 2**30})
        for name in (*VOLUMES, "elsewhere"):
            self.storage.open(StorageSite("")).create_volume("vms", name, 1024)

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.storage.entry()]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """Daemons with a distribution on their path that has the storage."""
    folder = tmp_path / "site"
    info = folder / "memory_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "memory_plugin.py").write_text(textwrap.dedent(PLUGIN))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pvc]\nmemory = memory_plugin\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with running(EmbeddedCluster(tmp_path)) as cluster:
        yield cluster


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes), registry_with(memory=Storage())) as operator:
        yield operator


def disks(cluster: EmbeddedCluster, uuid: str) -> list[str]:
    """The devices of the volumes that the guest has."""
    with cluster.world() as world:
        (domain,) = [domain for domain in world.domains() if domain.uuid == uuid]
    return sorted(marks_of(disks_in(domain.xml)).values())


def test_a_guest_starts_with_the_volumes_of_its_record(cluster: EmbeddedCluster, operator: Operator) -> None:
    uuid = operator.define("web1", target="hv1", start=False)
    operator.commands.add_volume("web1", "memory", "vms", "web1")
    operator.commands.add_volume("web1", "memory", "vms", "data", device="vdd")
    operator.commands.start("web1")
    operator.wait_state("web1")
    assert disks(cluster, uuid) == ["vda", "vdd"]
    operator.commands.migrate("web1", "hv2")
    operator.wait_state("web1", node="hv2")
    assert disks(cluster, uuid) == ["vda", "vdd"]


def test_a_start_fails_with_the_volume_and_the_backend_that_it_fails_for(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.commands.change_settings({"start_backoff_s": 0.05})
    operator.define("web1", target="hv1", start=False)
    operator.commands.add_volume("web1", "memory", "vms", "elsewhere")
    operator.commands.start("web1")
    operator.wait_state("web1", state="failed")
    problem = "volume memory vms/elsewhere (vda): no volume is called 'elsewhere'"
    assert f"3 failures in 600 s, giving up: {problem}" in operator.vm("web1").reason
    operator.commands.remove_volume("web1", "vda")
    operator.commands.start("web1")
    operator.wait_state("web1")
