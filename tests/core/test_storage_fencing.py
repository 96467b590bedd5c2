# SPDX-License-Identifier: Apache-2.0
"""storage_fencing: a node's clients are shut out and let in again by the backend, and no failure is a confirmation."""

from __future__ import annotations

import pytest

from pvc_core.errors import NotFound, PluginError, Refused
from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_core.model import Settings
from pvc_core.plugin_types import NO_OPTIONS
from pvc_core.storage import StorageCapability, StorageSite
from pvc_core.storage_access import OutsideNodes
from pvc_core.storage_fencing import StorageFencing
from pvc_core.testing.driver_suite import registry_of
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage

HV1 = FenceRequest("hv1", "10.0.0.1")


class NoQuorum(MemoryBackend):
    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        raise Refused("ceph", "its monitors have no quorum")

    def admit_clients(self, request: FenceRequest) -> None:
        raise Refused("ceph", "its monitors have no quorum")


class Broken(MemoryBackend):
    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        raise RuntimeError("no library")

    def admit_clients(self, request: FenceRequest) -> None:
        raise RuntimeError("no library")


def fencing(storage: MemoryStorage) -> StorageFencing:
    registry = registry_of(storage.entry())
    opened = OutsideNodes(registry, Settings).backend
    return StorageFencing(registry.calls, registry.storage_backends, opened, lambda _plugin: NO_OPTIONS)


def test_a_client_that_was_frozen_when_its_node_was_shut_out_gets_an_error_on_its_next_write() -> None:
    storage = MemoryStorage({"vms": 2**20})
    frozen, elsewhere = storage.open(StorageSite("hv1")), storage.open(StorageSite("hv2"))
    frozen.create_volume("vms", "web1", 1024)
    shutting = fencing(storage)
    assert shutting.shut_out("memory", HV1) == FenceVerdict(True, "no client of hv1 can write to memory")
    with pytest.raises(Refused, match="is shut out of the storage"):
        frozen.resize_volume("vms", "web1", 2048)
    elsewhere.resize_volume("vms", "web1", 2048)
    shutting.admit("memory", HV1)
    with pytest.raises(Refused, match="is shut out of the storage"):
        frozen.resize_volume("vms", "web1", 4096)
    storage.open(StorageSite("hv1")).resize_volume("vms", "web1", 4096)


@pytest.mark.parametrize(
    ("storage", "problem"),
    [
        (MemoryStorage(client=NoQuorum), "its monitors have no quorum"),
        (MemoryStorage(client=Broken), "no library"),
        (MemoryStorage(capabilities=(StorageCapability.SHARED,)), "cannot shut nodes out"),
    ],
    ids=["refuses", "breaks", "cannot"],
)
def test_a_backend_that_refuses_breaks_or_cannot_confirms_nothing_and_lets_nobody_in(
    storage: MemoryStorage, problem: str
) -> None:
    verdict = fencing(storage).shut_out("memory", HV1)
    assert not verdict.confirmed
    assert problem in verdict.detail
    with pytest.raises((Refused, PluginError), match=problem):
        fencing(storage).admit("memory", HV1)


def test_a_backend_that_is_not_installed_is_named() -> None:
    shutting = fencing(MemoryStorage())
    for ask in (shutting.shut_out, shutting.admit):
        with pytest.raises(NotFound, match="ceph"):
            ask("ceph", HV1)
