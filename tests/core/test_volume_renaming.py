# SPDX-License-Identifier: Apache-2.0
"""volume_renaming: a volume of a VM has its new name everywhere or nowhere, and its VM does not start in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from stored_cluster import ANY, StoredCluster
from stored_cluster import vm as record_of

from pvc_core import hookimpl, layout
from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PvcError, Refused, StorageUnavailable
from pvc_core.model import Member, VmState
from pvc_core.storage import StorageBackendEntry, StorageSite, Volume
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage
from pvc_core.testing.played_agents import xml
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.volume_claims import every_claim

MIB = 2**20


class Client(MemoryBackend):
    """Renames, and says what it is told to say of that."""

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        storage = self.storage
        assert isinstance(storage, Renaming)
        if storage.before is not None:
            raise storage.before
        renamed = super().rename_volume(pool, name, new_name)
        if storage.after is not None:
            raise storage.after
        return renamed


class Renaming(MemoryStorage):
    """before, after: what is raised instead of, or in spite of, giving a volume another name."""

    def __init__(self) -> None:
        super().__init__({"vms": 64 * MIB}, client=Client)
        self.before: PvcError | None = None
        self.after: PvcError | None = None

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.entry()]

    def names(self) -> list[str]:
        return sorted(self.held["vms"])


@pytest.fixture
def storage() -> Renaming:
    return Renaming()


@pytest.fixture
def cluster(tmp_path: Path, storage: Renaming) -> Iterator[StoredCluster]:
    """hv1 with web1, which is off and has the volume data as vda, and with web2."""
    cluster = StoredCluster(tmp_path, registry_with(memory=storage))
    cluster.add_nodes("hv1")
    drivers = {"storage_backends": ("memory",)}
    cluster.put(layout.member("hv1"), Member(node="hv1", session="s", version="test", drivers=drivers))
    for name in ("web1", "web2"):
        cluster.commands.define(xml(name), ANY)
    cluster.commands.create_volume("web1", "memory", "vms", "data", MIB)
    yield cluster
    cluster.close()


def claimed(cluster: StoredCluster) -> dict[str, str]:
    return {claim.value.name: claim.value.purpose for claim in every_claim(cluster.store)}


def called(cluster: StoredCluster) -> str:
    (volume,) = record_of(cluster, "web1").volumes
    return f"{volume.name} -> {volume.renaming}" if volume.renaming else volume.name


def test_a_volume_has_its_new_name_in_storage_record_and_claim_and_is_the_same_disk(
    cluster: StoredCluster, storage: Renaming
) -> None:
    (before,) = record_of(cluster, "web1").volumes
    outcome = cluster.commands.rename_volume("web1", "vda", "files")
    assert outcome.reason == "memory vms/data is called files now"
    assert (storage.names(), called(cluster), claimed(cluster)) == (["files"], "files", {"files": "attached"})
    (after,) = record_of(cluster, "web1").volumes
    assert (after.device, after.id) == (before.device, before.id)
    cluster.commands.create_volume("web2", "memory", "vms", "data", MIB)


@pytest.mark.parametrize(
    ("device", "name", "raised", "said"),
    [
        ("vdb", "files", NotFound, "vda"),
        ("vda", "data", InvalidInput, "called already"),
        ("vda", "a/b", InvalidInput, "letters, digits"),
        ("vda", "taken", Refused, "is a volume of web2 already"),
        ("vda", "there", AlreadyExists, "there"),
    ],
)
def test_what_cannot_be_leaves_everything_as_it_was(
    cluster: StoredCluster, storage: Renaming, device: str, name: str, raised: type[PvcError], said: str
) -> None:
    cluster.commands.create_volume("web2", "memory", "vms", "taken", MIB)
    storage.open(StorageSite("")).create_volume("vms", "there", MIB)
    with pytest.raises(raised) as refused:
        cluster.commands.rename_volume("web1", device, name)
    assert said in refused.value.sentence()
    assert (storage.names(), called(cluster)) == (["data", "taken", "there"], "data")
    assert claimed(cluster) == {"data": "attached", "taken": "attached"}
    cluster.commands.start("web1")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": VmState.RUNNING}, "is running; a volume gets another name only while its VM is off"),
        ({"snapshots": SnapshotStanding(names=("monday",))}, "has snapshots, which are to be removed before: monday"),
        ({"snapshots": SnapshotStanding(names=("monday",), kept_off="monday")}, "its snapshot monday is being taken"),
    ],
)
def test_a_vm_that_runs_or_has_snapshots_keeps_the_names_of_its_volumes(
    cluster: StoredCluster, storage: Renaming, fields: dict[str, object], said: str
) -> None:
    record = record_of(cluster, "web1")
    cluster.put(layout.vm(record.uuid), msgspec.structs.replace(record, **fields))
    with pytest.raises(Refused, match=said):
        cluster.commands.rename_volume("web1", "vda", "files")
    assert (storage.names(), called(cluster)) == (["data"], "data")


@pytest.mark.parametrize("was_done", [False, True])
def test_while_nobody_knows_the_name_the_vm_is_kept_off_until_repair_has_gone_on(
    cluster: StoredCluster, storage: Renaming, was_done: bool
) -> None:
    silence = StorageUnavailable("memory", "it has not answered in time")
    storage.before, storage.after = (None, silence) if was_done else (silence, None)
    with pytest.raises(Refused, match="whether it is called files now is not known, see `pvc vm volume repair`"):
        cluster.commands.rename_volume("web1", "vda", "files")
    assert called(cluster) == "data -> files"
    for command in (
        lambda: cluster.commands.start("web1"),
        lambda: cluster.commands.undefine("web1"),
        lambda: cluster.commands.remove_vm("web1"),
        lambda: cluster.commands.rename_volume("web1", "vda", "other"),
        lambda: cluster.commands.remove_volume("web1", "vda"),
    ):
        with pytest.raises(Refused, match="kept off: memory vms/data is getting the name files"):
            command()

    if not was_done:
        with pytest.raises(Refused, match="is what a volume of web1 is about to be called"):
            cluster.commands.create_volume("web2", "memory", "vms", "files", MIB)
        storage.before = StorageUnavailable("memory", "it still does not answer")
        (left,) = cluster.commands.repair_volumes()
        assert (left.volume, left.vm) == ("memory vms/data", "web1")
        assert "still does not answer" in left.problem
    storage.before = storage.after = None
    assert cluster.commands.repair_volumes() == ()
    assert (storage.names(), called(cluster), claimed(cluster)) == (["files"], "files", {"files": "attached"})
    cluster.commands.start("web1")


def test_repair_leaves_the_old_name_where_the_new_one_is_taken_by_now(
    cluster: StoredCluster, storage: Renaming
) -> None:
    storage.before = StorageUnavailable("memory", "it has not answered in time")
    with pytest.raises(Refused):
        cluster.commands.rename_volume("web1", "vda", "files")
    storage.before = None
    storage.open(StorageSite("")).create_volume("vms", "files", MIB)
    assert cluster.commands.repair_volumes() == ()
    assert (called(cluster), claimed(cluster)) == ("data", {"data": "attached"})
