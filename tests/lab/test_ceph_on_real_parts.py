# SPDX-License-Identifier: Apache-2.0
"""A guest whose only disk is an RBD volume: it boots from it, counts on it, moves, loses its host, and loses no count.

What it has told as synced has to be there for whoever goes on, whatever became of its host; and a host that stood still
meanwhile must not write when it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from machine_room import SESSION_TIMEOUT_S, MachineRoom

from operators import an_operator
from pvc_core.events import EventKind
from pvc_core.snapshot import NodeView
from pvc_lab import guest_disk, leftovers
from pvc_lab.cluster_node import ClusterNode
from pvc_lab.console_history import overlaps
from pvc_lab.guest import Guest
from pvc_lab.guest_disk import DISK_MIB, DiskCount, disk_counts
from pvc_lab.lab_ceph import POOL, LabCeph
from pvc_lab.real_cluster import RealCluster
from pvc_lab.waiting import wait_for

pytestmark = [
    *(pytest.mark.lab, pytest.mark.libvirt, pytest.mark.zookeeper, pytest.mark.ceph),
    pytest.mark.timeout(300),
]
DEADLINE_S = 120


@pytest.fixture(scope="module")
def ceph_room(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Iterator[MachineRoom]:
    for part in ("zookeeper", "libvirt", "lab", "ceph"):
        require(part)
    options = {"session_timeout_s": SESSION_TIMEOUT_S}
    root = tmp_path_factory.mktemp("pvc-lab")
    cluster = RealCluster(root, 3, workers=1, store_options=options, bmcs=True, ceph=True)
    prefix = cluster.lab.plan.prefix
    with cluster, an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        yield MachineRoom(cluster, operator)
    assert leftovers.leftovers(prefix) == []


@pytest.fixture
def room(ceph_room: MachineRoom) -> Iterator[MachineRoom]:
    ceph_room.tidy()
    ceph_room.cluster.watch.look_again()
    yield ceph_room
    assert ceph_room.cluster.two_nodes() == (), "a guest ran on two nodes"


@dataclass(frozen=True)
class CountingGuest:
    """A guest that boots from a volume of its own and counts on it."""

    room: MachineRoom
    name: str

    @property
    def counts(self) -> list[DiskCount]:
        """What its console has told, whichever hosts it has run on."""
        return disk_counts(self.room.cluster.lab.console_path(self.name))

    @property
    def synced(self) -> DiskCount:
        """The last count that it knows to be on its volume."""
        return [count for count in self.counts if count.what == "synced"][-1]

    def wait_count(self, what: str, follows: Callable[[DiskCount], bool] = lambda _: True) -> DiskCount:
        """The first line that tells this."""
        return wait_for(
            lambda: next((count for count in self.counts if count.what == what and follows(count)), None),
            f"the console of {self.name} to say {what}",
            deadline_s=DEADLINE_S,
        )

    def wait_counts_on(self, mark: DiskCount) -> None:
        """Until it has synced more, in the same boot."""
        self.wait_count("synced", lambda count: count.boot_id == mark.boot_id and count.count > mark.count + 2)

    def wait_recovered(self, *lost: ClusterNode) -> DiskCount:
        """Until it has booted on another node; what it has found there. Nothing synced before is missing."""
        before = self.synced
        gone = {node.name for node in lost}
        self.room.wait(lambda s: s.vm(self.name).value.node not in gone, f"{self.name} to leave")
        self.room.operator.wait_state(self.name)
        found = self.wait_count("found", lambda count: count.boot_id != before.boot_id)
        earlier = self.counts[: self.counts.index(found)]
        assert found.count >= max(count.count for count in earlier if count.what == "synced")
        self.wait_counts_on(found)
        return found


def a_counting_guest(room: MachineRoom, name: str, node: ClusterNode) -> CountingGuest:
    """It runs on the node, from a volume that it was given as a person gives it."""
    cluster, volume = room.cluster, f"{name}-root"
    image = cluster.lab.root / f"{name}.img"
    guest_disk.build(cluster.lab.guest_image, image)
    room.pvc("storage", "ceph", "volume", "add", POOL, volume, f"{DISK_MIB}MiB")
    ceph_of(cluster).fill(volume, image)
    definition = Guest(name, console=cluster.lab.console_path(name), memory_mib=96).xml()
    room.operator.define_xml(definition, target=node.name, start=False)
    room.pvc("vm", "volume", "add", name, "ceph", f"{POOL}/{volume}")
    room.pvc("vm", "start", name, "--wait")
    guest = CountingGuest(room, name)
    assert guest.wait_count("found").count == 0
    guest.wait_count("synced")
    return guest


def ceph_of(cluster: RealCluster) -> LabCeph:
    assert cluster.lab.ceph is not None
    return cluster.lab.ceph


def its_clients_are_out_for_good(cluster: RealCluster, node: ClusterNode) -> bool:
    """Some of its clients, and not its whole address. A lock that is broken costs its owner no more than an hour."""
    entries = ceph_of(cluster).cluster.admin.command("osd blocklist ls")
    address = f"{node.host.address}:"
    until = [datetime.fromisoformat(each["until"]) for each in entries if each["addr"].startswith(address)]
    is_out = any(each["addr"].startswith(f"{address}0/0") for each in entries)
    return not is_out and bool(until) and min(until) > datetime.now(UTC) + timedelta(days=365)


def uses_ceph(node: NodeView) -> bool:
    """Whether it says so in its report."""
    return node.report is not None and node.report.value.storage["ceph"].usable


def assert_one_writer(guest: CountingGuest) -> None:
    """What was counted grew all the time, and nobody has synced after another boot had begun to."""
    counted = [count for count in guest.counts if count.what != "refused"]
    assert overlaps(counted) == []
    assert [count.count for count in counted] == sorted(count.count for count in counted)


def test_the_pools_are_shown_in_every_format(room: MachineRoom) -> None:
    def shown(output: str) -> str:
        return room.pvc("storage", "ceph", "pool", "list", "-o", output)

    head, row = shown("table").splitlines()[:2]
    assert head.split()[:4] == ["POOL", "SIZE", "MIN", "PGS"]
    assert row.split()[:4] == [POOL, "3", "1", "8"]
    (pool,) = json.loads(shown("json"))["pools"]
    assert (pool["name"], pool["size"], pool["pg_num"], pool["volumes"]) == (POOL, 3, 8, True)
    assert [each["name"] for each in yaml.safe_load(shown("yaml"))["pools"]] == [POOL]
    assert shown("names").split() == [POOL]


def test_a_guest_on_a_volume_migrates_live_and_starts_elsewhere_without_losing_a_count_when_the_power_is_pulled(
    room: MachineRoom,
) -> None:
    room.cluster.add_fence_devices()
    source, target, _ = (*room.followers(), room.leader())
    guest = a_counting_guest(room, "web1", source)

    before = guest.synced
    room.pvc("vm", "migrate", "web1", "--target", target.name, "--wait")
    assert room.cluster.active_on("web1") == (target.name,)
    guest.wait_counts_on(guest.synced)
    assert guest.synced.boot_id == before.boot_id

    target.power_off()
    guest.wait_recovered(target)
    assert room.nodes_in(EventKind.NODE_FENCED) == {target.name}
    assert_one_writer(guest)
    target.boot()
    room.wait_ready()


def test_a_host_that_stood_still_cannot_write_when_it_goes_on_and_is_taken_back_without_a_bmc(
    room: MachineRoom,
) -> None:
    lost, _, _ = (*room.followers(), room.leader())
    room.pvc("node", "fence-device", "clear", lost.name, "-y")
    guest = a_counting_guest(room, "web2", lost)
    old = guest.synced

    room.cluster.freeze(lost.name)
    guest.wait_recovered(lost)
    (fenced,) = room.events(EventKind.NODE_FENCED)
    assert "storage has shut it out" in fenced.reason
    assert lost.name in room.cluster.active_on("web2"), "it still stands there"

    lost.thaw(daemon=False)
    guest.wait_count("refused", lambda count: count.boot_id == old.boot_id)
    lost.continue_daemon()
    room.wait_ready()
    assert room.nodes_in(EventKind.NODE_ADMITTED) == {lost.name}
    assert its_clients_are_out_for_good(room.cluster, lost)
    assert room.cluster.active_on("web2") == (room.operator.vm("web2").node,)
    assert_one_writer(guest)

    room.cluster.watch.look_again()
    room.wait(lambda s: uses_ceph(s.node(lost.name)), f"{lost.name} to use Ceph again")
    mark = guest.synced
    room.pvc("vm", "migrate", "web2", "--target", lost.name, "--wait")
    guest.wait_counts_on(mark)
