# SPDX-License-Identifier: Apache-2.0
"""vm_states: every pair of state and event has an answer, and what holds for all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc_core import vm_states_diagram
from pvc_core.errors import Refused
from pvc_core.model import VmRecord, VmState
from pvc_core.testing.builders import a_vm
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.vm_states import OFF, REFUSALS, RULES, NodeChange, Rule, VmEvent, advance, rule_for

S, E = VmState, VmEvent
NOW = "2026-01-31T12:00:00Z"
PAIRS = list(itertools.product(VmState, VmEvent))
COMMANDS = (E.START, E.SHUTDOWN, E.STOP, E.RESTART, E.DISABLE, E.MIGRATE, E.HOLD, E.RELOCATE)
RECOVERY = (E.RECOVER, E.TARGET_LOST, E.LOST_HELD, E.LOST)
WITH_TARGET = (E.MIGRATE, E.RELOCATE, E.RECOVER, E.RETRY)
FINDINGS = tuple(event for event in VmEvent if event not in COMMANDS)


def records_in(state: VmState) -> Iterator[VmRecord]:
    """The record of a VM in this state, with every combination of flags that means something there."""
    plain = a_vm(state=state, transition=7, reason="before", changed_at="then")
    if state is S.SHUTTING_DOWN:
        for forced, then, held in itertools.product((False, True), ("stopped", "disabled"), (False, True)):
            if not (held and (forced or then == "disabled")):
                yield msgspec.structs.replace(plain, forced=forced, after_shutdown=then, held=held)
    elif state is S.STOPPED:
        yield plain
        yield msgspec.structs.replace(plain, held=True)
    elif state is S.MIGRATING:
        for permanent, cancelling in itertools.product((False, True), (False, True)):
            yield msgspec.structs.replace(plain, target="hv2", permanent=permanent, cancelling=cancelling)
    else:
        yield plain


def all_changes() -> Iterator[tuple[VmRecord, VmEvent, VmRecord]]:
    """Every record with every event that it accepts, and what becomes of it."""
    for state, event in RULES:
        for before in records_in(state):
            yield before, event, after_event(before, event)


def after_event(record: VmRecord, event: VmEvent, **more: Any) -> VmRecord:
    more = {"target": "hv2", **more} if event in WITH_TARGET else more
    return advance(record, event, "because", NOW, **more)


def without_words(record: VmRecord) -> VmRecord:
    return msgspec.structs.replace(record, transition=0, reason="", changed_at="")


# ---------------------------------------------------------------------------------------------- every pair


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=str)
def test_every_pair_is_listed_or_refused_with_a_sentence(state: VmState, event: VmEvent) -> None:
    rule = rule_for(state, event)
    for record in records_in(state):
        if isinstance(rule, Rule):
            assert after_event(record, event).uuid == record.uuid
        else:
            with pytest.raises(Refused) as refused:
                after_event(record, event)
            assert refused.value.subject == record.name
            assert refused.value.reason == rule
            assert rule.startswith("is ")
            assert state in rule


@pytest.mark.parametrize(("state", "event"), [pair for pair in PAIRS if pair[1] in COMMANDS], ids=str)
def test_a_refused_command_says_what_to_do_or_why_not(state: VmState, event: VmEvent) -> None:
    if (state, event) not in RULES:
        assert (state, event) in REFUSALS


def test_no_refusal_hides_behind_a_rule_that_leads_somewhere_else() -> None:
    shadowed = {pair for pair in RULES if pair in REFUSALS}
    assert {event for _, event in shadowed} <= {E.RELOCATE}, "only its refusals are written for all states at once"


# ---------------------------------------------------------------------------------- what holds for all of them


def test_only_events_that_prove_the_guest_is_off_lead_to_stopped_disabled_or_failed() -> None:
    for before, event, after in all_changes():
        if after.state in OFF and before.state not in OFF:
            assert event in (E.ENDED, E.POWERED_OFF, E.GAVE_UP, E.LOST_HELD, E.LOST), (
                f"{before.state} and {event} lead to {after.state}"
            )


def test_the_transition_grows_with_every_change_and_with_nothing_else() -> None:
    for before, event, after in all_changes():
        if event is E.START_FAILED:
            assert without_words(after) == without_words(before)
            assert after.transition == before.transition
        elif without_words(after) == without_words(before):
            assert after is before, f"{event} in {before.state} touches a record it does not change"
        else:
            assert after.transition == before.transition + 1
            assert (after.reason, after.changed_at) == ("because", NOW)


def test_flags_are_only_set_in_the_states_in_which_they_mean_something() -> None:
    for before, event, after in all_changes():
        origin = f"after {event} in {before.state}"
        assert after.state is S.SHUTTING_DOWN or not after.forced, origin
        assert after.state is S.SHUTTING_DOWN or after.after_shutdown == "stopped", origin
        assert after.state is S.MIGRATING or not (after.cancelling or after.target or after.permanent), origin
        assert after.state in (S.SHUTTING_DOWN, S.STOPPED) or not after.held, origin
        assert not (after.held and (after.forced or after.after_shutdown == "disabled")), origin


def test_a_migrating_vm_has_a_target_that_is_not_its_node() -> None:
    for _, _, after in all_changes():
        if after.state is S.MIGRATING:
            assert after.target not in ("", after.node)


def test_who_and_how_large_a_vm_is_never_changes_with_its_state() -> None:
    for before, _, after in all_changes():
        for kept in ("uuid", "name", "memory_mib", "vcpus", "metadata", "schema"):
            assert getattr(after, kept) == getattr(before, kept)


def test_a_command_given_twice_is_carried_out_once() -> None:
    for before, event, after in all_changes():
        if event not in (E.START, E.SHUTDOWN, E.STOP, E.RESTART, E.DISABLE):
            continue
        assert after_event(after, event) is after, f"{event} in {before.state}"


def test_only_arriving_relocating_and_recovering_change_the_node() -> None:
    for before, event, after in all_changes():
        moves = RULES[before.state, event].node in (NodeChange.TO_TARGET, NodeChange.TO_GIVEN)
        assert moves == (event in (E.ARRIVED, E.MOVED_OFF, E.RELOCATE, E.RECOVER, E.RETRY))
        assert after.node == ("hv2" if moves else before.node)


@given(st.lists(st.sampled_from([event for event in VmEvent if event not in WITH_TARGET]), max_size=30))
@settings(deadline=None)
def test_whatever_happens_in_whatever_order_the_record_stays_sound(events: list[VmEvent]) -> None:
    record = a_vm(state="stopped")
    for event in events:
        try:
            after = advance(record, event, str(event), NOW)
        except Refused:
            continue
        assert after.transition >= record.transition
        assert after.forced <= (after.state is S.SHUTTING_DOWN)
        assert after.held <= (after.state in (S.SHUTTING_DOWN, S.STOPPED))
        record = after


# ------------------------------------------------------------------------------- the sentences of the design


@pytest.mark.parametrize("state", OFF)
def test_start_starts_a_vm_that_is_off_also_a_disabled_one(state: VmState) -> None:
    assert after_event(a_vm(state=state), E.START).state is S.STARTING


@pytest.mark.parametrize("state", [S.SHUTTING_DOWN, S.RESTARTING])
def test_start_aborts_a_shutdown_and_what_was_to_follow(state: VmState) -> None:
    asked = a_vm(state=state, after_shutdown="disabled") if state is S.SHUTTING_DOWN else a_vm(state=state)
    aborted = after_event(asked, E.START)
    assert aborted.state is S.STARTING
    assert aborted.after_shutdown == "stopped"


def test_start_on_a_migrating_vm_cancels_the_migration_and_keeps_where_it_was_going_until_that_is_done() -> None:
    asked = after_event(a_vm(state="migrating", target="hv2"), E.START)
    assert (asked.state, asked.cancelling, asked.target, asked.node) == (S.MIGRATING, True, "hv2", "hv1")

    cancelled = after_event(asked, E.MIGRATION_CANCELLED)
    assert (cancelled.state, cancelled.cancelling, cancelled.target, cancelled.node) == (S.RUNNING, False, "", "hv1")


def test_a_cancellation_that_comes_too_late_finds_the_vm_where_it_arrived() -> None:
    asked = after_event(a_vm(state="migrating", target="hv2"), E.START)
    arrived = after_event(asked, E.ARRIVED)
    assert (arrived.state, arrived.node, arrived.cancelling) == (S.RUNNING, "hv2", False)


@pytest.mark.parametrize("state", [S.STARTING, S.RUNNING, S.SHUTTING_DOWN, S.RESTARTING])
def test_stop_terminates_whatever_went_before(state: VmState) -> None:
    stopped = after_event(a_vm(state=state), E.STOP)
    assert (stopped.state, stopped.forced) == (S.SHUTTING_DOWN, True)


def test_shutdown_and_hold_ask_the_guest_first() -> None:
    for event in (E.SHUTDOWN, E.HOLD, E.RESTART, E.DISABLE):
        assert not after_event(a_vm(), event).forced


def test_restart_is_a_shutdown_and_a_start_on_the_same_node() -> None:
    asked = after_event(a_vm(), E.RESTART)
    again = after_event(asked, E.ENDED)
    assert (asked.state, again.state, again.node) == (S.RESTARTING, S.STARTING, "hv1")


def test_disable_ends_in_disabled_and_shutdown_and_stop_leave_it_there() -> None:
    disabled = after_event(after_event(a_vm(), E.DISABLE), E.ENDED)
    assert disabled.state is S.DISABLED
    for event in (E.SHUTDOWN, E.STOP, E.DISABLE):
        assert after_event(disabled, event) is disabled


def test_a_stop_that_hurries_up_a_disable_still_ends_in_disabled() -> None:
    hurried = after_event(after_event(a_vm(), E.DISABLE), E.STOP)
    assert hurried.forced
    assert after_event(hurried, E.ENDED).state is S.DISABLED


def test_a_disable_after_a_stop_does_not_ask_a_guest_that_is_to_be_terminated() -> None:
    disabled = after_event(after_event(a_vm(), E.STOP), E.DISABLE)
    assert (disabled.forced, disabled.after_shutdown) == (True, "disabled")


def test_a_restart_during_a_disable_takes_the_disable_back() -> None:
    again = after_event(after_event(after_event(a_vm(), E.DISABLE), E.RESTART), E.ENDED)
    assert again.state is S.STARTING


def test_a_held_vm_is_stopped_and_remembers_that_it_is_held() -> None:
    held = after_event(a_vm(), E.HOLD)
    off = after_event(held, E.ENDED)
    assert (held.state, held.held) == (S.SHUTTING_DOWN, True)
    assert (off.state, off.held) == (S.STOPPED, True)


@pytest.mark.parametrize("event", [E.SHUTDOWN, E.STOP])
@pytest.mark.parametrize("is_off", [False, True])
def test_an_operator_who_stops_a_held_vm_means_that_it_stays_off(event: VmEvent, is_off: bool) -> None:
    held = after_event(a_vm(), E.HOLD)
    stopped = after_event(after_event(held, E.ENDED) if is_off else held, event)
    assert not stopped.held
    assert stopped.state is (S.STOPPED if is_off else S.SHUTTING_DOWN)


def test_a_vm_that_its_owner_is_shutting_down_or_disabling_is_not_held() -> None:
    for asked in (E.SHUTDOWN, E.STOP, E.DISABLE):
        with pytest.raises(Refused, match="nothing to hold"):
            after_event(after_event(a_vm(), asked), E.HOLD)


def test_a_held_vm_that_gets_another_node_stays_held() -> None:
    held = after_event(after_event(a_vm(), E.HOLD), E.ENDED)
    assert after_event(held, E.RELOCATE, permanent=True).held


def test_migrate_keeps_the_home_and_move_changes_it_on_arrival() -> None:
    migrating = after_event(a_vm(), E.MIGRATE)
    moving = after_event(a_vm(), E.MIGRATE, permanent=True)
    assert (migrating.node, migrating.home, migrating.target) == ("hv1", "hv1", "hv2")
    assert after_event(migrating, E.ARRIVED).home == "hv1"
    assert moving.home == "hv1"
    assert after_event(moving, E.ARRIVED).home == "hv2"


def test_a_failed_move_leaves_node_and_home_as_they_were() -> None:
    failed = after_event(after_event(a_vm(), E.MIGRATE, permanent=True), E.MIGRATION_FAILED)
    assert (failed.state, failed.node, failed.home, failed.permanent) == (S.RUNNING, "hv1", "hv1", False)


def test_a_vm_that_was_shut_down_for_its_migration_starts_on_the_target() -> None:
    moved = after_event(a_vm(state="migrating", target="hv2"), E.MOVED_OFF)
    assert (moved.state, moved.node, moved.target) == (S.STARTING, "hv2", "")


def test_a_guest_that_ended_during_its_migration_starts_where_it_was() -> None:
    lost = after_event(a_vm(state="migrating", target="hv2", cancelling=True), E.GONE)
    assert (lost.state, lost.node, lost.target, lost.cancelling) == (S.STARTING, "hv1", "", False)


def test_a_move_of_a_vm_that_is_off_gives_it_another_node_and_home() -> None:
    moved = after_event(a_vm(state="disabled"), E.RELOCATE, permanent=True)
    assert (moved.state, moved.node, moved.home) == (S.DISABLED, "hv2", "hv2")


def test_a_vm_whose_domain_vanished_starts_again_until_the_agent_gives_up() -> None:
    assert after_event(a_vm(), E.GONE).state is S.STARTING
    assert after_event(a_vm(), E.GAVE_UP).state is S.FAILED
    assert after_event(a_vm(state="starting"), E.GAVE_UP).state is S.FAILED


def test_a_failed_start_changes_nothing_but_the_sentence() -> None:
    failed = after_event(a_vm(state="starting", transition=3), E.START_FAILED)
    assert (failed.state, failed.transition, failed.reason) == (S.STARTING, 3, "because")


@pytest.mark.parametrize("event", [E.SHUTDOWN, E.STOP, E.RESTART, E.DISABLE, E.MIGRATE, E.HOLD])
def test_what_a_migrating_vm_refuses_says_how_to_cancel_the_migration(event: VmEvent) -> None:
    with pytest.raises(Refused, match=r"pvc vm start. cancels the migration"):
        after_event(a_vm(state="migrating", target="hv2"), event)


# ----------------------------------------------------------------------------------------- the documentation


def test_the_documentation_is_what_the_table_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "vm-states.md"
    assert page.read_text() == vm_states_diagram.document(), (
        "docs/vm-states.md is stale; write it again: python -m pvc_core.vm_states_diagram > docs/vm-states.md"
    )


def test_the_documentation_names_every_state_and_every_event() -> None:
    page = vm_states_diagram.document()
    for state in VmState:
        assert f"**{state}**" in page
    for event in VmEvent:
        assert event in page


# ----------------------------------------------------------------------------------- nodes that are known to be off


@pytest.mark.parametrize("state", [S.STARTING, S.RUNNING, S.RESTARTING, S.MIGRATING])
def test_a_vm_whose_node_is_off_starts_on_another_and_keeps_its_home(state: VmState) -> None:
    recovered = after_event(a_vm(state=state, target="hv3" if state is S.MIGRATING else ""), E.RECOVER, target="hv2")
    assert (recovered.state, recovered.node, recovered.home, recovered.target) == (S.STARTING, "hv2", "hv1", "")


@pytest.mark.parametrize(("target", "home"), [("hv2", "hv2"), ("hv3", "hv1")])
def test_a_move_for_good_that_lost_its_source_is_one_only_where_it_went(target: str, home: str) -> None:
    moving = a_vm(state="migrating", target="hv2", permanent=True)
    assert after_event(moving, E.RECOVER, target=target).home == home


def test_a_migration_whose_target_is_off_goes_on_at_its_source() -> None:
    back = after_event(a_vm(state="migrating", target="hv2", permanent=True), E.TARGET_LOST)
    assert (back.state, back.node, back.home, back.target, back.permanent) == (S.STARTING, "hv1", "hv1", "", False)


def test_a_vm_that_was_lost_is_off_and_held_or_not() -> None:
    for state in (S.STARTING, S.RUNNING, S.RESTARTING, S.MIGRATING):
        lost = a_vm(state=state, target="hv2" if state is S.MIGRATING else "")
        held, off = after_event(lost, E.LOST_HELD), after_event(lost, E.LOST)
        assert (held.state, held.held, held.node, held.target) == (S.STOPPED, True, "hv1", "")
        assert (off.state, off.held, off.node, off.target) == (S.STOPPED, False, "hv1", "")


@pytest.mark.parametrize("event", RECOVERY)
def test_what_its_owner_was_stopping_or_has_stopped_is_never_recovered(event: VmEvent) -> None:
    for state in (*OFF, S.SHUTTING_DOWN):
        with pytest.raises(Refused):
            after_event(a_vm(state=state), event)


def test_a_vm_that_a_snapshot_keeps_off_does_not_leave_off_by_any_event() -> None:
    for (state, event), rule in RULES.items():
        kept_off = a_vm(state=state, snapshots=SnapshotStanding(names=("old",), kept_off="old"), held=True)
        if state not in OFF:
            continue
        if rule.to in OFF:
            assert advance(kept_off, event, "because", NOW, "hv2").state in OFF
            continue
        with pytest.raises(Refused, match=r"web1: is kept off: its snapshot old is being taken, or gone back to"):
            advance(kept_off, event, "because", NOW, "hv2")
