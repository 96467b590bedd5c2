# SPDX-License-Identifier: Apache-2.0
"""The hypervisor knows what a disk of storage needs before a guest has the disk, or comes with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from installed_module import install_module
from operators import DEADLINE_S, an_operator, running
from pvc_core.errors import HypervisorError
from pvc_core.host_secrets import HostSecret
from pvc_core.model import Settings
from pvc_core.ports import Hypervisor
from pvc_core.storage import StorageSite
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.builders import a_vm
from pvc_core.testing.driver_suite import registry_of
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage
from pvc_core.vm_volumes import VmVolume
from pvc_daemon.giving_secrets import RENEW_S, GivingSecrets
from pvc_daemon.guest_disks import GuestDisks
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor, SimulatedWorld

UUID, KEY = "6c2a6d8e-6a51-4f6c-8d3f-1a2b3c4d5e6f", "QSBrZXkgdGhhdCBub2JvZHkgc2Vlcw=="
DISK = VmVolume(device="vdb", backend="memory", pool="vms", name="data", id="1")
XML = "<domain type='simulated'><name>web1</name><memory unit='MiB'>64</memory><devices/></domain>"
PLUGIN = f"""
    from pvc_core import hookimpl
    from pvc_core.host_secrets import HostSecret
    from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage

    class Keyed(MemoryBackend):
        def host_secrets(self):
            return [HostSecret("{UUID}", "ceph", "client.vm", "{KEY}")]

    @hookimpl
    def pvc_storage_backends():
        return [MemoryStorage({{"vms": 2**30}}, client=Keyed).entry()]
"""


class Keyed(MemoryBackend):
    """Its disks need a secret."""

    key = KEY

    def host_secrets(self) -> Sequence[HostSecret]:
        return [HostSecret(UUID, "ceph", "client.vm", self.key)]


class BadlyKeyed(Keyed):
    key = "?"


class Careless(MemoryBackend):
    """Gives the bare key."""

    def host_secrets(self) -> Sequence[HostSecret]:
        return [KEY]  # type: ignore[list-item]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SimulatedWorld]:
    with SimulatedWorld(tmp_path / "world") as world:
        yield world


@pytest.fixture
def hypervisor(world: SimulatedWorld, tmp_path: Path) -> Iterator[Hypervisor]:
    hypervisor = SimulatedHypervisor(f"simulated://{tmp_path}/world", "hv1")
    hypervisor.start()
    yield hypervisor
    hypervisor.close()


def composed(hypervisor: Hypervisor, client: type[MemoryBackend]) -> str:
    """The domain of a VM with a volume of such storage."""
    storage = MemoryStorage({"vms": 2**20}, client=client)
    storage.open(StorageSite("")).create_volume("vms", "data", 1024)
    registry = registry_of(storage.entry())
    access = StorageAccess(registry.calls, registry.storage_backends, OutsideNodes(registry, Settings).backend)
    giving = GivingSecrets("hv1", hypervisor, access, dict, SYSTEM_THREADS)
    return GuestDisks("hv1", hypervisor, SystemClock(), giving.disk_of).composed(XML, a_vm("web1", volumes=(DISK,)))


def test_before_a_guest_has_a_disk_the_hypervisor_has_its_secret_also_after_it_was_restarted(
    world: SimulatedWorld, hypervisor: Hypervisor
) -> None:
    for _ in range(2):
        assert world.secrets("hv1") == []
        assert "vdb" in composed(hypervisor, Keyed)
        assert world.secrets("hv1") == [UUID]
        world.take_hypervisor_away("hv1")
        world.bring_hypervisor_back("hv1")


def test_storage_without_secrets_needs_none(world: SimulatedWorld, hypervisor: Hypervisor) -> None:
    assert "vdb" in composed(hypervisor, MemoryBackend)
    assert world.secrets("hv1") == []


@pytest.mark.parametrize("client", [BadlyKeyed, Careless])
def test_a_secret_that_cannot_be_given_fails_the_start_with_volume_and_backend(
    hypervisor: Hypervisor, client: type[MemoryBackend]
) -> None:
    with pytest.raises(HypervisorError, match=r"volume memory vms/data \(vdb\): ") as caught:
        composed(hypervisor, client)
    assert not caught.value.connection_lost
    assert KEY not in caught.value.reason


def test_a_hypervisor_that_is_away_is_no_failed_start(world: SimulatedWorld, hypervisor: Hypervisor) -> None:
    world.take_hypervisor_away("hv1")
    with pytest.raises(HypervisorError) as caught:
        composed(hypervisor, Keyed)
    assert caught.value.connection_lost


def test_every_node_has_the_secrets_for_guests_that_come_and_no_log_has_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_module(tmp_path / "site", "memory-plugin", PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with running(EmbeddedCluster(tmp_path)) as cluster, cluster.world() as world:

        def all_know() -> bool:
            return all(world.secrets(node) == [UUID] for node in cluster.nodes)

        wait_for(all_know, "all to know", deadline_s=DEADLINE_S)
        world.take_hypervisor_away("hv2")
        assert world.secrets("hv2") == []
        with an_operator(cluster.store_url, len(cluster.nodes)):
            world.bring_hypervisor_back("hv2")
            wait_for(all_know, "hv2 to know again, for this reason", deadline_s=RENEW_S / 2)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert [path for path in found if "site" not in path.parts] == []
