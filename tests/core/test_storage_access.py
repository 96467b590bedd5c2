# SPDX-License-Identifier: Apache-2.0
"""storage_access: backends are asked on their host, within a time, and what they get wrong is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pvc_core.errors import InvalidInput, NotFound, PluginError
from pvc_core.model import Settings
from pvc_core.storage import StorageCapability, StorageSite
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.testing.driver_suite import registry_of
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage
from pvc_core.vm_volumes import VmVolume

DISK = VmVolume(device="vdb", backend="memory", pool="vms", name="data", id="1")


class OddDisks(MemoryBackend):
    """Describes other disks than it is asked for."""

    def disk_xml(self, pool: str, name: str, device: str) -> str:
        return super().disk_xml(pool, name, "sda")


class Slow(MemoryBackend):
    """Answers when it is let."""

    let = threading.Event()

    def volume(self, pool: str, name: str) -> None:  # type: ignore[override]
        self.let.wait(60)


class Broken(MemoryBackend):
    def disk_xml(self, pool: str, name: str, device: str) -> str:
        raise RuntimeError("no library")


def access_to(storage: MemoryStorage) -> StorageAccess:
    storage.open(StorageSite("")).create_volume("vms", "data", 1024)
    return outside(storage)


def outside(storage: MemoryStorage) -> StorageAccess:
    registry = registry_of(storage.entry())
    return StorageAccess(registry.calls, registry.storage_backends, OutsideNodes(registry, Settings).backend)


def memory(client: type[MemoryBackend] = MemoryBackend, **more: object) -> MemoryStorage:
    return MemoryStorage({"vms": 2**20}, client=client, **more)  # type: ignore[arg-type]


@pytest.fixture
def slow() -> Iterator[StorageAccess]:
    Slow.let.clear()
    storage = MemoryStorage({"vms": 2**20}, client=Slow)
    yield outside(storage)
    Slow.let.set()


def test_a_disk_is_described_by_its_backend_and_marked() -> None:
    xml = access_to(memory()).disk_of(DISK)
    assert 'name="memory/vms/data"' in xml
    assert '<alias name="ua-pvc-vdb-1"/>' in xml


def test_a_backend_is_opened_once() -> None:
    access = access_to(memory())
    opened = [access.ask("memory", lambda backend: backend) for _ in range(2)]
    assert opened[0] is opened[1]


def test_storage_that_all_nodes_reach_is_told_from_what_lies_on_a_host() -> None:
    assert access_to(memory()).is_shared("memory", "vms")
    assert not access_to(memory(capabilities=[StorageCapability.RESIZE])).is_shared("memory", "vms")


def test_a_backend_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="no storage backend is called 'ceph' \\(known: memory\\)"):
        access_to(memory()).ask("ceph", lambda backend: backend.pools())


def test_a_volume_that_is_not_there_is_an_answer() -> None:
    with pytest.raises(NotFound, match="no volume is called 'none'"):
        access_to(memory()).ask("memory", lambda backend: backend.volume("vms", "none"))


def test_what_a_backend_raises_otherwise_is_its_plugins_fault() -> None:
    with pytest.raises(PluginError, match="no library"):
        access_to(memory(Broken)).disk_of(DISK)


def test_a_disk_for_another_device_is_refused() -> None:
    with pytest.raises(InvalidInput, match="for device sda and not for vdb"):
        access_to(memory(OddDisks)).disk_of(DISK)


def test_a_backend_that_does_not_answer_holds_nobody_up(slow: StorageAccess) -> None:
    with pytest.raises(PluginError, match=r"within 0\.05 s"):
        slow.ask("memory", lambda backend: backend.volume("vms", "data"), deadline_s=0.05)
    assert slow.ask("memory", lambda backend: backend.pools()) == ("vms",)
