# SPDX-License-Identifier: Apache-2.0
"""Daemons whose plugin has in-memory storage: the volumes in a VM's record become disks of its guest."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from installed_module import install_module
from operators import Operator, an_operator, running
from pvc_core import StorageBackendEntry, hookimpl
from pvc_core.disk_xml import disks_in, marks_of
from pvc_core.errors import Refused
from pvc_core.event_log import EventLog
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
    install_module(tmp_path / "site", "memory-plugin", PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
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


def attached(operator: Operator, vm: str = "web1") -> dict[str, str]:
    """Which volumes the guest's node says that it has, by device; with what is wrong."""
    snapshot = operator.view.snapshot()
    record = snapshot.vm(vm).value
    report = snapshot.node(record.node).report
    seen = report.value.domains[record.uuid].volumes if report and record.uuid in report.value.domains else {}
    return {each.device: seen[each.id] for each in record.volumes if each.id in seen}


def test_a_guest_that_runs_gets_volumes_and_lets_go_of_them(cluster: EmbeddedCluster, operator: Operator) -> None:
    uuid = operator.define("web1", target="hv1")
    operator.wait_state("web1")
    operator.commands.add_volume("web1", "memory", "vms", "data")
    operator.commands.add_volume("web1", "memory", "vms", "logs")
    operator.wait(lambda _: attached(operator) == {"vda": "", "vdb": ""}, "both volumes to be attached")
    assert disks(cluster, uuid) == ["vda", "vdb"]
    operator.commands.remove_volume("web1", "vda")
    operator.wait(lambda s: [each.device for each in s.vm("web1").value.volumes] == ["vdb"], "vda to leave")
    assert disks(cluster, uuid) == ["vdb"]
    operator.define("web2", target="hv2", start=False)
    operator.commands.add_volume("web2", "memory", "vms", "data")


def test_a_daemon_that_starts_anew_finds_out_what_its_guests_have(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"fence_grace_s": 60})  # lest this storage proves the node harmless meanwhile
    uuid = operator.define("web1", target="hv1", start=False)
    operator.commands.add_volume("web1", "memory", "vms", "data")
    operator.commands.start("web1")
    operator.wait_state("web1")
    cluster.stop("hv1", signal.SIGKILL)
    operator.commands.add_volume("web1", "memory", "vms", "logs")
    operator.commands.remove_volume("web1", "vda")
    cluster.start_daemon("hv1")
    operator.wait(lambda _: attached(operator) == {"vdb": ""}, "the guest to have the one and not the other")
    assert disks(cluster, uuid) == ["vdb"]


def test_a_guest_that_keeps_a_disk_is_told_of_and_the_volume_stays_its_own_until_it_ends(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    operator.define("web1", "keeps-disks='yes'", target="hv1", start=False)
    operator.commands.add_volume("web1", "memory", "vms", "data")
    operator.commands.start("web1")
    operator.wait_state("web1")
    operator.commands.remove_volume("web1", "vda")
    operator.wait(lambda _: "has not let go of vda" in attached(operator).get("vda", ""), "the guest's refusal")
    told = [event.reason for event in EventLog(operator.store).last(100).events if event.kind == "vm_volume_failed"]
    assert told == [
        "memory vms/data (vda) cannot be detached: the guest has not let go of vda within 10 s; it is tried again"
    ]
    operator.define("web2", target="hv2", start=False)
    with pytest.raises(Refused, match="is a volume of web1 already"):
        operator.commands.add_volume("web2", "memory", "vms", "data")
    operator.commands.stop("web1")
    operator.wait(lambda s: s.vm("web1").value.volumes == (), "the volume to leave with the guest")
    operator.commands.add_volume("web2", "memory", "vms", "data")
