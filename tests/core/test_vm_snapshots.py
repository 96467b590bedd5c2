# SPDX-License-Identifier: Apache-2.0
"""vm_snapshots: a VM is remembered with all its volumes, becomes that again, and a death in between leaves no half."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dying_store import Killed, carry_out_and_die
from stored_cluster import ANY, StoredCluster
from stored_cluster import vm as record_of

from pvc_core import hookimpl, layout
from pvc_core.codec import decode
from pvc_core.commands import Commands
from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PvcError, Refused
from pvc_core.events import Event
from pvc_core.model import Member, VmState
from pvc_core.storage import StorageBackendEntry, StorageCapability, StorageSite, Volume
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage
from pvc_core.testing.played_agents import xml
from pvc_core.vm_snapshots import MAX_SNAPSHOTS

MIB = 2**20
VOLUMES = ("data", "logs")


class Fragile(MemoryBackend):
    """Refuses, breaks, or ends its process, when it is told to."""

    def create_snapshot(self, pool: str, volume: str, name: str) -> Any:
        self._told("create", volume)
        return super().create_snapshot(pool, volume, name)

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        self._told("remove", volume)
        super().remove_snapshot(pool, volume, name)

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        self._told("roll back", volume)
        return super().roll_back(pool, volume, name)

    def _told(self, call: str, volume: str) -> None:
        if error := getattr(self.storage, "fails", {}).get((call, volume)):
            raise error


class Storage:
    """In-memory storage that all nodes reach, some that takes no snapshots, and some that lies on each host."""

    def __init__(self) -> None:
        self.shared = MemoryStorage({"vms": 64 * MIB}, client=Fragile)
        self.fails: dict[tuple[str, str], Exception] = {}
        self.shared.fails = self.fails  # type: ignore[attr-defined]
        self.plain = MemoryStorage({"vms": 64 * MIB}, name="plain", capabilities=[StorageCapability.SHARED])
        self.local = MemoryStorage({"disks": 64 * MIB}, name="local", capabilities=[StorageCapability.SNAPSHOTS])

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.shared.entry(), self.plain.entry(), self.local.entry()]

    def write(self, data: bytes) -> None:
        """Every guest writes this to all its volumes."""
        for held in self.shared.held["vms"].values():
            held.data = data

    def contents(self) -> dict[str, bytes]:
        return {name: held.data for name, held in sorted(self.shared.held["vms"].items())}

    def snapshots(self) -> dict[str, list[str]]:
        """By volume, without what was drawn by lot."""
        held = self.shared.held["vms"].items()
        return {name: [each.rpartition(".")[0] for each in volume.snapshots] for name, volume in sorted(held)}


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def cluster(tmp_path: Path, storage: Storage) -> Iterator[StoredCluster]:
    """hv1 with web1, which has two volumes and is off, and web2."""
    cluster = StoredCluster(tmp_path, registry_with(memory=storage))
    cluster.add_nodes("hv1")
    drivers = {"storage_backends": ("local", "memory", "plain")}
    cluster.put(layout.member("hv1"), Member(node="hv1", session="s", version="test", drivers=drivers))
    for name in ("web1", "web2"):
        cluster.commands.define(xml(name), ANY)
    for name in VOLUMES:
        cluster.commands.create_volume("web1", "memory", "vms", name, MIB)
    storage.write(b"before")
    yield cluster
    cluster.close()


def names(cluster: StoredCluster, vm: str = "web1") -> list[str]:
    return [each.name for each in cluster.commands.snapshots(vm)]


def in_state(cluster: StoredCluster, state: VmState, **fields: Any) -> None:
    record = record_of(cluster)
    cluster.put(layout.vm(record.uuid), msgspec.structs.replace(record, state=state, **fields))


def events(cluster: StoredCluster) -> list[str]:
    found = cluster.store.get_many([layout.event(each) for each in cluster.store.children(layout.EVENTS)])
    kinds = [decode(entry, Event).value.kind for _, entry in sorted(found.items())]
    return [kind for kind in kinds if "snapshot" in kind or "rolled" in kind or "rolling" in kind]


# ------------------------------------------------------------------------------------------------- taking


def test_a_vm_that_is_off_is_remembered_with_all_its_volumes(cluster: StoredCluster, storage: Storage) -> None:
    outcome = cluster.commands.take_snapshot("web1", "monday")
    assert outcome.reason == "snapshot monday of web1 is taken"
    (found,) = cluster.commands.snapshots("web1")
    assert (found.name, found.state, found.consistency, found.automatic) == ("monday", "ready", "off", False)
    assert [(each.device, each.name, each.size_bytes) for each in found.volumes] == [
        ("vda", "data", MIB),
        ("vdb", "logs", MIB),
    ]
    assert found.definition == cluster.commands.definition("web1")
    assert storage.snapshots() == {"data": ["vm.monday"], "logs": ["vm.monday"]}
    assert record_of(cluster).snapshots.kept_off == ""
    assert events(cluster) == ["vm_snapshot_begun", "vm_snapshot_taken"]


def test_without_a_name_it_is_called_after_the_time(cluster: StoredCluster) -> None:
    outcome = cluster.commands.take_snapshot("web1")
    assert outcome.snapshot is not None
    assert outcome.snapshot.name == outcome.snapshot.at.replace("-", "").replace(":", "")


def test_a_user_s_own_snapshot_is_not_in_the_way(cluster: StoredCluster, storage: Storage) -> None:
    backend = storage.shared.open(StorageSite(""))
    for name in ("monday", "vm.monday"):
        backend.create_snapshot("vms", "data", name)
    cluster.commands.take_snapshot("web1", "monday")
    cluster.commands.remove_snapshot("web1", "monday")
    assert [each.name for each in backend.snapshots("vms", "data")] == ["monday", "vm.monday"]


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        ("there", AlreadyExists, "snapshot of web1 'there' exists already"),
        ("..", InvalidInput, "not acceptable as the name of a snapshot"),
        ("x" * 65, InvalidInput, "not acceptable as the name of a snapshot"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(
    cluster: StoredCluster, name: str, error: type[PvcError], problem: str
) -> None:
    cluster.commands.take_snapshot("web1", "there")
    with pytest.raises(error, match=problem):
        cluster.commands.take_snapshot("web1", name)
    assert names(cluster) == ["there"]


@pytest.mark.parametrize(
    ("backend", "pool", "problem"),
    [("local", "disks", "lies on a host"), ("plain", "vms", "takes no snapshots")],
)
def test_a_volume_of_which_none_is_taken_is_named(
    cluster: StoredCluster, storage: Storage, backend: str, pool: str, problem: str
) -> None:
    storage.plain.open(StorageSite("")).create_volume("vms", "more", MIB)
    cluster.commands.add_volume("web1", backend, pool, "more")
    with pytest.raises(Refused, match=f"{backend} {pool}/more.*{problem}"):
        cluster.commands.take_snapshot("web1", "monday")
    assert (names(cluster), storage.snapshots()["data"]) == ([], [])


@pytest.mark.parametrize("state", [VmState.MIGRATING, VmState.STARTING, VmState.SHUTTING_DOWN])
def test_of_a_vm_on_its_way_none_is_taken(cluster: StoredCluster, state: VmState) -> None:
    in_state(cluster, state, target="hv2")
    with pytest.raises(Refused, match=r"is migrating|is starting|is shutting-down"):
        cluster.commands.take_snapshot("web1", "monday")


def test_no_vm_has_more_than_it_may(cluster: StoredCluster) -> None:
    record = record_of(cluster)
    many = msgspec.structs.replace(record.snapshots, names=tuple(f"s{i}" for i in range(MAX_SNAPSHOTS)))
    cluster.put(layout.vm(record.uuid), msgspec.structs.replace(record, snapshots=many))
    with pytest.raises(Refused, match="has 100 snapshots"):
        cluster.commands.take_snapshot("web1", "monday")


def test_one_that_cannot_be_taken_leaves_nothing(cluster: StoredCluster, storage: Storage) -> None:
    storage.fails["create", "logs"] = Refused("volume logs", "is in use")
    with pytest.raises(Refused, match=r"snapshot monday of web1: is not taken: volume logs: is in use$"):
        cluster.commands.take_snapshot("web1", "monday")
    assert (names(cluster), storage.snapshots()) == ([], {"data": [], "logs": []})
    assert cluster.commands.repair_volumes() == ()
    assert events(cluster) == ["vm_snapshot_begun", "vm_snapshot_failed"]


def test_what_is_left_of_one_that_could_not_be_taken_is_removed_later(cluster: StoredCluster, storage: Storage) -> None:
    storage.fails["create", "logs"] = RuntimeError("the backend broke")
    storage.fails["remove", "data"] = Refused("volume data", "is busy")
    with pytest.raises(Refused, match="what is left is to be removed: memory vms/data: volume data: is busy"):
        cluster.commands.take_snapshot("web1", "monday")
    (left,) = cluster.commands.repair_volumes()
    assert (left.volume, left.vm, left.problem) == (
        "snapshot monday",
        "web1",
        "memory vms/data: volume data: is busy",
    )
    storage.fails.clear()
    assert cluster.commands.repair_volumes() == ()
    assert (names(cluster), storage.snapshots()) == ([], {"data": [], "logs": []})


def test_disks_of_the_definition_are_warned_of(cluster: StoredCluster) -> None:
    own = "<devices><disk type='file' device='disk'><source file='/x'/><target dev='hda'/></disk></devices></domain>"
    cluster.commands.redefine("web2", cluster.commands.definition("web2").replace("</domain>", own))
    outcome = cluster.commands.take_snapshot("web2", "monday")
    assert outcome.warnings == ("disks of web2's definition are no volumes, and not in its snapshot: hda",)


# -------------------------------------------------------------------------------------------- rolling back


def test_a_vm_becomes_what_it_was_but_for_its_name(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.change_metadata("web1", {"tags": ["old"], "priority": 7})
    before, definition = record_of(cluster), cluster.commands.definition("web1")
    cluster.commands.take_snapshot("web1", "monday")
    larger = definition.replace(f">{before.memory_mib}<", f">{before.memory_mib * 2}<")
    assert larger != definition
    cluster.commands.redefine("web1", larger)
    cluster.commands.change_metadata("web1", {"tags": ["new"], "priority": 0})
    cluster.commands.rename("web1", "www")
    storage.write(b"after")
    assert reserved_mib_of(cluster, "www") == before.memory_mib * 2

    outcome = cluster.commands.roll_back("www", "monday")
    after = outcome.vm
    assert storage.contents() == {"data": b"before", "logs": b"before"}
    assert (after.name, after.metadata, after.memory_mib, after.state) == (
        "www",
        before.metadata,
        before.memory_mib,
        VmState.STOPPED,
    )
    assert cluster.commands.definition("www") == definition.replace("web1", "www")
    assert reserved_mib_of(cluster, "www") == before.memory_mib
    assert after.snapshots.kept_off == ""
    assert [each.state for each in cluster.commands.snapshots("www")] == ["ready"]
    assert events(cluster)[-2:] == ["vm_rolling_back", "vm_rolled_back"]


def reserved_mib_of(cluster: StoredCluster, vm: str) -> int:
    return cluster.snapshot().node("hv1").reserved.vms[record_of(cluster, vm).uuid].memory_mib


def test_only_a_vm_that_is_off_goes_back(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    in_state(cluster, VmState.RUNNING)
    storage.write(b"after")
    with pytest.raises(Refused, match="is running; only a VM that is off"):
        cluster.commands.roll_back("web1", "monday")
    assert storage.contents()["data"] == b"after"


def test_only_a_vm_with_the_same_volumes_goes_back(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    storage.write(b"after")
    cluster.commands.remove_volume("web1", "vdb")
    cluster.commands.create_volume("web1", "memory", "vms", "more", MIB, device="vdc")
    wanted = "vdb was memory vms/logs and is no volume of it now; vdc .memory vms/more. was none of its disks"
    with pytest.raises(Refused, match=wanted):
        cluster.commands.roll_back("web1", "monday")
    assert storage.contents()["data"] == b"after"
    cluster.commands.remove_volume("web1", "vdc")
    cluster.commands.add_volume("web1", "memory", "vms", "logs", device="vdb")
    cluster.commands.roll_back("web1", "monday")
    assert storage.contents()["data"] == b"before"


def test_one_of_which_the_storage_has_not_all_is_not_gone_back_to(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    (name,) = storage.shared.held["vms"]["logs"].snapshots
    storage.shared.open(StorageSite("")).remove_snapshot("vms", "logs", name)
    storage.write(b"after")
    with pytest.raises(Refused, match=r"memory vms/logs has no snapshot vm.monday"):
        cluster.commands.roll_back("web1", "monday")
    assert storage.contents()["data"] == b"after"


def test_a_snapshot_that_there_is_not_is_said(cluster: StoredCluster) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    for ask in (cluster.commands.roll_back, cluster.commands.remove_snapshot, cluster.commands.vm_snapshot):
        with pytest.raises(NotFound, match=r"no snapshot of web1 is called 'sunday' .known: monday."):
            ask("web1", "sunday")


def test_storage_that_refuses_before_anything_is_changed_ends_it(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    storage.write(b"after")
    storage.fails["roll back", "data"] = Refused("volume data", "has later snapshots")
    with pytest.raises(Refused, match="nothing is rolled back: memory vms/data: volume data: has later snapshots"):
        cluster.commands.roll_back("web1", "monday")
    assert [each.state for each in cluster.commands.snapshots("web1")] == ["ready"]
    assert cluster.commands.unfinished_volumes() == ()
    cluster.commands.start("web1")


def test_a_vm_that_is_half_way_back_does_not_start_and_is_repaired(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    storage.write(b"after")
    storage.fails["roll back", "logs"] = Refused("volume logs", "is in use")
    with pytest.raises(Refused, match=r"gone back to in part, and the VM is kept off: .*is in use"):
        cluster.commands.roll_back("web1", "monday")
    assert storage.contents() == {"data": b"before", "logs": b"after"}
    kept_off = "is kept off: its snapshot monday"
    meanwhile: list[Callable[[], object]] = [
        lambda: cluster.commands.start("web1"),
        lambda: cluster.commands.redefine("web1", cluster.commands.definition("web1")),
        lambda: cluster.commands.change_metadata("web1", {"priority": 3}),
        lambda: cluster.commands.remove_volume("web1", "vda"),
        lambda: cluster.commands.take_snapshot("web1", "tuesday"),
        lambda: cluster.commands.roll_back("web1", "monday"),
        lambda: cluster.commands.remove_vm("web1"),
    ]
    for command in meanwhile:
        with pytest.raises(Refused, match=kept_off):
            command()
    with pytest.raises(Refused, match="is in use; if nobody works with it any more"):
        cluster.commands.remove_snapshot("web1", "monday")
    (left,) = cluster.commands.repair_volumes()
    assert (left.volume, left.vm, left.remedy) == ("snapshot monday", "web1", "it goes back, to the end")
    storage.fails.clear()
    assert cluster.commands.repair_volumes() == ()
    assert storage.contents() == {"data": b"before", "logs": b"before"}
    cluster.commands.start("web1")


def test_two_that_go_back_at_once_do_not_both(cluster: StoredCluster, storage: Storage) -> None:
    """The one that was taken for dead finds that another goes on, and does not set the VM free."""
    cluster.commands.take_snapshot("web1", "monday")
    other = cluster.new_commands()

    class Interrupted(Fragile):
        count = 0

        def roll_back(self, pool: str, volume: str, name: str) -> Volume:
            Interrupted.count += 1
            if Interrupted.count == 1:
                assert other.repair_volumes() == ()
                assert other.start("web1").vm is not None
            return super().roll_back(pool, volume, name)

    storage.shared._client = Interrupted
    with pytest.raises(Refused, match="somebody else goes on with it"):
        cluster.new_commands().roll_back("web1", "monday")
    assert Interrupted.count == 3, "one volume of the first, both of the second"


# ------------------------------------------------------------------------------------------------ removing


def test_a_snapshot_is_removed_from_all_volumes(cluster: StoredCluster, storage: Storage) -> None:
    for name in ("monday", "tuesday"):
        cluster.commands.take_snapshot("web1", name)
    assert cluster.commands.remove_snapshot("web1", "monday").reason == "snapshot monday of web1 is removed"
    assert names(cluster) == ["tuesday"]
    assert storage.snapshots() == {"data": ["vm.tuesday"], "logs": ["vm.tuesday"]}
    assert events(cluster)[-1] == "vm_snapshot_removed"


def test_one_that_the_storage_keeps_stays_whole_or_is_removed_later(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "monday")
    storage.fails["remove", "data"] = Refused("volume data", "is in use")
    with pytest.raises(Refused, match="is not removed: memory vms/data: volume data: is in use"):
        cluster.commands.remove_snapshot("web1", "monday")
    assert [each.state for each in cluster.commands.snapshots("web1")] == ["ready"]
    storage.fails = storage.shared.fails = {("remove", "logs"): Refused("volume logs", "is in use")}  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="is removed in part: memory vms/logs: volume logs: is in use"):
        cluster.commands.remove_snapshot("web1", "monday")
    with pytest.raises(Refused, match="snapshot monday of web1: is removing"):
        cluster.commands.roll_back("web1", "monday")
    storage.fails.clear()
    assert cluster.commands.repair_volumes() == ()
    assert (names(cluster), storage.snapshots()) == ([], {"data": [], "logs": []})


def test_a_vm_with_snapshots_is_not_undefined_and_its_volumes_are_not_deleted(
    cluster: StoredCluster, storage: Storage
) -> None:
    for name in ("monday", "tuesday"):
        cluster.commands.take_snapshot("web1", name)
    with pytest.raises(Refused, match="has snapshots, which are to be removed before: monday, tuesday"):
        cluster.commands.undefine("web1")
    with pytest.raises(Refused, match="is in snapshots of web1, to be removed before: monday, tuesday"):
        cluster.commands.delete_volume("web1", "vda")
    assert [each.device for each in record_of(cluster).volumes] == ["vda", "vdb"]


def test_a_vm_is_removed_with_its_snapshots_and_volumes(cluster: StoredCluster, storage: Storage) -> None:
    for name in ("monday", "tuesday"):
        cluster.commands.take_snapshot("web1", name)
    outcome = cluster.commands.remove_vm("web1")
    assert outcome.reason == "web1 is undefined; deleted: memory vms/data, memory vms/logs"
    assert (outcome.warnings, storage.contents()) == ((), {})
    assert cluster.store.children(layout.VM_SNAPSHOTS) == ()


# ----------------------------------------------------------------------------------------------- retention


def test_of_automatic_snapshots_the_newest_are_kept_and_a_person_s_all(
    cluster: StoredCluster, storage: Storage
) -> None:
    cluster.commands.take_snapshot("web1", "mine")
    for number in range(4):
        cluster.commands.take_snapshot("web1", f"auto{number}", keep=2)
    assert names(cluster) == ["mine", "auto2", "auto3"]
    assert storage.snapshots()["logs"] == ["vm.mine", "vm.auto2", "vm.auto3"]
    cluster.commands.take_snapshot("web1", "other")
    assert names(cluster) == ["mine", "auto2", "auto3", "other"]


def test_one_that_is_too_old_and_cannot_be_removed_is_warned_of(cluster: StoredCluster, storage: Storage) -> None:
    cluster.commands.take_snapshot("web1", "auto0", keep=1)
    storage.fails["remove", "data"] = Refused("volume data", "is busy")
    outcome = cluster.commands.take_snapshot("web1", "auto1", keep=1)
    assert outcome.warnings == (
        "snapshot auto0 of web1 is too old and left: memory vms/data: volume data: is busy; "
        "`pvc vm volume repair` tries again",
    )
    storage.fails.clear()
    assert cluster.commands.repair_volumes() == ()
    assert names(cluster) == ["auto1"]


@pytest.mark.parametrize("keep", [-1, 101])
def test_how_many_are_kept_is_checked(cluster: StoredCluster, keep: int) -> None:
    with pytest.raises(InvalidInput, match="keep"):
        cluster.commands.take_snapshot("web1", "monday", keep=keep)


# -------------------------------------------------------------------------------------------------- deaths


COMMANDS: dict[str, Callable[[Commands], object]] = {
    "take": lambda commands: commands.take_snapshot("web1", "new", keep=1),
    "roll back": lambda commands: commands.roll_back("web1", "old"),
    "remove": lambda commands: commands.remove_snapshot("web1", "old"),
    "remove the vm": lambda commands: commands.remove_vm("web1"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("command", COMMANDS)
def test_whenever_a_process_dies_repair_leaves_the_old_state_or_the_new_one(
    cluster: StoredCluster, storage: Storage, command: str, at: int, before: bool
) -> None:
    cluster.commands.take_snapshot("web1", "old", keep=1)
    storage.write(b"after")
    carry_out_and_die(cluster.url, cluster.registry, COMMANDS[command], at, before=before)
    cluster.settle()
    if "web1" in cluster.snapshot().uuid_by_name and record_of(cluster).snapshots.kept_off:
        with pytest.raises(Refused, match="is kept off"):
            cluster.commands.start("web1")
    assert cluster.commands.repair_volumes() == ()
    assert_whole(cluster, storage)


@pytest.mark.parametrize("call", ["create", "remove", "roll back"])
@pytest.mark.parametrize("volume", VOLUMES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_process_that_dies_while_it_asks_the_storage_leaves_no_half(
    cluster: StoredCluster, storage: Storage, command: str, volume: str, call: str
) -> None:
    cluster.commands.take_snapshot("web1", "old", keep=1)
    storage.write(b"after")
    commands = cluster.new_commands()
    work = commands._snapshot_work
    for name in ("_take", "_remove"):
        wrapped = getattr(work, name)
        setattr(work, name, dying(wrapped, "create" if name == "_take" else "remove", call, volume))
    commands._roll_back_volume = dying(commands._roll_back_volume, "roll back", call, volume)  # type: ignore[method-assign]
    with contextlib.suppress(Killed):
        COMMANDS[command](commands)
    cluster.settle()
    assert cluster.commands.repair_volumes() == ()
    assert_whole(cluster, storage)


def dying(call: Callable[..., Any], kind: str, wanted: str, volume: str) -> Callable[..., Any]:
    """The call is made, and the process is dead before it hears the answer."""

    def made(of: Any, *rest: Any) -> Any:
        answer = call(of, *rest)
        if kind == wanted and of.name == volume:
            raise Killed
        return answer

    return made


def assert_whole(cluster: StoredCluster, storage: Storage) -> None:
    """The VM is as before, as at its snapshot, or gone; no volume has a snapshot that is nobody's."""
    assert len(set(storage.contents().values())) <= 1, "its volumes are of two moments"
    if "web1" not in cluster.snapshot().uuid_by_name:
        assert (cluster.store.children(layout.VM_SNAPSHOTS), storage.contents()) == ((), {})
        return
    record = record_of(cluster)
    assert (record.snapshots.taking, record.snapshots.kept_off) == ("", "")
    known = cluster.commands.snapshots("web1")
    assert {each.state.value for each in known} <= {"ready"}
    assert list(record.snapshots.names) == [each.name for each in known]
    assert storage.snapshots() == {name: [f"vm.{each.name}" for each in known] for name in VOLUMES}
    cluster.commands.start("web1")
