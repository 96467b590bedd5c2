# SPDX-License-Identifier: Apache-2.0
"""The lab's guests are real: they boot, migrate without a restart, and power off when asked - or not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab_guests import Guests, Timed

from pvc_lab.guest_image import ticks
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.libvirt]


def test_a_guest_boots_and_ticks_on_its_console(guests: Guests, hv1: HypervisorHost, timed: Timed) -> None:
    guest = guests.unique("web")
    with timed("guest defined to its first tick"):
        guests.start_ticking(hv1, guest)
    guests.wait_for_ticks(guest, 3)
    assert guest.console is not None
    assert [tick.count for tick in ticks(guest.console)][:3] == [0, 1, 2]


def test_a_live_migration_does_not_interrupt_the_count(
    guests: Guests, hv1: HypervisorHost, hv2: HypervisorHost, timed: Timed
) -> None:
    guest = guests.unique("web")
    guests.start_ticking(hv1, guest)

    with timed("live migration of a booted guest"):
        guests.migrate(guest, hv1, hv2)

    assert not guests.runs_on(hv1, guest)
    assert guests.runs_on(hv2, guest)
    assert guest.console is not None
    before = len(ticks(guest.console))
    guests.wait_for_ticks(guest, before + 3)
    seen = ticks(guest.console)
    assert [tick.count for tick in seen] == list(range(len(seen)))
    assert len({tick.boot_id for tick in seen}) == 1


def test_a_guest_that_is_started_again_betrays_itself_by_another_boot_id(guests: Guests, hv1: HypervisorHost) -> None:
    guest = guests.unique("web")
    guests.start_ticking(hv1, guest)
    guests.domain(hv1, guest).destroy()
    guests.start(hv1, guest)
    assert guest.console is not None
    console = guest.console
    wait_for(lambda: len({tick.boot_id for tick in ticks(console)}) == 2, "a second boot shows")


def test_a_guest_powers_off_when_asked_by_acpi(guests: Guests, hv1: HypervisorHost, timed: Timed) -> None:
    guest = guests.unique("web")
    guests.start_ticking(hv1, guest)
    with timed("ACPI shutdown"):
        guests.domain(hv1, guest).shutdown()
        wait_for(lambda: not guests.runs_on(hv1, guest), "the guest is off")


def test_a_guest_may_take_its_time_to_power_off(guests: Guests, hv1: HypervisorHost) -> None:
    guest = guests.unique("slow", shutdown_delay_s=3)
    guests.start_ticking(hv1, guest)
    asked_at = time.monotonic()
    guests.domain(hv1, guest).shutdown()
    wait_for(lambda: not guests.runs_on(hv1, guest), "the guest is off")
    assert time.monotonic() - asked_at >= 2.5


def test_a_stubborn_guest_ignores_acpi(guests: Guests, hv1: HypervisorHost) -> None:
    guest = guests.unique("mule", stubborn=True)
    guests.start_ticking(hv1, guest)
    guests.domain(hv1, guest).shutdown()
    assert guest.console is not None
    guests.wait_for_ticks(guest, len(ticks(guest.console)) + 3)
    assert guests.runs_on(hv1, guest)


def test_guests_go_on_while_libvirtd_is_dead_and_are_found_again(
    guests: Guests, hv1: HypervisorHost, timed: Timed
) -> None:
    guest = guests.unique("web")
    guests.start_ticking(hv1, guest)
    hv1.kill_libvirtd()
    assert guest.console is not None
    guests.wait_for_ticks(guest, len(ticks(guest.console)) + 2)
    with timed("libvirtd start"):
        hv1.start_libvirtd()
    assert guests.runs_on(hv1, guest)
    hv1.stop_libvirtd()
    hv1.start_libvirtd()
    assert guests.runs_on(hv1, guest)
    assert len({tick.boot_id for tick in ticks(guest.console)}) == 1


def test_empty_guests_migrate_in_parallel(
    guests: Guests, hv1: HypervisorHost, hv2: HypervisorHost, timed: Timed
) -> None:
    with timed("four empty guests created"):
        crowd = [guests.start_empty(hv1, f"empty{number}") for number in range(4)]
    with timed("four empty guests migrated in parallel"), ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda guest: guests.migrate(guest, hv1, hv2), crowd))
    assert all(guests.runs_on(hv2, guest) for guest in crowd)
    assert not any(guests.runs_on(hv1, guest) for guest in crowd)
