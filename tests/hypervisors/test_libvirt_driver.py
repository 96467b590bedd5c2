# SPDX-License-Identifier: Apache-2.0
"""What only the libvirt driver does: consoles that go on, hung daemons, cut cables, descriptors, URLs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pvc_core.errors import HypervisorError, InvalidInput
from pvc_core.ports import DomainEventKind, DomainState
from pvc_core.testing.hypervisor_harness import Guest
from pvc_core.testing.hypervisor_suite import Bench

if TYPE_CHECKING:
    from libvirt_testbed import LibvirtTestbed

    from pvc_lab.lab import Lab
    from pvc_plugins.hypervisors.libvirt_driver.migration import OutgoingMigration

pytestmark = pytest.mark.libvirt


@pytest.fixture
def testbed(lab_of_two: Lab) -> Iterator[LibvirtTestbed]:
    from libvirt_testbed import LibvirtTestbed  # needs libvirt, which may be missing

    testbed = LibvirtTestbed(lab_of_two)
    yield testbed
    testbed.clear()


@pytest.fixture
def bench(testbed: LibvirtTestbed) -> Iterator[Bench]:
    with ExitStack() as cleanup:
        yield Bench(testbed, cleanup)


@pytest.fixture
def slow(testbed: LibvirtTestbed) -> Iterator[Bench]:
    with ExitStack() as cleanup:
        yield Bench(testbed, cleanup, slow_migrations=True)


def test_the_guests_own_clock_goes_on_across_a_migration(bench: Bench, testbed: LibvirtTestbed) -> None:
    guest = bench.started()
    before = testbed.ticks(guest.uuid)[-1]
    bench.begin_migration(guest).result(testbed.deadline_s)
    bench.until(lambda: testbed.ticks(guest.uuid)[-1].count >= before.count + 3, "it ticks on the target")
    seen = testbed.ticks(guest.uuid)
    assert [tick.count for tick in seen] == list(range(len(seen)))
    assert {tick.boot_id for tick in seen} == {before.boot_id}


def test_qemu_is_told_the_maximum_downtime(slow: Bench, testbed: LibvirtTestbed) -> None:
    import libvirt

    guest = slow.started()
    slow.migrating(guest)
    connection = libvirt.open(testbed.lab.nodes["hv1"].outside_libvirt_uri)
    assert connection.lookupByUUIDString(guest.uuid).migrateGetMaxDowntime() == 300
    connection.close()


def test_a_migration_over_a_cut_cable_is_given_up_and_the_guest_runs_on(slow: Bench, testbed: LibvirtTestbed) -> None:
    guest = slow.started()
    life = testbed.life_of(guest.uuid)
    migration = slow.migrating(guest, timeout_s=3)
    testbed.lab.nodes["hv2"].cut_cable()
    try:
        failure = slow.failure_of(migration)
    finally:
        testbed.lab.nodes["hv2"].heal_cable()
    assert not failure.connection_lost
    slow.until(lambda: slow.there.domains() == (), "the copy on the target is gone")
    slow.assert_runs_only_here(guest, life)


def test_a_libvirtd_that_hangs_is_noticed_and_never_waited_for_without_end(
    bench: Bench, testbed: LibvirtTestbed
) -> None:
    events = bench.log_of(bench.here)
    host = testbed.lab.nodes["hv1"]
    assert host.run(["sh", "-c", "kill -STOP $(cat /run/libvirtd.pid)"]).returncode == 0
    try:
        began = time.monotonic()
        with pytest.raises(HypervisorError) as caught:
            bench.here.create(bench.defined().xml)
        assert caught.value.connection_lost
        assert "did not answer" in caught.value.reason
        with pytest.raises(HypervisorError) as caught:
            bench.here.domains()
        assert caught.value.connection_lost
        assert time.monotonic() - began < testbed.deadline_s
        assert not bench.here.connected
    finally:
        assert host.run(["sh", "-c", "kill -CONT $(cat /run/libvirtd.pid)"]).returncode == 0
    events.wait_for_list_anew()
    assert bench.here.domains() == ()


def test_lost_connections_leave_no_descriptors_behind(bench: Bench, testbed: LibvirtTestbed) -> None:
    events = bench.log_of(bench.here)

    def lose_and_reconnect() -> int:
        testbed.take_away("hv1")
        bench.until(lambda: not bench.here.connected, "the loss is noticed")
        testbed.bring_back("hv1")
        events.wait_for_list_anew()
        return len(list(Path("/proc/self/fd").iterdir()))

    first = lose_and_reconnect()
    assert [lose_and_reconnect() for _ in range(3)][-1] <= first


def test_a_copy_that_does_not_arrive_is_no_crash(slow: Bench, testbed: LibvirtTestbed) -> None:
    arriving = slow.log_of(slow.there)
    guest = slow.started()
    migration = slow.migrating(guest)
    slow.here.cancel_migration(guest.uuid)
    slow.failure_of(migration)
    other = slow.defined("other")
    slow.there.create(other.xml)
    arriving.wait_for(other.uuid, DomainEventKind.STARTED)
    assert DomainEventKind.CRASHED not in arriving.kinds_of(guest.uuid)


def unfinished(testbed: LibvirtTestbed, guest: Guest) -> OutgoingMigration:
    """A migration that has come to the switch-over; the guest's copy on the target makes its next step fail."""
    from pvc_plugins.hypervisors.libvirt_driver.migration import MigrationRequest, OutgoingMigration

    nodes = testbed.lab.nodes
    request = MigrationRequest(
        uuid=guest.uuid,
        source_uri=nodes["hv1"].outside_libvirt_uri,
        target_uri=nodes["hv2"].libvirt_uri,
        data_uri="",
        bandwidth_mib_s=0,
        max_downtime_ms=300,
        timeout_s=testbed.deadline_s,
    )
    migration = OutgoingMigration(request, lambda _progress: None)
    migration.note_switch_over()
    return migration


def test_a_copy_that_the_target_has_started_without_telling_is_ended(bench: Bench, testbed: LibvirtTestbed) -> None:
    guest = bench.defined()
    bench.here.create(guest.xml)
    bench.there.create(guest.xml)
    with pytest.raises(HypervisorError) as caught:
        unfinished(testbed, guest).run()
    assert not caught.value.connection_lost
    assert [domain.state for domain in bench.here.domains()] == [DomainState.RUNNING]
    assert bench.there.domains() == ()


def test_a_paused_rest_of_a_guest_that_runs_on_the_target_is_cleared_away(
    bench: Bench, testbed: LibvirtTestbed
) -> None:
    guest = bench.defined()
    bench.here.create(guest.xml)
    testbed.pause_guest("hv1", guest.uuid)
    bench.there.create(guest.xml)
    unfinished(testbed, guest).run()
    assert bench.here.domains() == ()
    assert [domain.state for domain in bench.there.domains()] == [DomainState.RUNNING]


def test_a_share_of_the_host_may_be_all_that_counts(testbed: LibvirtTestbed) -> None:
    from pvc_plugins.hypervisors.libvirt_driver import LibvirtHypervisor

    url = f"libvirt+{testbed.lab.nodes['hv1'].outside_libvirt_uri}&memory_mib=2048&cores=3"
    with ExitStack() as cleanup:
        bench = Bench(testbed, cleanup)
        share = LibvirtHypervisor(url, "hv1")
        share.start()
        cleanup.callback(share.close)
        bench.until(lambda: share.connected, "connected")
        bench.here.create(bench.defined().xml)
        facts, whole = share.host(), bench.here.host()
    assert (facts.memory_total_mib, facts.memory_available_mib, facts.cores) == (2048, 2048 - 96, 3)
    assert facts.hypervisor_version.startswith("QEMU ")
    assert whole.memory_total_mib == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2


# --------------------------------------------------------------------------------------------------- the URL


def test_what_pvc_does_not_know_in_the_url_goes_to_libvirt() -> None:
    from pvc_plugins.hypervisors.libvirt_driver.options import options_from

    url = "libvirt+qemu:///system?socket=/run/a%20b&cores=2&no_verify=1&migration_uri=qemu+tls://{node}.example/system"
    options = options_from(url)
    assert options.uri == "qemu:///system?socket=/run/a%20b&no_verify=1"
    assert options.cores == 2
    assert options.migration_uri == "qemu+tls://{node}.example/system"
    assert options.is_local
    assert not options_from("qemu+tcp://10.0.0.1/system").is_local
    assert options_from("qemu:///system").uri == "qemu:///system"


@pytest.mark.parametrize(
    "url", ["", "/system", "qemu:///system?cores=two", "qemu:///system?memory_mib=-1", "qemu:///s?migration_uri={host}"]
)
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    from pvc_plugins.hypervisors.libvirt_driver.options import options_from

    with pytest.raises(InvalidInput):
        options_from(url)


def test_the_way_to_another_node_follows_from_its_address() -> None:
    from pvc_plugins.hypervisors.libvirt_driver import LibvirtHypervisor

    addresses = {"hv2": "10.0.0.2", "hv6": "fd00::6"}
    hypervisor = LibvirtHypervisor("qemu:///system", "hv1", addresses.__getitem__)
    assert hypervisor.migration_uri("hv2") == "qemu+tcp://10.0.0.2/system"
    assert hypervisor.migration_uri("hv6") == "qemu+tcp://[fd00::6]/system"
    assert LibvirtHypervisor("qemu:///system", "hv1").migration_uri("hv2") == "qemu+tcp://hv2/system"
