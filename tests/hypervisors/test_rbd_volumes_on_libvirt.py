# SPDX-License-Identifier: Apache-2.0
"""A guest on real libvirt starts with a volume of a real Ceph cluster, gets another, and takes both to another host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rbd_guests import MIB, POOL, ceph_for_guests

from pvc_core.agent_actions import AttachDisk
from pvc_core.errors import HypervisorError
from pvc_core.model import Settings
from pvc_core.ports import Hypervisor
from pvc_core.storage import StorageBackendEntry
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.builders import a_vm
from pvc_core.testing.driver_suite import registry_of
from pvc_core.testing.hypervisor_harness import Bench
from pvc_core.vm_volumes import VmVolume
from pvc_daemon.giving_secrets import GivingSecrets
from pvc_daemon.guest_disks import GuestDisks

if TYPE_CHECKING:
    from libvirt_testbed import LibvirtTestbed

    from pvc_lab.ceph_cluster import CephCluster
    from pvc_lab.lab import Lab
    from pvc_storage_backends.ceph.backend import CephBackend

pytestmark = [pytest.mark.libvirt, pytest.mark.ceph]
ROOT = VmVolume(device="vda", backend="ceph", pool=POOL, name="root", id="1")
DATA = VmVolume(device="vdb", backend="ceph", pool=POOL, name="data", id="2")


@pytest.fixture
def testbed(lab_of_two: Lab) -> Iterator[LibvirtTestbed]:
    from libvirt_testbed import LibvirtTestbed  # needs libvirt, which may be missing

    testbed = LibvirtTestbed(lab_of_two)
    yield testbed
    testbed.clear()


@pytest.fixture
def cluster(lab_of_two: Lab, tmp_path: Path) -> Iterator[CephCluster]:
    with ceph_for_guests(lab_of_two, tmp_path) as cluster:
        yield cluster


@dataclass
class Storage:
    """Volumes in Ceph, and how each host's hypervisor comes to know its key."""

    backend: CephBackend
    access: StorageAccess

    def giving(self, node: str, hypervisor: Hypervisor) -> GivingSecrets:
        return GivingSecrets(node, hypervisor, self.access, dict, SYSTEM_THREADS)

    def disks(self, giving: GivingSecrets, hypervisor: Hypervisor) -> GuestDisks:
        return GuestDisks("hv1", hypervisor, SystemClock(), giving.disk_of)

    def users(self, volume: VmVolume) -> int:
        """How many have the image open."""
        from pvc_storage_backends.ceph.users import watchers

        with self.backend.image(POOL, volume.name) as image:
            return len(watchers(image))


@pytest.fixture
def storage(cluster: CephCluster) -> Iterator[Storage]:
    from pvc_storage_backends.ceph.backend import CephBackend
    from storage.ceph_storage import options

    backend = CephBackend("", options(cluster, guest_user="guests").machine)
    for volume in (ROOT, DATA):
        backend.create_volume(POOL, volume.name, 8 * MIB)
    registry = registry_of(StorageBackendEntry("ceph", "volumes in Ceph", lambda site: backend, "ceph"))
    access = StorageAccess(registry.calls, registry.storage_backends, OutsideNodes(registry, Settings).backend)
    yield Storage(backend, access)
    backend.close()


def test_a_guest_starts_with_a_volume_of_ceph_gets_another_and_takes_both_along(
    testbed: LibvirtTestbed, storage: Storage
) -> None:
    with ExitStack() as cleanup:
        bench = Bench(testbed, cleanup)
        guest = bench.defined()
        record = a_vm(guest.name, uuid=guest.uuid, volumes=(ROOT, DATA))
        without = storage.disks(storage.giving("hv1", Forgetful()), bench.here)  # type: ignore[arg-type]
        xml = without.composed(guest.xml, a_vm(guest.name, uuid=guest.uuid, volumes=(ROOT,)))
        with pytest.raises(HypervisorError, match="secret"):
            bench.here.create(xml)

        disks = storage.disks(storage.giving("hv1", bench.here), bench.here)
        bench.here.create(disks.composed(guest.xml, a_vm(guest.name, uuid=guest.uuid, volumes=(ROOT,))))
        testbed.wait_until_up("hv1", guest.uuid)
        life = testbed.life_of(guest.uuid)
        assert storage.users(ROOT) == 1, "QEMU has the image open"
        assert storage.users(DATA) == 0

        restart_libvirtd(testbed, bench)
        attach = AttachDisk(guest.uuid, DATA, "it is in the record")
        disks.change(attach, record, lambda _: None, lambda trouble: pytest.fail(trouble.reason))
        assert [disk.device for disk in bench.here.disks(guest.uuid)] == ["vda", "vdb"]
        assert storage.users(DATA) == 1

        storage.giving("hv2", bench.there).give("ceph")
        bench.begin_migration(guest).result(testbed.deadline_s)
        bench.assert_runs_only_there(guest, life)
        assert [disk.device for disk in bench.there.disks(guest.uuid)] == ["vda", "vdb"]
        bench.until(lambda: (storage.users(ROOT), storage.users(DATA)) == (1, 1), "only the target has the images open")


class Forgetful:
    """A hypervisor that is told and does not listen."""

    def ensure_secret(self, secret: object) -> None: ...


def restart_libvirtd(testbed: LibvirtTestbed, bench: Bench) -> None:
    """It has forgotten the secret."""
    events = bench.log_of(bench.here)
    testbed.take_away("hv1")
    bench.until(lambda: not bench.here.connected, "the loss is noticed")
    testbed.bring_back("hv1")
    events.wait_for_list_anew()
    assert testbed.secrets("hv1") == []
