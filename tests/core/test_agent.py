# SPDX-License-Identifier: Apache-2.0
"""agent: what a node does for its VMs, decision by decision, and played through against a guest that does as told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc_core import agent, layout
from pvc_core.agent import (
    NO_MEMORY,
    Action,
    AgentDecision,
    AgentSnapshot,
    AskShutdown,
    CancelMigration,
    LookAtPeer,
    Migrate,
    Record,
    Start,
    Terminate,
    VmMemory,
    backoff_s,
    current_memory,
    decide,
    recent_count,
)
from pvc_core.codec import Stored
from pvc_core.errors import Refused
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.ports import Domain, DomainState
from pvc_core.testing.builders import a_vm, stored, uuid_of
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import OFF, VmEvent, advance

S, E, D = VmState, VmEvent, DomainState
NOW_S = 1000.0
ASKED = VmMemory(transition=0, asked_at_s=NOW_S, asked_last_s=NOW_S)


def a_domain(vm: VmRecord | str = "web1", state: DomainState = D.RUNNING, *, job_active: bool = False) -> Domain:
    name = vm if isinstance(vm, str) else vm.name
    return Domain(uuid=uuid_of(name), name=name, state=state, job_active=job_active)


def by_uuid(vms: Iterable[VmRecord]) -> dict[str, Stored[VmRecord]]:
    return {vm.uuid: stored(layout.vm(vm.uuid), vm) for vm in vms}


def decided(
    *vms: VmRecord,
    domains: Iterable[Domain] = (),
    memory: VmMemory | Mapping[str, VmMemory] = NO_MEMORY,
    busy: Action | None = None,
    strays: Iterable[VmRecord] = (),
    settings: Settings | None = None,
    now_s: float = NOW_S,
) -> AgentDecision:
    """What the agent of hv1 decides for these VMs."""
    notes = memory if isinstance(memory, Mapping) else {vm.uuid: memory for vm in vms}
    snapshot = AgentSnapshot(
        node="hv1",
        vms=by_uuid(vms),
        domains={domain.uuid: domain for domain in domains},
        settings=settings or Settings(),
        strays=by_uuid(strays),
        busy={busy.uuid: busy} if busy else {},
        memory=notes,
    )
    return decide(snapshot, now_s)


def action(*vms: VmRecord, **more: Any) -> Action | None:
    """The one action decided for one VM, or None."""
    actions = decided(*vms, **more).actions
    assert len(actions) <= 1
    return actions[0] if actions else None


def recorded(done: Action | None) -> VmEvent:
    assert isinstance(done, Record), done
    return done.event


class Guest:
    """One VM on hv1 and a daemon that does what the agent decides, on a clock that jumps from decision to decision."""

    def __init__(self, record: VmRecord, *, runs: bool = False, obeys: bool = True, **settings: Any) -> None:
        self.record = record
        self.domain: DomainState | None = D.RUNNING if runs else None
        self.obeys = obeys
        self.start_errors: list[str] = []
        self.migration_error = ""
        self.peer: DomainState | None = None
        self.clock = ManualClock(NOW_S)
        self.memory = NO_MEMORY
        self.settings = Settings(**settings)
        self.done: list[tuple[float, Action]] = []

    def told(self, event: VmEvent, **more: Any) -> None:
        """A command is accepted."""
        self.record = advance(self.record, event, f"{event} requested", self.clock.utc_iso(), **more)

    def vanishes(self) -> None:
        self.domain = None
        self.memory = replace(current_memory(self.memory, self.record), last_event="it crashed")

    def decision(self) -> AgentDecision:
        domains = [replace(a_domain(self.record), state=self.domain)] if self.domain else []
        return decided(
            self.record,
            domains=domains,
            memory=self.memory,
            settings=self.settings,
            now_s=self.clock.monotonic_s(),
        )

    def runs(self, for_s: float | None = None) -> list[str]:
        """Decide and do for this long, or until nothing is left to do or wait for; what was done, in words."""
        first, end_s = len(self.done), self.clock.monotonic_s() + (10_000 if for_s is None else for_s)
        for _ in range(1000):
            made = self.decision()
            if made.actions:
                self._do(made.actions[0])
            elif made.wake_at_s is None or made.wake_at_s > end_s:
                break
            else:
                assert made.wake_at_s > self.clock.monotonic_s(), "it would spin"
                self.clock.advance(made.wake_at_s - self.clock.monotonic_s())
        else:
            raise AssertionError(f"never comes to rest: {self.done[-4:]}")
        if for_s is not None:
            self.clock.advance(end_s - self.clock.monotonic_s())
        return [_in_words(done) for _, done in self.done[first:]]

    def _do(self, done: Action) -> None:
        now_s = self.clock.monotonic_s()
        self.done.append((now_s - NOW_S, done))
        self.memory = current_memory(self.memory, self.record)
        match done:
            case Start():
                assert self.domain is None
                self._start(now_s)
            case AskShutdown():
                first_s = self.memory.asked_at_s or now_s
                self.memory = replace(self.memory, asked_at_s=first_s, asked_last_s=now_s)
                self.domain = None if self.obeys else self.domain
            case Terminate():
                self.domain = None
            case Migrate():
                self._migrate(done, now_s)
            case LookAtPeer():
                self.memory = replace(self.memory, peer=(self.peer, now_s))
            case Record():
                self._record(done, now_s)

    def _start(self, now_s: float) -> None:
        if not self.start_errors:
            self.domain = D.RUNNING
            return
        error = self.start_errors.pop(0)
        failures_s = (*self.memory.failures_s, now_s)
        text = f"start attempt {len(failures_s)} failed: {error}"
        self.memory = replace(self.memory, failures_s=failures_s, start_error=error, unrecorded_failure=text)

    def _migrate(self, done: Migrate, now_s: float) -> None:
        if self.migration_error:
            self.memory = replace(self.memory, live_failed=self.migration_error)
        else:
            self.domain, self.peer = None, D.RUNNING
            self.memory = replace(self.memory, peer=(D.RUNNING, now_s))

    def _record(self, done: Record, now_s: float) -> None:
        self.record = advance(self.record, done.event, done.reason, self.clock.utc_iso())
        if done.event is E.START_FAILED:
            self.memory = replace(self.memory, unrecorded_failure="")
        elif done.event is E.GAVE_UP:
            self.memory = replace(self.memory, failures_s=(), unrecorded_failure="")
        elif done.event is E.GONE:
            self.memory = replace(self.memory, failures_s=(*self.memory.failures_s, now_s))


def _in_words(done: Action) -> str:
    return done.event.value if isinstance(done, Record) else type(done).__name__


def times_of(guest: Guest, kind: type[Action]) -> list[float]:
    return [at for at, done in guest.done if isinstance(done, kind)]


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
    assert guest.record.reason == "4 failures in 600 s, giving up: no such bridge br7"


def test_each_failed_start_shows_in_the_record_while_the_next_one_is_awaited() -> None:
    guest = Guest(a_vm(state="starting"))
    guest.start_errors = ["no such bridge br7"]
    assert guest.runs(for_s=1) == ["Start", "start-failed"]
    assert guest.record.reason == "start attempt 1 failed: no such bridge br7"
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
    assert guest.record.reason == "the guest ended (it crashed); 3 failures in 600 s, giving up"


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
    assert guest.record.reason.endswith("no memory")


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
    assert done == Terminate(uuid_of("web1"), f"it runs, but its record says {state}")
    assert action(a_vm(state=state)) is None


# ----------------------------------------------------------------------------------------------- migration


def a_migrating(method: str = "none", **more: Any) -> VmRecord:
    return a_vm(state="migrating", target="hv2", migration_method=method, reason="flush of hv1", **more)


def test_a_live_migration_arrives_with_the_vms_maximum_downtime() -> None:
    guest = Guest(a_migrating("live", max_downtime_ms=77), runs=True)
    assert guest.runs() == ["Migrate", "arrived"]
    assert guest.done[0][1] == Migrate(uuid_of("web1"), "hv2", 77, "flush of hv1")
    assert (guest.record.state, guest.record.node, guest.record.home) == (S.RUNNING, "hv2", "hv1")


def test_a_live_migration_that_fails_leaves_the_guest_where_it_was_with_the_reason() -> None:
    guest = Guest(a_migrating("live"), runs=True)
    guest.migration_error = "no route to host"
    assert guest.runs() == ["Migrate", "migration-failed"]
    assert (guest.record.state, guest.record.node, guest.record.target) == (S.RUNNING, "hv1", "")
    assert guest.record.reason == "the migration failed: no route to host"


def test_method_none_falls_back_to_shutting_down_and_starting_on_the_target() -> None:
    guest = Guest(a_migrating("none"), runs=True)
    guest.migration_error = "unsafe migration"
    assert guest.runs() == ["Migrate", "AskShutdown", "LookAtPeer", "moved-off"]
    assert (guest.record.state, guest.record.node) == (S.STARTING, "hv2")


def test_method_shutdown_never_migrates_live() -> None:
    guest = Guest(a_migrating("shutdown"), runs=True)
    assert guest.runs() == ["AskShutdown", "LookAtPeer", "moved-off"]
    assert (guest.record.state, guest.record.node, guest.record.target) == (S.STARTING, "hv2", "")


def test_a_guest_that_ignores_the_shutdown_for_its_move_is_terminated_in_time() -> None:
    guest = Guest(a_migrating("shutdown", shutdown_timeout_s=15), runs=True, obeys=False)
    assert guest.runs() == ["AskShutdown", "AskShutdown", "Terminate", "LookAtPeer", "moved-off"]
    assert times_of(guest, Terminate) == [15]


def test_an_incoming_vm_is_left_alone_by_the_target() -> None:
    incoming = a_vm(node="hv2", state="migrating", target="hv1")
    for domains in ([], [a_domain()], [a_domain(state=D.PAUSED)]):
        assert decided(incoming, domains=domains) == AgentDecision((), None)


@pytest.mark.parametrize("method", ["live", "shutdown", "none"])
def test_a_migration_that_is_cancelled_before_it_began_leaves_the_guest_running(method: str) -> None:
    guest = Guest(a_migrating(method), runs=True)
    guest.told(E.START)
    assert guest.runs() == ["migration-cancelled"]
    assert (guest.record.state, guest.record.node) == (S.RUNNING, "hv1")


def test_a_migration_under_way_is_broken_off_by_command() -> None:
    under_way = Migrate(uuid_of("web1"), "hv2", 300, "")
    asked = a_migrating(cancelling=True)
    done = decided(asked, domains=[a_domain(job_active=True)], busy=under_way)
    assert [type(a) for a in done.actions] == [CancelMigration]
    assert done.wake_at_s == NOW_S + 1, "the job may not have begun yet: it is cancelled again"


def test_a_migration_of_a_vm_that_is_wanted_otherwise_meanwhile_is_broken_off() -> None:
    under_way = Migrate(uuid_of("web1"), "hv2", 300, "")
    for record in (a_vm(state="shutting-down", forced=True), a_vm(node="hv3", state="starting")):
        assert isinstance(action(record, domains=[a_domain()], busy=under_way), CancelMigration)


def test_a_cancelled_migration_that_had_arrived_already_stands() -> None:
    guest = Guest(a_migrating(cancelling=True))
    guest.peer = D.RUNNING
    assert guest.runs() == ["LookAtPeer", "arrived"]
    assert (guest.record.node, guest.record.cancelling) == ("hv2", False)


def test_a_shutdown_for_a_move_that_is_cancelled_lets_the_guest_run_on() -> None:
    guest = Guest(a_migrating("shutdown"), runs=True, obeys=False)
    guest.runs(for_s=50)
    guest.told(E.START)
    assert guest.runs() == ["migration-cancelled"]
    assert times_of(guest, Terminate) == []


def test_a_guest_that_ends_while_its_move_is_being_cancelled_is_started_where_it_was() -> None:
    guest = Guest(a_migrating("shutdown", cancelling=True))
    assert guest.runs()[:2] == ["LookAtPeer", "gone"]
    assert (guest.record.state, guest.record.node) == (S.RUNNING, "hv1")


# ------------------------------------------------------------ a migration that an earlier daemon began


def test_a_restarted_daemon_waits_for_the_migration_that_runs_on_without_it() -> None:
    found = decided(a_migrating(), domains=[a_domain(job_active=True)], memory={})
    assert found == AgentDecision((), NOW_S + 1)


def test_a_restarted_daemon_cancels_the_migration_that_runs_on_without_it() -> None:
    found = decided(a_migrating(cancelling=True), domains=[a_domain(job_active=True)], memory={})
    assert [type(a) for a in found.actions] == [CancelMigration]
    assert found.wake_at_s == NOW_S + 1


def test_a_restarted_daemon_migrates_anew_what_still_runs_here_without_a_job() -> None:
    assert isinstance(action(a_migrating(), domains=[a_domain()], memory={}), Migrate)


def test_a_guest_that_is_gone_here_is_looked_for_on_the_target() -> None:
    assert action(a_migrating()) == LookAtPeer(uuid_of("web1"), "hv2", "the guest is gone here: look for it on hv2")


def test_a_guest_that_runs_on_the_target_has_arrived() -> None:
    guest = Guest(a_migrating())
    guest.peer = D.RUNNING
    assert guest.runs() == ["LookAtPeer", "arrived"]


def test_a_guest_that_is_still_paused_on_the_target_is_waited_for() -> None:
    guest = Guest(a_migrating())
    guest.peer = D.PAUSED
    assert set(guest.runs(for_s=5)) == {"LookAtPeer"}
    assert times_of(guest, LookAtPeer) == [0, 1, 2, 3, 4, 5]
    guest.peer = D.RUNNING
    assert guest.runs()[-1] == "arrived"


def test_while_the_target_does_not_answer_nothing_is_concluded() -> None:
    silent = VmMemory(transition=0, peer=(None, NOW_S), peer_error="no route to host")
    assert decided(a_migrating(), memory=silent) == AgentDecision((), NOW_S + 1)
    assert isinstance(action(a_migrating(), memory=silent, now_s=NOW_S + 1), LookAtPeer)


def test_what_the_target_said_a_while_ago_does_not_count() -> None:
    old = VmMemory(transition=0, peer=(None, NOW_S - 5))
    assert isinstance(action(a_migrating(), memory=old), LookAtPeer)


@pytest.mark.parametrize("there", [None, D.SHUTDOWN, D.CRASHED])
def test_a_guest_that_is_on_neither_side_is_started_where_it_was(there: DomainState | None) -> None:
    guest = Guest(a_migrating("live"))
    guest.peer = there
    assert guest.runs() == ["LookAtPeer", "gone", "Start", "started"]
    assert (guest.record.state, guest.record.node, guest.record.target) == (S.RUNNING, "hv1", "")


def test_a_guest_that_powers_off_during_its_migration_runs_again_where_it_was() -> None:
    guest = Guest(a_migrating("none"), runs=True)
    guest.domain = None
    assert guest.runs()[:2] == ["LookAtPeer", "gone"]
    assert (guest.record.state, guest.record.node) == (S.RUNNING, "hv1")


def test_a_crashed_domain_of_a_migrating_vm_is_cleared_away() -> None:
    guest = Guest(a_migrating())
    guest.domain = D.CRASHED
    assert guest.runs()[:3] == ["Terminate", "LookAtPeer", "gone"]


def test_a_paused_copy_left_behind_by_a_migration_that_arrived_is_cleared_away() -> None:
    guest = Guest(a_migrating(), runs=True)
    guest.domain, guest.peer = D.PAUSED, D.RUNNING
    assert guest.runs() == ["LookAtPeer", "Terminate", "arrived"]
    assert (guest.record.node, guest.domain) == ("hv2", None)


def test_a_paused_copy_is_not_taken_for_the_guest_because_its_migration_was_cancelled_too_late() -> None:
    guest = Guest(a_migrating(cancelling=True), runs=True)
    guest.domain, guest.peer = D.PAUSED, D.RUNNING
    guest.runs()
    assert (guest.record.state, guest.record.node) == (S.RUNNING, "hv2")


def test_a_guest_that_is_paused_here_and_not_on_the_target_migrates_paused() -> None:
    guest = Guest(a_migrating(), runs=True)
    guest.domain = D.PAUSED
    assert guest.runs() == ["LookAtPeer", "Migrate", "arrived"]


def test_a_guest_that_is_paused_here_while_the_target_does_not_answer_is_left_as_it_is() -> None:
    silent = VmMemory(transition=0, peer=(None, NOW_S), peer_error="no route to host")
    for record in (a_migrating(), a_migrating(cancelling=True)):
        assert decided(record, domains=[a_domain(state=D.PAUSED)], memory=silent).actions == ()


# ------------------------------------------------------------------------------------------------- strays


def test_a_domain_of_a_vm_that_belongs_elsewhere_is_terminated_as_a_stray() -> None:
    done = decided(domains=[a_domain()], strays=[a_vm(node="hv2")]).actions
    assert done == (Terminate(uuid_of("web1"), "it runs here, but belongs to hv2", stray=True),)


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

BUSY: list[Callable[[str], Action]] = [
    lambda uuid: Start(uuid, ""),
    lambda uuid: AskShutdown(uuid, ""),
    lambda uuid: Terminate(uuid, ""),
    lambda uuid: LookAtPeer(uuid, "hv2", ""),
    lambda uuid: Record(uuid, E.STARTED, ""),
]


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


# ------------------------------------------------------------------------------------ whatever there may be

NAMES = ("web1", "web2", "web3")
moments = st.floats(min_value=0, max_value=2000, allow_nan=False)
memories = st.builds(
    VmMemory,
    transition=st.integers(min_value=-1, max_value=1),
    asked_at_s=st.none() | moments,
    asked_last_s=st.none() | moments,
    peer=st.none() | st.tuples(st.none() | st.sampled_from(DomainState), moments),
    peer_error=st.sampled_from(["", "no route to host"]),
    live_failed=st.sampled_from(["", "unsafe"]),
    unrecorded_failure=st.sampled_from(["", "failed"]),
    failures_s=st.lists(moments, max_size=4).map(lambda at: tuple(sorted(at))),
)


@st.composite
def vms(draw: st.DrawFn, name: str) -> VmRecord:
    state = draw(st.sampled_from(VmState))
    migrating = state is S.MIGRATING
    node, target = draw(st.permutations(["hv1", "hv2", "hv3"]))[:2]
    return a_vm(
        name,
        node=node,
        state=state,
        target=target if migrating else "",
        cancelling=migrating and draw(st.booleans()),
        forced=state is S.SHUTTING_DOWN and draw(st.booleans()),
        migration_method=draw(st.sampled_from(["live", "shutdown", "none"])),
        shutdown_timeout_s=draw(st.sampled_from([None, 0, 30])),
        transition=draw(st.integers(min_value=0, max_value=1)),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> AgentSnapshot:
    records = [draw(vms(name)) for name in NAMES]
    active = [name for name in NAMES if draw(st.booleans())]
    ours = [vm for vm in records if draw(st.booleans())]
    busy = draw(st.sampled_from(NAMES)) if draw(st.booleans()) else ""
    under_way = draw(st.sampled_from(BUSY))(uuid_of(busy)) if busy else None
    return AgentSnapshot(
        node="hv1",
        vms=by_uuid(ours),
        strays=by_uuid(vm for vm in records if vm not in ours and vm.name in active),
        domains={
            uuid_of(name): a_domain(name, draw(st.sampled_from(DomainState)), job_active=draw(st.booleans()))
            for name in active
        },
        settings=Settings(),
        busy={under_way.uuid: under_way} if under_way else {},
        memory={uuid_of(name): draw(memories) for name in NAMES if draw(st.booleans())},
    )


@given(snapshots(), moments)
@settings(max_examples=300, deadline=None)
def test_whatever_there_is_no_guest_starts_twice_or_elsewhere_and_no_vm_gets_two_actions(
    snapshot: AgentSnapshot, now_s: float
) -> None:
    made = decide(snapshot, now_s)

    assert made == decide(snapshot, now_s), "the same snapshot gives the same decision"
    uuids = [done.uuid for done in made.actions]
    assert len(uuids) == len(set(uuids))
    assert made.wake_at_s is None or made.wake_at_s > now_s or made.actions
    for done in made.actions:
        record = {**snapshot.strays, **snapshot.vms}[done.uuid].value
        domain = snapshot.domains.get(done.uuid)
        assert done.uuid not in snapshot.busy or isinstance(done, CancelMigration)
        assert done.reason is not None
        if isinstance(done, Start):
            assert record.node == "hv1"
            assert record.state is S.STARTING
            assert domain is None
        if isinstance(done, Migrate):
            assert (record.node, record.state, record.cancelling) == ("hv1", S.MIGRATING, False)
            assert domain is not None
            assert not domain.job_active
        if isinstance(done, Terminate):
            assert domain is not None
            assert record.target != "hv1" or record.node == "hv1"
        if isinstance(done, Terminate) and not done.stray and domain and domain.state in (D.RUNNING, D.PAUSED):
            assert _may_be_terminated(record, domain, snapshot, now_s)
        if isinstance(done, Record):
            advance(record, done.event, done.reason, "")  # never an event that its state refuses


def _may_be_terminated(record: VmRecord, domain: Domain, snapshot: AgentSnapshot, now_s: float) -> bool:
    """A guest that may be running is only terminated when it is to be off, is overdue, or runs elsewhere."""
    memory = current_memory(snapshot.memory.get(record.uuid, NO_MEMORY), record)
    timeout_s = agent.shutdown_timeout_s(record, snapshot.settings)
    is_overdue = memory.asked_at_s is not None and now_s >= memory.asked_at_s + timeout_s
    if record.state is S.MIGRATING:
        runs_there = domain.state is D.PAUSED and memory.peer is not None and memory.peer[0] is D.RUNNING
        return runs_there or (is_overdue and record.metadata.migration_method != "live")
    return record.state in OFF or record.forced or (record.state in (S.SHUTTING_DOWN, S.RESTARTING) and is_overdue)


@given(
    st.sampled_from([S.STOPPED, S.RUNNING]),
    st.lists(
        st.sampled_from([E.START, E.SHUTDOWN, E.STOP, E.RESTART, E.DISABLE, E.MIGRATE, "vanish", "wait"]), max_size=12
    ),
    st.booleans(),
    st.integers(min_value=0, max_value=2),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_and_happens_the_vm_comes_to_rest_as_its_record_says(
    first: VmState, script: list[str], obeys: bool, start_errors: int
) -> None:
    guest = Guest(a_vm(state=first), runs=first is S.RUNNING, obeys=obeys)
    guest.start_errors = ["no"] * start_errors
    for line in script:
        if line == "vanish":
            guest.vanishes()
        elif line == "wait":
            guest.runs(for_s=7)
        else:
            try:
                guest.told(VmEvent(line), **({"target": "hv2"} if line == E.MIGRATE else {}))
            except Refused:
                continue
    guest.runs()
    assert guest.record.state in (*OFF, S.RUNNING) or guest.record.node == "hv2"
    if guest.record.node == "hv1":
        assert (guest.domain is D.RUNNING) == (guest.record.state is S.RUNNING)
    else:
        assert guest.domain is None


def test_every_state_has_a_decision_for_every_domain() -> None:
    for state, domain in itertools.product(VmState, [None, *DomainState]):
        record = a_migrating() if state is S.MIGRATING else a_vm(state=state)
        made = decided(record, domains=[a_domain(state=domain)] if domain else [])
        assert isinstance(made, AgentDecision)
