# SPDX-License-Identifier: Apache-2.0
"""events: every change leaves one, in its own transaction, and it says who, why and how a place was chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from stored_cluster import ANY, UUID, Xml, limited, refused_without_a_trace

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.errors import Conflict, NoCandidate, PluginError, StoreUnavailable
from pvc_core.event_log import EventLog
from pvc_core.events import (
    KEPT_RANKED,
    KEPT_REJECTIONS,
    MEANINGS,
    REASON_CHARACTERS,
    Event,
    EventKind,
    Happening,
    LeftOut,
    Severity,
    VmChange,
    event_of,
    kind_of,
    severity_of,
)
from pvc_core.journal import Journal, Notes, Written
from pvc_core.model import VmState
from pvc_core.placement import Decision, Ranked, Rejection
from pvc_core.ports import Create
from pvc_core.system_clock import SystemClock
from pvc_core.testing.counting_store import CountingStore
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import RULES, VmEvent


def events_of(cluster: Any) -> list[Event]:
    return list(EventLog(cluster.store).last(1000).events)


def acting_as(cluster: Any, author: str, told: list[Written] | None = None) -> Commands:
    """The commands of somebody."""
    journal = Journal(SystemClock(), lambda: author)
    if told is not None:
        journal.listen(told.append)
    view = ClusterView(cluster.store, ManualClock(), journal)
    view.start()
    cluster._views.append(view)
    return Commands(view, cluster.store, cluster.registry, ManualClock())


CHANGES: list[tuple[EventKind, Callable[[Commands, Xml], object]]] = [
    (EventKind.VM_DEFINED, lambda commands, xml: commands.define(xml("web2"), ANY)),
    (EventKind.VM_CHANGED, lambda commands, xml: commands.redefine("web1", xml("web1", 256))),
    (EventKind.VM_CHANGED, lambda commands, xml: commands.change_metadata("web1", {"priority": 1})),
    (EventKind.VM_RENAMED, lambda commands, xml: commands.rename("web1", "web3")),
    (EventKind.VM_UNDEFINED, lambda commands, xml: commands.undefine("web1")),
    (EventKind.VM_STARTING, lambda commands, xml: commands.start("web1")),
    (EventKind.VM_DISABLED, lambda commands, xml: commands.disable("web1")),
    (EventKind.VM_MOVED, lambda commands, xml: commands.move("web1")),
    (EventKind.NODE_FLUSHING, lambda commands, xml: commands.flush("hv2")),
    (EventKind.SETTINGS_CHANGED, lambda commands, xml: commands.change_settings({"start_failures": 5})),
]


@pytest.mark.parametrize(("kind", "command"), CHANGES, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(CHANGES)])
def test_every_command_that_changes_something_leaves_one_event_that_says_what_and_by_whom(
    stopped: Any, xml: Xml, kind: EventKind, command: Callable[[Commands, Xml], Any]
) -> None:
    before = events_of(stopped)
    command(acting_as(stopped, "api:ci"), xml)
    (event,) = events_of(stopped)[len(before) :]
    assert (event.kind, event.by) == (kind.value, "api:ci")
    assert event.reason
    assert event.at


def test_what_changes_nothing_or_is_refused_leaves_no_event(stopped: Any, xml: Xml) -> None:
    before = events_of(stopped)
    assert not stopped.commands.stop("web1").changed
    with refused_without_a_trace(stopped, NoCandidate):
        stopped.commands.define(xml("large", 100_000), ANY)
    assert events_of(stopped) == before


def test_the_event_of_a_placement_holds_the_whole_decision(three: Any, xml: Xml) -> None:
    outcome = three.commands.define(xml("web1", uuid=UUID), limited("hv2", "hv3"))
    (event,) = events_of(three)
    assert event.decision == outcome.decision
    assert (event.vm, event.uuid, event.node, event.target) == ("web1", UUID, "hv2", "")
    assert [rejection.node for rejection in event.decision.rejections] == ["hv1"]


def test_a_vm_that_moves_is_found_by_the_node_it_leaves_and_by_its_target(running: Any) -> None:
    running.commands.migrate("web1", "hv3")
    assert [(e.node, e.target) for e in events_of(running)][-1] == ("hv1", "hv3")
    running.happens("web1", VmEvent.ARRIVED)
    arrived = events_of(running)[-1]
    assert (arrived.kind, arrived.node, arrived.target) == ("vm_migrated", "hv1", "hv3")


def test_a_change_that_loses_against_another_leaves_only_the_event_of_the_one_that_was_made(stopped: Any) -> None:
    blind = stopped.new_commands()
    blind._view.close()
    stopped.commands.start("web1")
    blind.change_metadata("web1", {"priority": 5})
    assert [event.kind for event in events_of(stopped)][-2:] == ["vm_starting", "vm_changed"]


def test_who_is_told_is_told_after_the_commit_and_of_the_record_before_and_after(stopped: Any) -> None:
    told: list[Written] = []
    acting_as(stopped, "api:ci", told).start("web1")
    (written,) = told
    assert isinstance(written.change, VmChange)
    assert written.change.previous.state is VmState.STOPPED
    assert written.change.vm.state is VmState.STARTING
    assert written.event == events_of(stopped)[-1]


def test_every_rule_of_the_state_machine_has_a_kind_of_event() -> None:
    for (_state, event), rule in RULES.items():
        if not rule.same:
            assert kind_of(event, rule.to) in EventKind


def test_every_kind_has_a_meaning() -> None:
    assert list(MEANINGS) == list(EventKind)


def test_what_stops_a_vm_or_the_recovery_is_critical_and_what_is_not_known_is_information() -> None:
    assert {kind for kind in EventKind if severity_of(kind) is Severity.CRITICAL} == {
        EventKind.NODE_HYPERVISOR_AWAY,
        EventKind.NODE_LOST,
        EventKind.NODE_NOT_ADMITTED,
        EventKind.NODE_NOT_FENCED,
        EventKind.NODE_NOT_SHUT_OUT,
        EventKind.VM_FAILED,
        EventKind.VM_HELD,
    }
    assert severity_of("of a newer PVC") is Severity.INFO
    assert [least for least in Severity if Severity.WARNING.reaches(least)] == [Severity.INFO, Severity.WARNING]


# ------------------------------------------------------------------------------------------------- ids and size


def test_ids_are_unique_and_sort_by_time_also_within_a_millisecond_and_when_the_clock_goes_back() -> None:
    class Clock(ManualClock):
        now_ms = 1_767_225_600_000

        def utc_ms(self) -> int:
            return self.now_ms

    clock = Clock()
    journal = Journal(clock)
    happening = Happening(EventKind.VM_CHANGED, "r")
    ids = [journal.written([happening])[0].event.id for _ in range(5000)]
    clock.now_ms -= 10_000
    ids.append(journal.written([happening])[0].event.id)
    clock.now_ms += 20_000
    ids.append(journal.written([happening])[0].event.id)
    assert ids == sorted(set(ids))
    assert Journal(clock).written([happening])[0].event.id not in ids


def test_the_event_of_a_decision_among_a_thousand_nodes_is_small_and_says_what_is_left_out() -> None:
    decision = Decision(
        vm="web1",
        uuid=UUID,
        node="hv0",
        ranking=tuple(Ranked(f"hv{n}", 1.0, 1.0) for n in range(400)),
        rejections=tuple(Rejection(f"hv{n}", "x" * 10_000, "memory") for n in range(400, 1000)),
        reason="y" * 100_000,
    )
    event = event_of(Happening(EventKind.VM_DEFINED, "z" * 100_000, decision=decision), "1", "now", "api:ci")
    assert event.left_out == LeftOut(candidates=400 - KEPT_RANKED, rejections=600 - KEPT_REJECTIONS)
    assert event.decision.node == "hv0"
    assert len(event.reason) == REASON_CHARACTERS
    assert len(encode(event)) < 10_000


# --------------------------------------------------------------------------------------------------- the log


def put_events(cluster: Any, count: int, **fields: Any) -> list[str]:
    ids = [f"{n:013d}-000aaaaaaaa" for n in range(count)]
    for identity in ids:
        event = Event(id=identity, at="", kind="vm_started", **fields)
        cluster.store.transaction([Create(layout.event(identity), encode(event))])
    return ids


def test_the_last_events_are_read_in_two_requests_and_once(cluster: Any) -> None:
    ids = put_events(cluster, 30)
    store = CountingStore(cluster.store)
    log = EventLog(store)
    assert [event.id for event in log.last(10).events] == ids[-10:]
    assert [(call.method, len(call.keys)) for call in store.calls] == [("children", 1), ("get_many", 10)]
    store.reset()
    assert [event.id for event in log.last(10).events] == ids[-10:]
    assert [call.method for call in store.calls] == ["children"]


def test_events_after_one_that_is_known_are_read_by_its_id(cluster: Any) -> None:
    ids = put_events(cluster, 5)
    assert [event.id for event in EventLog(cluster.store).last(100, since=ids[2]).events] == ids[3:]
    assert EventLog(cluster.store).last(100, since=ids[-1]).events == ()


def test_a_wanted_event_is_found_however_many_others_came_after_it(cluster: Any) -> None:
    put_events(cluster, 40)
    wanted = Event(id="0000000000010-111bbbbbbbb", at="", kind="vm_held", vm="web1")
    cluster.store.transaction([Create(layout.event(wanted.id), encode(wanted))])
    assert EventLog(cluster.store).last(3, lambda event: event.vm == "web1").events == (wanted,)


def test_an_event_that_does_not_parse_is_told_apart_and_one_of_a_newer_kind_is_shown(cluster: Any) -> None:
    ids = put_events(cluster, 2)
    newer = msgspec.json.encode({"id": "9", "at": "", "kind": "vm_teleported", "beam": 1})
    cluster.store.transaction([Create(layout.event("8"), b"{no"), Create(layout.event("9"), newer)])
    page = EventLog(cluster.store).last(100)
    assert [event.id for event in page.events] == [*ids, "9"]
    assert [broken.key for broken in page.broken] == [layout.event("8")]


def test_the_oldest_are_forgotten_while_the_epoch_lasts(cluster: Any) -> None:
    ids = put_events(cluster, 250)
    cluster.store.transaction([Create(layout.LEADER_EPOCH, b"")])
    log = EventLog(cluster.store)
    assert log.trim(240, epoch=0) == 0, "a few more than are kept are not worth a transaction"
    with pytest.raises(Conflict):
        log.trim(20, epoch=7)
    assert log.trim(20, epoch=0) == 230
    assert list(log.ids()) == ids[-20:]


# ------------------------------------------------------------------------------------------------------ notes


def test_a_plugin_that_fails_is_an_event_that_names_it_once_a_minute(cluster: Any) -> None:
    clock = ManualClock()
    notes = Notes(cluster.store, Journal(clock, lambda: "leader:hv1"), clock)
    for _ in range(3):
        notes.plugin_failed(PluginError("acme", "ValueError: no"))
        notes.plugin_failed(PluginError("other", "ValueError: no"))
    clock.advance(61)
    notes.plugin_failed(PluginError("acme", "ValueError: still no"))
    notes.close(10)
    assert [(event.kind, event.plugin, event.by) for event in events_of(cluster)] == [
        ("plugin_failed", "acme", "leader:hv1"),
        ("plugin_failed", "other", "leader:hv1"),
        ("plugin_failed", "acme", "leader:hv1"),
    ]


def test_a_store_that_is_away_costs_the_note_and_nothing_else(cluster: Any) -> None:
    class Away:
        def transaction(self, ops: object) -> None:
            raise StoreUnavailable("gone")

    clock = ManualClock()
    notes = Notes(Away(), Journal(clock), clock)  # type: ignore[arg-type]
    notes.plugin_failed(PluginError("acme", "ValueError: no"))
    notes.close(10)
    assert events_of(cluster) == []


def test_a_commit_writes_its_event_in_the_same_transaction(cluster: Any) -> None:
    taken = Create(layout.vm_name("web1"), b"")
    cluster.store.transaction([taken])
    change = Change((taken,), "r", happenings=(Happening(EventKind.VM_DEFINED, "r"),))
    assert not cluster.view.try_commit(change, cluster.snapshot())
    assert events_of(cluster) == []
