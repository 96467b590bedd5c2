# SPDX-License-Identifier: Apache-2.0
"""volume_commands: a volume becomes a disk of one VM and of no other, and is given up again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stored_cluster import ANY, StoredCluster
from stored_cluster import vm as record_of

from pvc_core import hookimpl, layout
from pvc_core.errors import InvalidInput, NoCandidate, NotFound, PvcError, Refused
from pvc_core.model import Member, VmState
from pvc_core.registry import Registry
from pvc_core.storage import StorageBackendEntry, StorageCapability, StorageSite
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_core.testing.played_agents import xml
from pvc_core.vm_volumes import VmVolume
from pvc_core.volume_claims import every_claim, letting_go


class OwnDisks:
    """Registers in-memory storage that all nodes reach, and some that lies on each host."""

    def __init__(self) -> None:
        self.shared = MemoryStorage({"vms": 2**30})
        self.local = MemoryStorage({"disks": 2**30}, name="local", capabilities=[StorageCapability.RESIZE])
        for name in ("web1", "data", "logs"):
            self.shared.open(StorageSite("")).create_volume("vms", name, 1024)

    def registry(self) -> Registry:
        return registry_with(memory=self)

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.shared.entry(), self.local.entry()]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoredCluster]:
    """Two nodes and the VMs web1 and web2, stopped on hv1."""
    cluster = StoredCluster(tmp_path, OwnDisks().registry())
    cluster.add_nodes("hv1", "hv2")
    for node in ("hv1", "hv2"):
        drivers = {"storage_backends": ("local", "memory")}
        cluster.put(layout.member(node), Member(node=node, session="s", version="test", drivers=drivers))
    for name in ("web1", "web2"):
        cluster.commands.define(xml(name), ANY, target="hv1")
    yield cluster
    cluster.close()


def volumes(cluster: StoredCluster, vm: str = "web1") -> list[tuple[str, str, str]]:
    """Device, title, node."""
    return [(each.device, each.title, each.node) for each in record_of(cluster, vm).volumes]


def claims(cluster: StoredCluster) -> dict[str, str]:
    """Title to the VM's name."""
    names = {stored.value.uuid: stored.value.name for stored in cluster.view.snapshot().vms.values()}
    return {claim.value.title: names[claim.value.vm] for claim in every_claim(cluster.store)}


def put(cluster: StoredCluster, **fields: Any) -> None:
    """Write fields of the record of web1."""
    record = record_of(cluster)
    cluster.put(layout.vm(record.uuid), msgspec.structs.replace(record, **fields))


def test_a_volume_becomes_the_first_free_disk_and_is_claimed(cluster: StoredCluster) -> None:
    outcome = cluster.commands.add_volume("web1", "memory", "vms", "data")
    assert outcome.reason == "memory vms/data is vda of web1"
    cluster.commands.add_volume("web1", "memory", "vms", "logs")
    assert volumes(cluster) == [("vda", "memory vms/data", ""), ("vdb", "memory vms/logs", "")]
    assert claims(cluster) == {"memory vms/data": "web1", "memory vms/logs": "web1"}


def test_every_disk_has_an_identity_of_its_own_that_its_name_does_not_change(cluster: StoredCluster) -> None:
    for _ in range(2):
        cluster.commands.add_volume("web1", "memory", "vms", "data")
        marks = {each.mark for each in record_of(cluster).volumes}
        cluster.commands.remove_volume("web1", "vda")
        cluster.commands.add_volume("web1", "memory", "vms", "data")
        assert marks.isdisjoint(each.mark for each in record_of(cluster).volumes)
        cluster.commands.remove_volume("web1", "vda")


def test_a_volume_of_one_vm_is_refused_to_another_naming_the_first(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    cluster.commands.rename("web1", "web9")
    for vm in ("web2", "web9"):
        with pytest.raises(Refused, match="memory vms/data: is a volume of web9 already"):
            cluster.commands.add_volume(vm, "memory", "vms", "data")
    assert volumes(cluster, "web2") == []


def test_of_many_who_want_a_volume_at_the_same_moment_one_gets_it(cluster: StoredCluster) -> None:
    every = [cluster.new_commands() for _ in range(4)]

    def attempt(number: int) -> bool:
        try:
            every[number].add_volume(f"web{number % 2 + 1}", "memory", "vms", "data")
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(attempt, range(4))) == 1
    cluster.settle()
    assert len(volumes(cluster, "web1") + volumes(cluster, "web2")) == 1


def test_what_lies_on_a_host_belongs_to_the_vms_node(cluster: StoredCluster) -> None:
    outcome = cluster.commands.add_volume("web1", "local", "disks", "data")
    assert outcome.reason == "local disks/data on hv1 is vda of web1"
    assert outcome.volume.node == "hv1"


@pytest.mark.parametrize(
    ("vm", "backend", "pool", "name", "device", "problem"),
    [
        ("nobody", "memory", "vms", "data", "", "no VM is called 'nobody'"),
        ("web1", "none", "vms", "data", "", "no storage backend is called 'none' (known: "),
        ("web1", "memory", "none", "data", "", "no pool is called 'none' (known: vms)"),
        ("web1", "memory", "vms", "none", "", "no volume is called 'none'"),
        ("web1", "memory", "vms", "../data", "", "name '../data': needs letters"),
        ("web1", "memory", "vms", "data", "sda", "device 'sda': is no name of a disk (allowed: vda to vdz"),
    ],
)
def test_what_there_is_not_is_refused_and_nothing_is_written(
    cluster: StoredCluster, vm: str, backend: str, pool: str, name: str, device: str, problem: str
) -> None:
    with pytest.raises(PvcError) as caught:
        cluster.commands.add_volume(vm, backend, pool, name, device=device)
    assert problem in caught.value.sentence()
    assert (volumes(cluster), claims(cluster)) == ([], {})


def test_a_device_is_one_disk_only(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data", device="vdc")
    with pytest.raises(Refused, match="web1: has memory vms/data as vdc already"):
        cluster.commands.add_volume("web1", "memory", "vms", "logs", device="vdc")
    assert list(claims(cluster)) == ["memory vms/data"]


def with_own_disk(name: str, device: str = "vda") -> str:
    disk = f"<devices><disk type='file'><source file='/x'/><target dev='{device}'/></disk></devices>"
    return xml(name).replace("</domain>", f"{disk}</domain>")


def test_a_disk_of_the_definition_keeps_its_device(cluster: StoredCluster) -> None:
    cluster.commands.redefine("web1", with_own_disk("web1"))
    with pytest.raises(InvalidInput, match="the definition has a disk vda of its own"):
        cluster.commands.add_volume("web1", "memory", "vms", "data", device="vda")
    assert cluster.commands.add_volume("web1", "memory", "vms", "data").volume.device == "vdb"


def test_a_definition_with_a_disk_where_a_volume_is_is_refused(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    with pytest.raises(InvalidInput, match="the definition has a disk vda of its own"):
        cluster.commands.redefine("web1", with_own_disk("web1"))


def test_the_definition_stays_as_its_author_wrote_it(cluster: StoredCluster) -> None:
    before = cluster.commands.definition("web1")
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    assert cluster.commands.definition("web1") == before


def test_a_volume_that_is_given_up_is_free_for_another_vm(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data", device="vdb")
    outcome = cluster.commands.remove_volume("web1", "vdb")
    assert outcome.reason == "memory vms/data is no volume of web1 any more"
    assert (volumes(cluster), claims(cluster)) == ([], {})
    cluster.commands.add_volume("web2", "memory", "vms", "data")
    with pytest.raises(NotFound, match="no volume of web1 is called 'vdb'"):
        cluster.commands.remove_volume("web1", "vdb")


def test_a_vm_that_is_undefined_gives_its_volumes_up_and_they_stay(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    cluster.commands.undefine("web1")
    assert claims(cluster) == {}
    cluster.commands.add_volume("web2", "memory", "vms", "data")


def test_a_vm_keeps_its_volumes_when_it_is_renamed_defined_otherwise_or_described_otherwise(
    cluster: StoredCluster,
) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    cluster.commands.rename("web1", "web9")
    cluster.commands.redefine("web9", xml("web9", memory_mib=600))
    cluster.commands.change_metadata("web9", {"priority": 3})
    cluster.commands.move("web9", "hv2")
    assert volumes(cluster, "web9") == [("vda", "memory vms/data", "")]
    assert claims(cluster) == {"memory vms/data": "web9"}


def test_a_record_without_its_claim_can_still_be_given_up(cluster: StoredCluster) -> None:
    lost = VmVolume(device="vdb", backend="memory", pool="vms", name="data", id="x")
    put(cluster, volumes=(lost,))
    cluster.commands.remove_volume("web1", "vdb")
    assert volumes(cluster) == []
    assert cluster.store.children(layout.VOLUMES) == ()


def test_a_vm_on_its_way_gets_and_loses_no_volume(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    put(cluster, state=VmState.MIGRATING, target="hv2")
    for command in (
        lambda: cluster.commands.add_volume("web1", "memory", "vms", "logs"),
        lambda: cluster.commands.remove_volume("web1", "vda"),
    ):
        with pytest.raises(Refused, match="is migrating to hv2"):
            command()
    assert list(claims(cluster)) == ["memory vms/data"]


# ------------------------------------------------------------------------------------------ of a VM that runs


def test_a_volume_of_a_vm_that_runs_is_leaving_and_nobody_elses_before_it_has_left(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    put(cluster, state=VmState.RUNNING)
    outcome = cluster.commands.remove_volume("web1", "vda")
    assert outcome.reason == "memory vms/data is no volume of web1 any more; its guest follows"
    assert [each.leaving for each in record_of(cluster).volumes] == [True]
    with pytest.raises(Refused, match="is a volume of web1 already"):
        cluster.commands.add_volume("web2", "memory", "vms", "data")
    with pytest.raises(Refused, match="has memory vms/data as vda already, of which its guest has not let go yet"):
        cluster.commands.add_volume("web1", "memory", "vms", "logs", device="vda")
    assert cluster.commands.remove_volume("web1", "vda").reason == "memory vms/data is leaving web1 already"


def test_what_has_left_is_free(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    cluster.commands.add_volume("web1", "memory", "vms", "logs")
    put(cluster, state=VmState.RUNNING)
    cluster.commands.remove_volume("web1", "vda")
    stored = cluster.snapshot().vm("web1")
    change = letting_go(cluster.store, stored, stored.value.volumes, "the guest has let go")
    assert change.vm is not None
    assert [each.device for each in change.vm.volumes] == ["vdb"]
    cluster.store.transaction(change.ops)
    cluster.settle()
    assert claims(cluster) == {"memory vms/logs": "web1"}


@pytest.mark.parametrize("command", ["remove_volume", "undefine"])
def test_a_vm_that_is_off_is_not_waited_for(cluster: StoredCluster, command: str) -> None:
    cluster.commands.add_volume("web1", "memory", "vms", "data")
    put(cluster, state=VmState.RUNNING)
    cluster.commands.remove_volume("web1", "vda")
    put(cluster, state=VmState.STOPPED)
    if command == "undefine":
        cluster.commands.undefine("web1")
    else:
        cluster.commands.remove_volume("web1", "vda")
    assert claims(cluster) == {}


def test_a_vm_does_not_leave_the_host_on_which_its_volumes_lie(cluster: StoredCluster) -> None:
    cluster.commands.add_volume("web1", "local", "disks", "data")
    with pytest.raises(NoCandidate, match="its volumes on local lie on hv1, out of reach from elsewhere"):
        cluster.commands.move("web1", "hv2")
    cluster.commands.remove_volume("web1", "vda")
    cluster.commands.move("web1", "hv2")
