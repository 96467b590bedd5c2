# SPDX-License-Identifier: Apache-2.0
"""What looks for a guest on two nodes finds it: while it runs, past a dead libvirtd, and afterwards on its console."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab_guests import Guests

from pvc_lab.console_history import overlaps
from pvc_lab.guest_image import Tick, ticks
from pvc_lab.hypervisor_host import HypervisorHost
from pvc_lab.lab import Lab
from pvc_lab.two_node_watch import TwoNodeWatch
from pvc_lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.libvirt]


@pytest.fixture
def watch(lab: Lab) -> Iterator[TwoNodeWatch]:
    hosts = lab.nodes.values()
    watch = TwoNodeWatch(
        {host.name: host.outside_libvirt_uri for host in hosts}, {host.name: host.guest_processes for host in hosts}
    )
    watch.start()
    yield watch
    watch.close()


def look_twice(watch: TwoNodeWatch) -> None:
    """A sample that was under way is over, and a whole one has followed."""
    before = watch.samples
    wait_for(lambda: watch.samples >= before + 2, "two samples")


def test_a_guest_that_is_started_twice_is_seen_and_its_console_shows_it_for_ever(
    guests: Guests, hv1: HypervisorHost, hv2: HypervisorHost, watch: TwoNodeWatch
) -> None:
    guest = guests.unique("twice")
    guests.start_ticking(hv1, guest)
    look_twice(watch)
    assert watch.found == ()
    assert guest.console is not None
    console = guest.console
    assert overlaps(ticks(console)) == []

    guests.start(hv2, guest)

    wait_for(lambda: watch.found, "the watch to see it")
    assert watch.found == (f"{guest.domain_uuid} ran on hv1 and hv2",)
    wait_for(lambda: overlaps(ticks(console)), "its console to show it")


def test_a_guest_whose_libvirtd_is_dead_is_still_seen(
    guests: Guests, hv1: HypervisorHost, hv2: HypervisorHost, watch: TwoNodeWatch
) -> None:
    guest = guests.start_empty(hv1, "twice")
    hv1.kill_libvirtd()
    try:
        guests.start(hv2, guest)
        wait_for(lambda: watch.found, "the watch to see it")
    finally:
        hv1.start_libvirtd()


def test_a_host_without_power_runs_nothing(guests: Guests, hv2: HypervisorHost, watch: TwoNodeWatch) -> None:
    guest = guests.start_empty(hv2, "gone")
    uuid = str(guest.domain_uuid)
    assert uuid in watch.running_on("hv2")
    hv2.power_off()
    assert watch.running_on("hv2") == hv2.guest_processes() == frozenset()
    hv2.power_on()


def test_a_host_that_is_left_out_is_not_asked_and_its_guests_are_those_with_a_process(
    guests: Guests, hv1: HypervisorHost, hv2: HypervisorHost, watch: TwoNodeWatch
) -> None:
    guest = guests.start_empty(hv2, "still")
    uuid = str(guest.domain_uuid)
    look_twice(watch)
    watch.leave_out("hv2")
    hv2.freeze()
    guests.start(hv1, guest)
    look_twice(watch)
    assert uuid in watch.running_on("hv2")
    assert watch.found == ()
    hv2.thaw()
    watch.look_again()
    wait_for(lambda: watch.found, "the watch to see it")


def boots(text: str) -> list[Tick]:
    """Each boot is a letter, and counts from 0."""
    counts: dict[str, int] = {}
    found = []
    for letter in text:
        found.append(Tick(counts.get(letter, 0), letter))
        counts[letter] = counts.get(letter, 0) + 1
    return found


@pytest.mark.parametrize("history", ["", "a", "aaa", "aaabbb", "abc"])
def test_boots_one_after_the_other_are_one_guest(history: str) -> None:
    assert overlaps(boots(history)) == []


@pytest.mark.parametrize(("history", "faults"), [("aba", 1), ("ababab", 4), ("aabbab", 2), ("abca", 1)])
def test_a_boot_that_goes_on_after_another_has_begun_is_a_second_guest(history: str, faults: int) -> None:
    assert len(overlaps(boots(history))) == faults


def test_a_count_that_does_not_grow_is_a_second_guest() -> None:
    assert overlaps([Tick(1, "a"), Tick(2, "a"), Tick(2, "a")]) == ["boot a counted 2 after 2"]
    assert overlaps([Tick(1, "a"), Tick(5, "a")]) == []
