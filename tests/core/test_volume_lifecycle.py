# SPDX-License-Identifier: Apache-2.0
"""volume_lifecycle: volumes are made for a VM and deleted with it, and a death at any moment leaves nothing half."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dying_store import carry_out_and_die
from stored_cluster import ANY, StoredCluster
from stored_cluster import vm as record_of

from pvc_core import hookimpl, layout
from pvc_core.commands import Commands
from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PvcError, Refused
from pvc_core.model import Member, VmState
from pvc_core.ports import Delete
from pvc_core.storage import StorageBackendEntry, StorageCapability, StorageSite
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_core.testing.played_agents import xml
from pvc_core.volume_claims import every_claim

MIB = 2**20


class Storage:
    """In-memory storage that all nodes reach, and some that lies on each host."""

    def __init__(self) -> None:
        self.shared = MemoryStorage({"vms": 64 * MIB})
        self.local = MemoryStorage({"disks": 64 * MIB}, name="local", capabilities=[StorageCapability.RESIZE])

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.shared.entry(), self.local.entry()]

    def names(self) -> list[str]:
        """The volumes that there are."""
        return sorted(self.shared.held["vms"])


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def cluster(tmp_path: Path, storage: Storage) -> Iterator[StoredCluster]:
    """hv1 with the VMs web1 and web2, which are off."""
    cluster = StoredCluster(tmp_path, registry_with(memory=storage))
    cluster.add_nodes("hv1")
    drivers = {"storage_backends": ("local", "memory")}
    cluster.put(layout.member("hv1"), Member(node="hv1", session="s", version="test", drivers=drivers))
    for name in ("web1", "web2"):
        cluster.commands.define(xml(name), ANY)
    yield cluster
    cluster.close()


def purposes(cluster: StoredCluster) -> dict[str, str]:
    """Names of the volumes that are claimed, with what for."""
    return {claim.value.name: claim.value.purpose for claim in every_claim(cluster.store)}


def devices(cluster: StoredCluster, vm: str = "web1") -> list[str]:
    return [each.device for each in record_of(cluster, vm).volumes]


def runs(cluster: StoredCluster, **fields: Any) -> None:
    record = record_of(cluster)
    cluster.put(layout.vm(record.uuid), msgspec.structs.replace(record, state=VmState.RUNNING, **fields))


# ------------------------------------------------------------------------------------------------- making


def test_a_volume_is_made_and_is_a_disk(cluster: StoredCluster, storage: Storage) -> None:
    outcome = cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    assert outcome.reason == "memory vms/data is vda of web1"
    assert storage.shared.held["vms"]["data"].size_bytes == MIB
    assert (devices(cluster), purposes(cluster)) == (["vda"], {"data": "attached"})


@pytest.mark.parametrize(
    ("fields", "error", "problem"),
    [
        ({"size_bytes": 0}, InvalidInput, "size_bytes"),
        ({"size_bytes": 2**40}, Refused, "are free"),
        ({"vm": "nobody"}, NotFound, "nobody"),
        ({"pool": "none"}, NotFound, "none"),
        ({"name": "there"}, AlreadyExists, "there"),
        ({"device": "hda"}, InvalidInput, "no name of a disk"),
        ({"backend": "local", "pool": "disks"}, Refused, "lies on a host"),
    ],
)
def test_what_cannot_be_made_is_refused_without_a_trace(
    cluster: StoredCluster, storage: Storage, fields: dict[str, Any], error: type[PvcError], problem: str
) -> None:
    storage.shared.open(StorageSite("")).create_volume("vms", "there", MIB)
    wanted = {"vm": "web1", "backend": "memory", "pool": "vms", "name": "data", "size_bytes": MIB, **fields}
    with pytest.raises(error, match=problem):
        cluster.commands.create_volume(**wanted)
    assert (storage.names(), purposes(cluster), devices(cluster)) == (["there"], {}, [])


def test_a_volume_that_cannot_become_a_disk_is_removed_again(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB, device="vdb")
    with pytest.raises(Refused, match="has memory vms/data as vdb already"):
        cluster.commands.create_volume("web1", "memory", "vms", "more", MIB, device="vdb")
    assert (storage.names(), purposes(cluster)) == (["data"], {"data": "attached"})


# ------------------------------------------------------------------------------------------------ deleting


def test_a_volume_is_deleted_with_its_disk(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    outcome = cluster.commands.delete_volume("web1", "vda")
    assert outcome.reason == "memory vms/data is no volume of web1 any more; it is deleted"
    assert (storage.names(), purposes(cluster), devices(cluster)) == ([], {}, [])


def test_a_volume_that_its_storage_keeps_is_left_and_can_be_deleted_later(
    cluster: StoredCluster, storage: Storage
) -> None:
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    backend = storage.shared.open(StorageSite(""))
    backend.create_snapshot("vms", "data", "monday")
    outcome = cluster.commands.delete_volume("web1", "vda")
    assert "it is left: volume data: has snapshots; `pvc vm volume repair` tries again" in outcome.reason
    with pytest.raises(Refused, match="is being removed"):
        cluster.commands.add_volume("web2", "memory", "vms", "data")
    backend.protect_snapshot("vms", "data", "monday", False)
    backend.remove_snapshot("vms", "data", "monday")
    assert cluster.commands.repair_volumes() == ()
    assert (storage.names(), purposes(cluster)) == ([], {})


def test_a_volume_that_a_guest_has_is_not_deleted(
    cluster: StoredCluster, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvc_core.volume_lifecycle.LET_GO_S", 0.0)
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    runs(cluster)
    outcome = cluster.commands.delete_volume("web1", "vda")
    assert outcome.reason.endswith("it is deleted by `pvc vm volume repair` once its guest has let go of it")
    (left,) = cluster.commands.repair_volumes()
    assert (left.problem, left.remedy) == (
        "it is to be deleted, and its guest has not let go of it",
        "nothing, before it has",
    )
    assert storage.names() == ["data"]
    cluster.put(layout.vm(record_of(cluster).uuid), msgspec.structs.replace(record_of(cluster), volumes=()))
    assert cluster.commands.repair_volumes() == ()
    assert storage.names() == []


def test_a_vm_is_removed_with_its_volumes(cluster: StoredCluster, storage: Storage) -> None:
    for name in ("data", "logs"):
        cluster.commands.create_volume("web1", "memory", "vms", name, MIB)
    cluster.commands.create_volume("web2", "memory", "vms", "other", MIB)
    outcome = cluster.commands.remove_vm("web1")
    assert outcome.reason == "web1 is undefined; deleted: memory vms/data, memory vms/logs"
    assert (storage.names(), purposes(cluster)) == (["other"], {"other": "attached"})
    assert "web1" not in cluster.snapshot().uuid_by_name


def test_a_vm_that_runs_or_has_volumes_on_a_host_is_not_removed(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    cluster.commands.add_volume("web2", "local", "disks", "data")
    runs(cluster)
    for vm, problem in (("web1", "stop it before it is undefined"), ("web2", "lies on a host")):
        with pytest.raises(Refused, match=problem):
            cluster.commands.remove_vm(vm)
    with pytest.raises(Refused, match="lies on a host"):
        cluster.commands.delete_volume("web2", "vda")
    assert (storage.names(), set(purposes(cluster).values())) == (["data"], {"attached"})


def test_what_cannot_be_deleted_with_its_vm_is_warned_of(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    storage.shared.open(StorageSite("")).create_snapshot("vms", "data", "monday")
    outcome = cluster.commands.remove_vm("web1")
    warning = "memory vms/data is left: volume data: has snapshots; `pvc vm volume repair` tries again"
    assert outcome.warnings == (warning,)
    (left,) = cluster.commands.unfinished_volumes()
    assert (left.volume, left.vm, left.remedy) == ("memory vms/data", "web1", "it is deleted")


# ----------------------------------------------------------------------------------------------- repairing


def test_claims_and_records_that_do_not_fit_are_made_to(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    cluster.commands.create_volume("web2", "memory", "vms", "logs", MIB)
    (claim, _) = every_claim(cluster.store)
    cluster.store.transaction([Delete(claim.key, claim.version)])
    other = record_of(cluster, "web2")
    cluster.put(layout.vm(other.uuid), msgspec.structs.replace(other, volumes=()))
    problems = {each.volume: each.problem for each in cluster.commands.unfinished_volumes()}
    assert problems == {
        "memory vms/data": "nothing in the store says that it is the VM's",
        "memory vms/logs": "the VM that it belongs to does not have it",
    }
    assert cluster.commands.repair_volumes() == ()
    assert purposes(cluster) == {"data": "attached"}
    assert storage.names() == ["data", "logs"]


def test_a_volume_that_is_to_be_deleted_is_so_also_when_its_vm_is_undefined_first(
    cluster: StoredCluster, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvc_core.volume_lifecycle.LET_GO_S", 0.0)
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    runs(cluster)
    cluster.commands.delete_volume("web1", "vda")
    cluster.put(layout.vm(record_of(cluster).uuid), msgspec.structs.replace(record_of(cluster), state=VmState.STOPPED))
    cluster.commands.undefine("web1")
    assert cluster.commands.repair_volumes() == ()
    assert (storage.names(), purposes(cluster)) == ([], {})


COMMANDS: dict[str, Callable[[Commands], object]] = {
    "create": lambda commands: commands.create_volume("web1", "memory", "vms", "new", MIB),
    "delete": lambda commands: commands.delete_volume("web1", "vda"),
    "remove": lambda commands: commands.remove_vm("web1"),
    "rename": lambda commands: commands.rename_volume("web1", "vda", "files"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("command", COMMANDS)
def test_whenever_a_process_dies_repair_leaves_the_old_state_or_the_new_one(
    cluster: StoredCluster, storage: Storage, command: str, at: int, before: bool
) -> None:
    for name in ("data", "logs"):
        cluster.commands.create_volume("web1", "memory", "vms", name, MIB)
    carry_out_and_die(cluster.url, cluster.registry, COMMANDS[command], at, before=before)
    cluster.settle()
    assert cluster.commands.repair_volumes() == ()
    vms = cluster.snapshot().uuid_by_name
    has = [each.name for each in record_of(cluster).volumes] if "web1" in vms else []
    assert sorted(has) == sorted(purposes(cluster))
    assert set(purposes(cluster).values()) <= {"attached"}
    if command == "rename":
        cluster.commands.start("web1")
    assert set(has) <= set(storage.names()), "a VM has a volume that there is not"
    kept = {"data", "logs"} - set(has)
    assert kept.isdisjoint(storage.names()), "what was to be deleted is there"
