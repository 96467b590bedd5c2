# SPDX-License-Identifier: Apache-2.0
"""agent: how VMs leave for another node, and what becomes of a migration that goes wrong or changes hands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from played_guest import (
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

from pvc_core.agent import ARRIVE_WITHIN_S
from pvc_core.agent_actions import CancelMigration, LookAtPeer, Migrate, Terminate
from pvc_core.agent_memory import VmMemory
from pvc_core.agent_snapshot import AgentDecision
from pvc_core.model import VmRecord, VmState
from pvc_core.ports import Domain, DomainState
from pvc_core.testing.builders import a_vm, uuid_of

# ----------------------------------------------------------------------------------------------- migration


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


# ---------------------------------------------------------------------- left paused by a migration that is over


def left_paused(vm: VmRecord, **more: Any) -> Domain:
    return replace(a_domain(vm, D.PAUSED), paused_by_migration=True, **more)


@pytest.mark.parametrize("state", [S.STARTING, S.RUNNING])
def test_what_a_dead_source_has_left_paused_here_is_cleared_away_and_started_anew(state: VmState) -> None:
    guest = Guest(a_vm(state=state))
    guest.domain, guest.left_paused = D.PAUSED, True
    assert guest.runs(for_s=ARRIVE_WITHIN_S / 2) == [], "it may still be on the point of running"
    done = guest.runs()
    assert done[0] == "Terminate"
    assert done[-2:] == ["Start", "started"]
    assert guest.record.state is S.RUNNING


def test_a_guest_that_has_switched_over_before_its_source_died_runs_on() -> None:
    guest = Guest(a_vm(state="starting"))
    guest.domain, guest.left_paused = D.PAUSED, True
    guest.runs(for_s=ARRIVE_WITHIN_S / 2)
    guest.domain, guest.left_paused = D.RUNNING, False
    assert guest.runs() == ["started"]


def test_a_copy_that_is_arriving_is_left_alone() -> None:
    arriving = a_vm(node="hv2", target="hv1", state="migrating")
    assert decided(arriving, domains=[left_paused(arriving)]) == AgentDecision((), None)


def test_a_guest_whose_job_is_still_under_way_is_left_to_the_hypervisor() -> None:
    for state in (S.STARTING, S.RUNNING):
        vm = a_vm(state=state)
        assert action(vm, domains=[left_paused(vm, job_active=True)]) is None


@pytest.mark.parametrize("state", [S.STARTING, S.RUNNING])
def test_a_guest_that_a_person_has_paused_is_left_alone(state: VmState) -> None:
    done = action(a_vm(state=state), domains=[a_domain(state=D.PAUSED)])
    assert done is None or recorded(done) is E.STARTED
