# SPDX-License-Identifier: Apache-2.0
"""agent: what it means that a guest has ended by itself: powered off, crashed, or gone without a word."""

from __future__ import annotations

import pytest
from played_guest import ASKED, NOW_S, D, E, Guest, S, a_domain, a_migrating, action, recorded, times_of

from pvc_core.agent import HEAR_WITHIN_S
from pvc_core.agent_actions import Start
from pvc_core.agent_memory import VmMemory, current_memory
from pvc_core.model import VmRecord
from pvc_core.ports import DomainEventKind
from pvc_core.testing.builders import a_vm

POWERED_OFF = VmMemory(transition=0, ended_by="guest", last_event="it powered off")


def stopping(**more: object) -> VmRecord:
    return a_vm(on_poweroff="stop", **more)


def test_a_guest_that_powers_itself_off_is_started_again_unless_its_vm_says_otherwise() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.vanishes(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["gone", "Start", "started"]


def test_with_stop_a_guest_that_powers_itself_off_is_stopped() -> None:
    guest = Guest(stopping(), runs=True)
    guest.vanishes(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["powered-off"]
    assert (guest.record.state, guest.record.reason, guest.record.held) == (S.STOPPED, "its guest powered off", False)


@pytest.mark.parametrize("kind", [DomainEventKind.CRASHED, DomainEventKind.STOPPED])
def test_with_stop_a_guest_that_crashes_or_is_terminated_is_started_again(kind: DomainEventKind) -> None:
    guest = Guest(stopping(), runs=True)
    guest.vanishes(kind)
    assert guest.runs() == ["gone", "Start", "started"]


def test_with_stop_a_guest_of_which_nobody_heard_is_started_again_after_a_moment() -> None:
    guest = Guest(stopping(), runs=True)
    guest.runs(for_s=5)
    guest.vanishes(None)
    assert guest.runs(for_s=HEAR_WITHIN_S / 2) == []
    assert guest.runs() == ["gone", "Start", "started"]


def test_what_the_hypervisor_tells_a_moment_late_still_counts() -> None:
    guest = Guest(stopping(), runs=True)
    guest.vanishes(None)
    guest.runs(for_s=HEAR_WITHIN_S / 2)
    guest.hears(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["powered-off"]


@pytest.mark.parametrize("command", [E.SHUTDOWN, E.RESTART])
def test_a_power_off_that_was_asked_for_is_no_guests_own(command: E) -> None:
    guest = Guest(stopping(), runs=True)
    guest.told(command)
    guest.runs()
    assert guest.record.state is (S.STOPPED if command is E.SHUTDOWN else S.RUNNING)
    assert guest.record.reason.endswith(f"{command} requested")


def test_a_guest_that_powers_itself_off_while_a_restart_is_asked_for_is_started() -> None:
    guest = Guest(stopping(), runs=True)
    guest.told(E.RESTART)
    guest.vanishes(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["ended", "Start", "started"]


def test_a_guest_that_obeys_a_shutdown_after_it_was_called_off_is_started_again() -> None:
    guest = Guest(stopping(), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    guest.runs(for_s=1)
    guest.told(E.START)
    guest.runs(for_s=1)
    assert guest.record.state is S.RUNNING
    guest.vanishes(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["gone", "Start", "started"]


def test_in_its_next_life_the_same_guest_may_power_itself_off() -> None:
    guest = Guest(stopping(), runs=True)
    guest.told(E.RESTART)
    guest.runs()
    guest.vanishes(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["powered-off"]


def test_how_the_last_life_ended_says_nothing_of_the_next() -> None:
    guest = Guest(stopping(), runs=True)
    guest.told(E.SHUTDOWN)
    guest.runs()
    guest.told(E.START)
    guest.runs()
    guest.vanishes(None)
    assert guest.runs() == ["gone", "Start", "started"]


def test_a_guest_that_powers_itself_off_right_after_its_start_is_stopped() -> None:
    record = stopping(state="starting")
    memory = VmMemory(transition=0, created_s=NOW_S, ended_by="guest")
    assert recorded(action(record, memory=memory)) is E.POWERED_OFF
    assert recorded(action(a_vm(state="starting"), memory=memory)) is E.START_FAILED


def test_a_guest_that_powers_itself_off_during_its_migration_is_stopped() -> None:
    memory = VmMemory(transition=0, peer=(None, NOW_S), ended_by="guest")
    assert recorded(action(a_migrating(on_poweroff="stop"), memory=memory)) is E.POWERED_OFF
    assert recorded(action(a_migrating(), memory=memory)) is E.GONE


def test_a_guest_that_has_left_in_a_migration_has_not_powered_itself_off() -> None:
    guest = Guest(stopping(), runs=True)
    guest.told(E.MIGRATE, target="hv2")
    assert guest.runs() == ["Migrate", "arrived"]


def test_a_guest_that_was_shut_down_to_move_has_not_powered_itself_off() -> None:
    memory = VmMemory(transition=0, peer=(None, NOW_S), ended_by="guest", was_asked=True, asked_at_s=ASKED.asked_at_s)
    done = action(a_migrating("shutdown", on_poweroff="stop"), memory=memory)
    assert recorded(done) is E.MOVED_OFF


def test_a_guest_that_obeys_an_earlier_order_in_a_later_migration_is_started_on_the_target() -> None:
    """It was asked to move to a node that died meanwhile; it takes its time, and then is on its way to another."""
    memory = VmMemory(transition=0, peer=(None, NOW_S), ended_by="guest", was_asked=True)
    assert recorded(action(a_migrating("none"), memory=memory)) is E.MOVED_OFF


def test_what_is_left_of_a_guest_that_powers_off_is_cleared_away_and_not_started_again() -> None:
    guest = Guest(stopping(), runs=True)
    guest.domain = D.SHUTDOWN
    first = action(guest.record, domains=[a_domain(state=D.SHUTDOWN)])
    assert first is not None
    guest.vanishes(DomainEventKind.POWERED_OFF)
    assert guest.runs() == ["powered-off"]


def test_what_is_known_of_the_guests_life_outlives_a_change_of_its_record() -> None:
    later = current_memory(POWERED_OFF, a_vm(transition=1))
    assert later.powered_itself_off


# ---------------------------------------------------------------------------------------------- back-off


def test_a_guest_that_ends_right_after_each_start_is_given_up_in_the_end() -> None:
    guest = Guest(a_vm(state="starting"), start_backoff_s=2.0, start_failures=3)
    guest.ends_at_once = 9
    guest.runs()
    assert times_of(guest, Start) == [0, 2, 6]
    assert guest.record.state is S.FAILED
    assert guest.record.reason == "3 failures in 600 s, giving up: it crashed; `pvc vm start web1` tries again"


def test_the_pause_between_attempts_grows_up_to_its_limit() -> None:
    guest = Guest(a_vm(state="starting"), start_failures=7, start_backoff_s=2.0, start_backoff_max_s=10.0)
    guest.start_errors = ["no"] * 9
    guest.runs()
    assert times_of(guest, Start) == [0, 2, 6, 14, 24, 34, 44]


def test_a_hundred_failures_make_no_pause_longer_than_the_limit() -> None:
    guest = Guest(a_vm(state="starting"), start_failures=100, start_failure_window_s=86_400, start_backoff_max_s=60)
    guest.start_errors = ["no"] * 100
    guest.runs()
    assert max(later - at for at, later in zip(times_of(guest, Start), times_of(guest, Start)[1:], strict=False)) == 60
    assert guest.record.state is S.FAILED


def test_a_vms_own_number_of_failures_counts_before_the_clusters() -> None:
    guest = Guest(a_vm(state="starting", start_failures=1), start_failures=3)
    guest.start_errors = ["no"]
    assert guest.runs() == ["Start", "gave-up"]
