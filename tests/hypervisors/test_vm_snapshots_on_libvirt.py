# SPDX-License-Identifier: Apache-2.0
"""A guest on real libvirt with volumes of a real Ceph cluster has a snapshot while it runs, and goes back to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rbd_guests import MIB, POOL, ceph_for_guests, content, qemu_writes

from core.dying_store import Killed
from core.stored_cluster import ANY, StoredCluster
from core.stored_cluster import vm as record_of
from pvc_core import hookimpl, layout
from pvc_core.journal import Journal
from pvc_core.model import Member, Settings, VmState
from pvc_core.ports import DomainState, Hypervisor
from pvc_core.storage import StorageBackendEntry
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.hypervisor_harness import Bench, Guest, listed
from pvc_core.vm_snapshots import VmSnapshot
from pvc_daemon.giving_secrets import GivingSecrets
from pvc_daemon.guest_disks import GuestDisks
from pvc_daemon.guest_snapshots import HOLD_S, GuestSnapshots

if TYPE_CHECKING:
    from libvirt_testbed import LibvirtTestbed

    from pvc_lab.lab import Lab
    from pvc_storage_backends.ceph.backend import CephBackend

pytestmark = [pytest.mark.libvirt, pytest.mark.ceph]
VOLUMES = {"vda": "root", "vdb": "data"}


@pytest.fixture
def testbed(lab_of_two: Lab) -> Iterator[LibvirtTestbed]:
    from libvirt_testbed import LibvirtTestbed  # needs libvirt, which may be missing

    testbed = LibvirtTestbed(lab_of_two)
    yield testbed
    testbed.clear()


@pytest.fixture
def backend(lab_of_two: Lab, tmp_path: Path) -> Iterator[CephBackend]:
    from pvc_storage_backends.ceph.backend import CephBackend
    from storage.ceph_storage import options

    with ceph_for_guests(lab_of_two, tmp_path) as cluster:
        backend = CephBackend("", options(cluster, guest_user="guests").machine)
        for name in VOLUMES.values():
            backend.create_volume(POOL, name, 8 * MIB)
        yield backend
        backend.close()


class Plugin:
    """The storage as a plugin registers it."""

    def __init__(self, backend: CephBackend) -> None:
        self._backend = backend

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [StorageBackendEntry("rbd", "volumes in Ceph", lambda _site: self._backend, "rbd")]


class Scene:
    """A VM with two volumes whose guest runs on hv1."""

    def __init__(self, testbed: LibvirtTestbed, backend: CephBackend, folder: Path, cleanup: ExitStack) -> None:
        self.testbed, self.backend = testbed, backend
        self.bench = Bench(testbed, cleanup)
        self.cluster = StoredCluster(folder, registry_with(rbd=Plugin(backend)))
        cleanup.callback(self.cluster.close)
        self.cluster.add_nodes("hv1")
        drivers = {"storage_backends": ("rbd",)}
        self.cluster.put(layout.member("hv1"), Member(node="hv1", session="s", version="test", drivers=drivers))
        registry = self.cluster.registry
        self.access = StorageAccess(registry.calls, registry.storage_backends, OutsideNodes(registry, Settings).backend)
        self.guest: Guest = self.bench.defined()
        self.cluster.commands.define(self.guest.xml, ANY)
        for device, name in VOLUMES.items():
            self.cluster.commands.add_volume("web1", "rbd", POOL, name, device=device)
        giving = GivingSecrets("hv1", self.bench.here, self.access, dict, SYSTEM_THREADS)
        disks = GuestDisks("hv1", self.bench.here, SystemClock(), giving.disk_of)
        self.bench.here.create(disks.composed(self.guest.xml, record_of(self.cluster)))
        testbed.wait_until_up("hv1", self.guest.uuid)
        self.is_in(VmState.RUNNING)

    def is_in(self, state: VmState) -> None:
        record = record_of(self.cluster)
        self.cluster.put(layout.vm(record.uuid), msgspec.structs.replace(record, state=state))

    def write(self, letter: str) -> None:
        """QEMU writes to both disks."""
        with self.testbed._domain("hv1", self.guest.uuid) as domain:
            for device in VOLUMES:
                qemu_writes(domain, device, letter)

    def contents(self) -> list[str]:
        return [content(self.backend, name) for name in VOLUMES.values()]

    def life(self, hypervisor: Hypervisor | None = None) -> GuestSnapshots:
        """One life of the daemon."""
        clock = SystemClock()
        journal = Journal(clock, lambda: "agent:hv1")
        here = hypervisor or self.bench.here
        return GuestSnapshots("hv1", self.cluster.store, here, clock, journal, self.access, lambda _entry: None)

    def take(self, name: str) -> tuple[VmSnapshot, float]:
        """A snapshot of the guest that runs, and how many seconds that took."""
        self.cluster.commands.take_snapshot("web1", name)
        began_s = time.monotonic()
        self.life().take(self.guest.uuid, name)
        took_s = time.monotonic() - began_s
        self.cluster.settle()
        assert record_of(self.cluster).snapshots.problem == ""
        return self.cluster.commands.vm_snapshot("web1", name), took_s

    def goes_on(self, life: str) -> None:
        """It runs, and counts its seconds on in the same life."""
        domain = listed(self.bench.here, self.guest)
        assert domain is not None
        assert domain.state is DomainState.RUNNING
        seen = self.testbed.ticks(self.guest.uuid)[-1]
        self.bench.until(lambda: self.testbed.ticks(self.guest.uuid)[-1].count > seen.count, "it ticks on")
        assert self.testbed.life_of(self.guest.uuid) == life


@pytest.fixture
def scene(testbed: LibvirtTestbed, backend: CephBackend, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as cleanup:
        yield Scene(testbed, backend, tmp_path, cleanup)


def test_a_guest_that_runs_and_has_written_is_remembered_at_once_and_goes_back(scene: Scene) -> None:
    life = scene.testbed.life_of(scene.guest.uuid)
    scene.write("a")
    assert scene.contents() == ["a", "a"]
    monday, took_s = scene.take("monday")
    assert (monday.state, monday.consistency, monday.halted) == ("ready", "crash", "")
    assert took_s < HOLD_S, "QEMU, whose processors stand still, has let the locks of its images go"
    scene.goes_on(life)
    scene.write("b")
    assert scene.contents() == ["b", "b"], "the guest writes on after its snapshot"

    scene.bench.here.destroy(scene.guest.uuid)
    scene.is_in(VmState.STOPPED)
    scene.cluster.commands.roll_back("web1", "monday")
    assert scene.contents() == ["a", "a"]
    scene.cluster.commands.remove_vm("web1")
    assert scene.backend.volumes(POOL) == ()


class Dies:
    """A daemon that dies as soon as the processors of its guest stand still."""

    def __init__(self, inner: Hypervisor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def suspend(self, uuid: str) -> None:
        self._inner.suspend(uuid)
        raise Killed


def test_a_daemon_that_dies_while_its_guest_stands_still_lets_it_go_on_in_its_next_life(scene: Scene) -> None:
    life = scene.testbed.life_of(scene.guest.uuid)
    scene.cluster.commands.take_snapshot("web1", "monday")
    with suppress(Killed):
        scene.life(Dies(scene.bench.here)).take(scene.guest.uuid, "monday")  # type: ignore[arg-type]
    domain = listed(scene.bench.here, scene.guest)
    assert domain is not None
    assert domain.state is DomainState.PAUSED
    scene.life().take(scene.guest.uuid, "monday")
    scene.cluster.settle()
    scene.goes_on(life)
    assert record_of(scene.cluster).snapshots.problem == "web1: the daemon that took it ended meanwhile"
    assert [scene.backend.snapshots(POOL, name) for name in VOLUMES.values()] == [(), ()]
