# SPDX-License-Identifier: Apache-2.0
"""agent: how VMs are started, kept running, asked to power off and left alone."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from played_guest import (
    ASKED,
    BUSY,
    NOW_S,
    D,
    E,
    Guest,
    S,
    a_domain,
    a_migrating,
    action,
    decided,
    recorded,
    times_of,
)

from pvc_core.agent_actions import Action, AskShutdown, Migrate, Start, Terminate
from pvc_core.agent_memory import VmMemory, backoff_s, current_memory, recent_count
from pvc_core.agent_snapshot import AgentDecision
from pvc_core.model import Settings, VmState
from pvc_core.ports import DomainState
from pvc_core.testing.builders import a_vm, uuid_of
from pvc_core.vm_states import OFF, VmEvent

# --------------------------------------------------------------------------------------------------- start


def test_a_starting_vm_without_a_domain_is_started_for_the_reason_in_its_record() -> None:
    assert action(a_vm(state="starting", reason="start requested")) == Start(uuid_of("web1"), "start requested")


def test_a_starting_vm_whose_domain_runs_is_recorded_as_running() -> None:
    assert recorded(action(a_vm(state="starting"), domains=[a_domain()])) is E.STARTED


def test_a_running_vm_with_its_domain_needs_nothing() -> None:
    for state in (D.RUNNING, D.PAUSED):
        assert decided(a_vm(), domains=[a_domain(state=state)]) == AgentDecision((), None)


@pytest.mark.parametrize("state", [D.SHUTDOWN, D.CRASHED])
@pytest.mark.parametrize("wanted", [S.STARTING, S.RUNNING])
def test_what_is_left_of_a_dead_guest_is_cleared_away_before_the_next_start(
    state: DomainState, wanted: VmState
) -> None:
    guest = Guest(a_vm(state=wanted))
    guest.domain = state
    done = guest.runs()
    assert done[0] == "Terminate"
    assert done[-2:] == ["Start", "started"]
    assert state.value in guest.done[0][1].reason


def test_failed_starts_are_tried_again_with_a_growing_pause_then_given_up_with_libvirts_reason() -> None:
    guest = Guest(a_vm(state="starting"), start_backoff_s=2.0, start_failures=4)
    guest.start_errors = ["no such bridge br7"] * 9
    guest.runs()
    assert times_of(guest, Start) == [0, 2, 6, 14]
    assert guest.record.state is S.FAILED
    assert guest.record.reason == "4 failures in 600 s, giving up: no such bridge br7; `pvc vm start web1` tries again"


def test_each_failed_start_shows_in_the_record_while_the_next_one_is_awaited() -> None:
    guest = Guest(a_vm(state="starting"))
    guest.start_errors = ["no such bridge br7"]
    assert guest.runs(for_s=1) == ["Start", "start-failed"]
    assert guest.record.reason == "start attempt 1 of 3 failed: no such bridge br7"
    assert guest.runs() == ["Start", "started"]


def test_a_failed_vm_is_left_alone_until_it_is_started_by_command_and_then_has_all_its_attempts_again() -> None:
    guest = Guest(a_vm(state="starting"))
    guest.start_errors = ["no such bridge br7"] * 4
    guest.runs()
    assert guest.record.state is S.FAILED
    assert guest.runs() == []

    guest.told(E.START)
    assert guest.runs() == ["Start", "start-failed", "Start", "started"]
    assert guest.record.state is S.RUNNING


def test_the_number_of_failures_is_a_setting() -> None:
    guest = Guest(a_vm(state="starting"), start_failures=1)
    guest.start_errors = ["no"]
    assert guest.runs() == ["Start", "gave-up"]


def test_a_stop_while_the_next_start_is_awaited_takes_effect_at_once() -> None:
    guest = Guest(a_vm(state="starting"))
    guest.start_errors = ["no"]
    guest.runs(for_s=1)
    guest.told(E.STOP)
    assert guest.runs() == ["ended"]
    assert guest.record.state is S.STOPPED


def test_failures_count_only_within_the_window() -> None:
    assert recent_count((0.0, 400.0, 990.0), Settings(), NOW_S) == 1
    assert recent_count((401.0, 990.0), Settings(), NOW_S) == 2
    assert [backoff_s(n, Settings()) for n in range(4)] == [0, 2, 4, 8]


# ------------------------------------------------------------------------------------------------ vanishing


def test_a_guest_that_vanishes_is_started_again_after_a_pause() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.vanishes()
    assert guest.runs() == ["gone", "Start", "started"]
    assert times_of(guest, Start) == [2]
    assert guest.record.state is S.RUNNING
    assert "it crashed" in guest.done[0][1].reason


def test_a_guest_that_vanishes_three_times_in_ten_minutes_is_failed() -> None:
    guest = Guest(a_vm(), runs=True)
    for _ in range(2):
        guest.vanishes()
        guest.runs()
        guest.clock.advance(200)
    guest.vanishes()
    assert guest.runs() == ["gave-up"]
    assert guest.record.state is S.FAILED
    assert (
        guest.record.reason
        == "the guest ended (it crashed); 3 failures in 600 s, giving up; `pvc vm start web1` tries again"
    )


def test_a_guest_that_vanishes_now_and_then_is_started_every_time() -> None:
    guest = Guest(a_vm(), runs=True)
    for _ in range(10):
        guest.vanishes()
        assert guest.runs()[-1] == "started"
        guest.clock.advance(301)


def test_vanishing_and_failing_to_start_count_together() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.start_errors = ["no memory", "no memory", "no memory"]
    guest.vanishes()
    assert guest.runs() == ["gone", "Start", "start-failed", "Start", "gave-up"]
    assert guest.record.reason.endswith("no memory; `pvc vm start web1` tries again")


def test_a_restarted_daemon_that_remembers_nothing_still_starts_what_is_gone() -> None:
    assert recorded(action(a_vm(), memory={})) is E.GONE


# ------------------------------------------------------------------------------------------------ shutdown


def test_a_guest_that_obeys_is_off_when_it_is_asked() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.told(E.SHUTDOWN)
    assert guest.runs() == ["AskShutdown", "ended"]
    assert (guest.record.state, guest.record.reason) == (S.STOPPED, "the guest is off; shutdown requested")


def test_a_guest_that_ignores_its_shutdown_is_asked_again_and_terminated_when_its_time_is_over() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False, shutdown_timeout_s=35)
    guest.told(E.SHUTDOWN)
    guest.runs()
    assert times_of(guest, AskShutdown) == [0, 10, 20, 30]
    assert times_of(guest, Terminate) == [35]
    assert guest.record.state is S.STOPPED


def test_a_vms_own_shutdown_timeout_counts_before_the_clusters() -> None:
    guest = Guest(a_vm(shutdown_timeout_s=5), runs=True, obeys=False, shutdown_timeout_s=180)
    guest.told(E.SHUTDOWN)
    guest.runs()
    assert times_of(guest, Terminate) == [5]


def test_a_shutdown_timeout_of_zero_asks_once_and_terminates() -> None:
    guest = Guest(a_vm(shutdown_timeout_s=0), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    assert guest.runs() == ["AskShutdown", "Terminate", "ended"]


def test_a_longer_timeout_given_during_the_wait_counts_at_once() -> None:
    guest = Guest(a_vm(shutdown_timeout_s=20), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    guest.runs(for_s=15)
    longer = msgspec.structs.replace(guest.record.metadata, shutdown_timeout_s=60)
    guest.record = msgspec.structs.replace(guest.record, metadata=longer)
    guest.runs()
    assert times_of(guest, Terminate) == [60]


def test_a_start_during_the_wait_aborts_the_shutdown_and_terminates_nothing() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    guest.runs(for_s=100)
    guest.told(E.START)
    assert guest.runs() == ["started"]
    assert times_of(guest, Terminate) == []
    assert guest.record.state is S.RUNNING


def test_a_guest_that_powers_off_after_its_shutdown_was_aborted_is_started_again() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    guest.runs(for_s=100)
    guest.told(E.START)
    guest.domain = None
    assert guest.runs() == ["Start", "started"]


def test_shutdown_start_and_shutdown_in_quick_succession_begin_a_new_wait() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    guest.runs(for_s=175)
    guest.told(E.START)
    guest.told(E.SHUTDOWN)
    guest.runs()
    assert times_of(guest, Terminate) == [175 + 180], "the agent saw only the last record, yet asks and waits anew"


def test_a_stop_during_the_wait_terminates_at_once() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False)
    guest.told(E.SHUTDOWN)
    guest.runs(for_s=3)
    guest.told(E.STOP)
    assert guest.runs() == ["Terminate", "ended"]
    assert times_of(guest, Terminate) == [3]


def test_a_stop_terminates_without_asking() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.told(E.STOP)
    assert guest.runs() == ["Terminate", "ended"]


@pytest.mark.parametrize("state", [D.SHUTDOWN, D.CRASHED])
@pytest.mark.parametrize("event", [E.SHUTDOWN, E.RESTART, E.DISABLE])
def test_a_guest_that_is_dead_already_is_not_asked_to_power_off(state: DomainState, event: VmEvent) -> None:
    guest = Guest(a_vm(), runs=True)
    guest.domain = state
    guest.told(event)
    assert guest.runs()[:2] == ["Terminate", "ended"]


def test_a_restart_waits_for_the_end_and_starts_again() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.told(E.RESTART)
    assert guest.runs() == ["AskShutdown", "ended", "Start", "started"]


def test_a_restart_of_a_guest_that_ignores_it_terminates_and_starts_again() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False)
    guest.told(E.RESTART)
    done = guest.runs()
    assert done[-4:] == ["Terminate", "ended", "Start", "started"]


def test_a_start_during_a_restart_aborts_it_without_terminating() -> None:
    guest = Guest(a_vm(), runs=True, obeys=False)
    guest.told(E.RESTART)
    guest.runs(for_s=60)
    guest.told(E.START)
    assert guest.runs() == ["started"]


def test_a_disabled_vm_is_off_and_left_alone() -> None:
    guest = Guest(a_vm(), runs=True)
    guest.told(E.DISABLE)
    assert guest.runs() == ["AskShutdown", "ended"]
    assert guest.record.state is S.DISABLED
    guest.clock.advance(10_000)
    assert guest.runs() == []


@pytest.mark.parametrize("state", OFF)
def test_what_runs_although_its_record_says_it_is_off_is_terminated(state: VmState) -> None:
    done = action(a_vm(state=state), domains=[a_domain()])
    assert done == Terminate(uuid_of("web1"), f"it runs, but its record says {state}", told=True)
    assert action(a_vm(state=state)) is None


# ------------------------------------------------------------------------------------------------- strays


def test_a_domain_of_a_vm_that_belongs_elsewhere_is_terminated_as_a_stray() -> None:
    done = decided(domains=[a_domain()], strays=[a_vm(node="hv2")]).actions
    assert done == (Terminate(uuid_of("web1"), "it runs here, but belongs to hv2", stray=True, told=True),)


def test_a_domain_whose_migration_to_here_is_under_way_is_no_stray() -> None:
    assert decided(domains=[a_domain()], strays=[a_vm(node="hv2", state="migrating", target="hv1")]).actions == ()


def test_a_record_that_turns_out_to_be_ours_is_no_stray() -> None:
    """The ledger's watch lags behind: the domain was started from a newer record."""
    assert decided(domains=[a_domain()], strays=[a_vm(node="hv1")]).actions == ()


def test_a_vm_that_has_left_our_ledger_in_its_record_but_still_runs_is_a_stray() -> None:
    moved = a_vm(node="hv2")
    done = action(moved, domains=[a_domain()])
    assert isinstance(done, Terminate)
    assert done.stray
    assert action(moved) is None


def test_a_domain_that_no_record_knows_is_left_alone() -> None:
    assert decided(domains=[a_domain("somebody-elses")]).actions == ()


def test_a_stray_with_an_action_under_way_waits_for_it() -> None:
    busy = Terminate(uuid_of("web1"), "", stray=True)
    assert decided(domains=[a_domain()], strays=[a_vm(node="hv2")], busy=busy).actions == ()


# --------------------------------------------------------------------------------------- one thing at a time


@pytest.mark.parametrize("make", BUSY)
@pytest.mark.parametrize("state", VmState)
def test_a_vm_with_an_action_under_way_gets_no_second_one(make: Callable[[str], Action], state: VmState) -> None:
    record = a_migrating() if state is S.MIGRATING else a_vm(state=state)
    for domains in ([], [a_domain()]):
        assert decided(record, domains=domains, busy=make(record.uuid)) == AgentDecision((), None)


def test_a_migration_under_way_that_is_wanted_is_left_alone() -> None:
    under_way = Migrate(uuid_of("web1"), "hv2", 300, "")
    assert decided(a_migrating(), domains=[a_domain()], busy=under_way).actions == ()


def test_a_command_that_arrives_during_an_action_is_acted_on_after_it() -> None:
    stopping = a_vm(state="shutting-down", forced=True, transition=2)
    assert action(stopping, busy=Start(stopping.uuid, "")) is None
    assert isinstance(action(stopping, domains=[a_domain()]), Terminate)


def test_notes_of_an_older_transition_do_not_count_but_failures_do() -> None:
    old = VmMemory(
        transition=3,
        asked_at_s=1.0,
        peer=(None, 2.0),
        live_failed="x",
        unrecorded_failure="y",
        failures_s=(5.0,),
        start_error="z",
    )
    assert current_memory(old, a_vm(transition=3)) is old
    assert current_memory(old, a_vm(transition=4)) == VmMemory(transition=4, failures_s=(5.0,), start_error="z")


def test_the_agent_sleeps_until_the_earliest_deadline_of_all_its_vms() -> None:
    slow, fast = a_vm("slow", state="shutting-down"), a_vm("fast", state="shutting-down", shutdown_timeout_s=4)
    waiting = {vm.uuid: ASKED for vm in (slow, fast)}
    made = decided(slow, fast, domains=[a_domain("slow"), a_domain("fast")], memory=waiting, now_s=NOW_S + 1)
    assert made == AgentDecision((), NOW_S + 4)
