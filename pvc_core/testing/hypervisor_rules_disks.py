# SPDX-License-Identifier: Apache-2.0
"""hypervisor_rules_disks: a guest that runs gets one more disk, and lets go of one, or does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.ports import Disk, DomainEventKind
from pvc_core.testing.hypervisor_harness import Bench, Guest

ALIAS = "ua-pvc-vdb-1"


def disks(bench: Bench, guest: Guest) -> list[Disk]:
    """Those on the source, by device."""
    return sorted(bench.here.disks(guest.uuid), key=lambda disk: disk.device)


class DiskRules:
    """What a driver does with the disks of a guest that runs."""

    def test_a_disk_is_attached_under_the_alias_that_it_was_given(self, bench: Bench) -> None:
        guest, events = bench.started(), bench.log_of(bench.here)
        bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", ALIAS))
        assert disks(bench, guest) == [Disk("vdb", ALIAS)]
        events.wait_for(guest.uuid, DomainEventKind.DISKS)

    def test_a_disk_that_is_detached_is_gone_and_can_come_back(self, bench: Bench) -> None:
        guest, events = bench.started(), bench.log_of(bench.here)
        life = bench.testbed.life_of(guest.uuid)
        for device in ("vdb", "vdc"):
            bench.here.attach_disk(guest.uuid, bench.testbed.disk(device, f"ua-pvc-{device}-1"))
            events.wait_for(guest.uuid, DomainEventKind.DISKS)
        bench.here.detach_disk(guest.uuid, "vdb", bench.testbed.deadline_s)
        assert disks(bench, guest) == [Disk("vdc", "ua-pvc-vdc-1")]
        events.wait_for(guest.uuid, DomainEventKind.DISKS)
        bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", "ua-pvc-vdb-2"))
        assert disks(bench, guest) == [Disk("vdb", "ua-pvc-vdb-2"), Disk("vdc", "ua-pvc-vdc-1")]
        bench.assert_runs_only_here(guest, life)

    def test_a_device_is_not_attached_twice(self, bench: Bench) -> None:
        guest = bench.started()
        bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", ALIAS))
        with pytest.raises(HypervisorError) as caught:
            bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", "ua-pvc-vdb-2"))
        assert not caught.value.connection_lost
        assert disks(bench, guest) == [Disk("vdb", ALIAS)]

    @pytest.mark.parametrize("xml", ["", "<disk", "<disk/>"])
    def test_what_is_no_disk_is_refused_with_a_reason(self, bench: Bench, xml: str) -> None:
        guest = bench.started()
        with pytest.raises(HypervisorError) as caught:
            bench.here.attach_disk(guest.uuid, xml)
        assert caught.value.reason
        assert not caught.value.connection_lost
        assert disks(bench, guest) == []

    def test_detaching_what_is_not_there_is_no_error(self, bench: Bench) -> None:
        guest = bench.started()
        bench.here.detach_disk(guest.uuid, "vdb", bench.testbed.deadline_s)
        bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", ALIAS))
        bench.here.detach_disk(guest.uuid, "vdb", bench.testbed.deadline_s)
        bench.here.detach_disk(guest.uuid, "vdb", bench.testbed.deadline_s)

    def test_of_a_guest_that_does_not_let_go_it_is_said_and_it_keeps_the_disk(self, bench: Bench) -> None:
        guest = bench.defined(lets_go=False)
        bench.here.create(guest.xml)
        bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", ALIAS))
        for _ in range(2):
            with pytest.raises(HypervisorError, match="vdb") as caught:
                bench.here.detach_disk(guest.uuid, "vdb", 0.5)
            assert not caught.value.connection_lost
            assert disks(bench, guest) == [Disk("vdb", ALIAS)]

    @pytest.mark.parametrize(
        "ask",
        [
            lambda bench, uuid: bench.here.disks(uuid),
            lambda bench, uuid: bench.here.attach_disk(uuid, bench.testbed.disk("vdb", ALIAS)),
            lambda bench, uuid: bench.here.detach_disk(uuid, "vdb", 1.0),
        ],
        ids=["disks", "attach_disk", "detach_disk"],
    )
    def test_a_guest_that_does_not_run_here_has_no_disks(self, bench: Bench, ask: Callable[[Bench, str], None]) -> None:
        guest = bench.started()
        bench.here.destroy(guest.uuid)
        with pytest.raises(HypervisorError) as caught:
            ask(bench, guest.uuid)
        assert not caught.value.connection_lost

    def test_a_disk_goes_with_its_guest_to_another_host_under_its_alias(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        bench.here.attach_disk(guest.uuid, bench.testbed.disk("vdb", ALIAS))
        bench.begin_migration(guest).result(bench.testbed.deadline_s)
        bench.assert_runs_only_there(guest, life)
        assert bench.there.disks(guest.uuid) == (Disk("vdb", ALIAS),)
        bench.there.detach_disk(guest.uuid, "vdb", bench.testbed.deadline_s)
        assert bench.there.disks(guest.uuid) == ()
