# SPDX-License-Identifier: Apache-2.0
"""leader_fence: a node is fenced only if it is lost, and counts as off only by proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pvc_core import leader_fence
from pvc_core.errors import Refused
from pvc_core.fence_memory import (
    AskAgents,
    BeginFence,
    ConfirmFence,
    EndFence,
    FenceAction,
    FenceMemory,
    NoteGone,
    NoteRefusal,
    TakeBack,
    answered,
    asked,
    look,
    newly_gone,
    written,
)
from pvc_core.fencing import FenceVerdict
from pvc_core.leader_fence import TOLD_EVERY
from pvc_core.model import FenceReport, FenceStep, NodeMode, Settings, VmRecord
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, stored

NOW = "2026-01-31T12:00:00Z"
OFF, ON = FenceVerdict(True, "hv1's outlet is off"), FenceVerdict(False, "the BMC does not answer")


def a_cluster(*vms: VmRecord, settings: Settings | None = None, **hv1: Any) -> ClusterSnapshot:
    """hv1 is lost, hv2 is there."""
    hv1.setdefault("alive", False)
    return a_snapshot([a_node("hv1", **hv1), a_node("hv2")], vms or [a_vm()], settings)


def decided(snapshot: ClusterSnapshot, now_s: float, memory: FenceMemory) -> tuple[FenceAction, ...]:
    return leader_fence.decide(snapshot, look(memory, snapshot, now_s), now_s).actions


def done(action: FenceAction, snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """The cluster with the action written."""
    change = leader_fence.change_for(action, snapshot, NOW)
    (happening,) = change.happenings
    assert happening.reason
    node = snapshot.nodes[action.node]
    record = happening.change.node  # type: ignore[union-attr]
    after = replace(node, record=stored(node.record.key, record, node.record.version + 1))
    return replace(snapshot, nodes={**snapshot.nodes, action.node: after})


def being_fenced(snapshot: ClusterSnapshot) -> tuple[ClusterSnapshot, FenceMemory]:
    """As it is two seconds after the loss was seen."""
    memory = look(FenceMemory(), snapshot, 0.0)
    (begin,) = leader_fence.decide(snapshot, look(memory, snapshot, 2.0), 2.0).actions
    assert isinstance(begin, BeginFence)
    return done(begin, snapshot), memory


# ------------------------------------------------------------------------------- a cluster that is starting


def starting(there: int, gone: int) -> ClusterSnapshot:
    """So many nodes are there and so many are not; each that is not has a VM."""
    alive = [a_node(f"up{number}") for number in range(there)]
    lost = [a_node(f"down{number}", alive=False) for number in range(gone)]
    vms = [a_vm(f"web{number}", node=f"down{number}") for number in range(gone)]
    return a_snapshot([*alive, *lost], vms, Settings(fence_startup_s=300))


def test_after_an_outage_of_all_hosts_those_that_boot_are_given_time() -> None:
    snapshot = starting(1, 2)
    memory = look(FenceMemory(connected_s=100.0), snapshot, 101.0)
    assert decided(snapshot, 399.0, memory) == ()
    assert [action.node for action in decided(snapshot, 400.0, memory)] == ["down0", "down1"]


def test_while_they_come_one_by_one_the_others_keep_their_time() -> None:
    memory = look(FenceMemory(connected_s=0.0), starting(1, 3), 1.0)
    assert decided(starting(3, 1), 200.0, memory) == ()


def test_with_half_of_the_nodes_there_the_others_are_lost_as_ever() -> None:
    memory = look(FenceMemory(connected_s=0.0), starting(2, 2), 1.0)
    assert len(decided(starting(2, 2), 3.0, memory)) == 2


def test_a_leader_that_has_long_been_connected_knows_of_no_outage() -> None:
    memory = look(FenceMemory(connected_s=0.0), starting(1, 2), 1000.0)
    assert len(decided(starting(1, 2), 1002.0, memory)) == 2


def test_a_node_that_was_heard_of_since_is_lost_as_ever() -> None:
    snapshot = starting(1, 2)
    memory = look(FenceMemory(connected_s=0.0), snapshot, 1.0)
    memory = look(memory, replace(snapshot, nodes={**snapshot.nodes, "down1": a_node("down1")}), 60.0)
    memory = look(memory, snapshot, 70.0)
    assert [action.node for action in decided(snapshot, 72.0, memory)] == ["down1"]


def test_a_session_that_outlives_the_outage_is_no_sign_of_life() -> None:
    snapshot = starting(1, 2)
    stale = replace(snapshot, nodes={**snapshot.nodes, "down1": a_node("down1")})
    memory = look(look(FenceMemory(connected_s=0.0), stale, 1.0), stale, 5.0)
    assert decided(snapshot, 72.0, look(memory, snapshot, 6.0)) == ()


# ---------------------------------------------------------------------------------------------- who is lost


def test_a_lost_node_is_fenced_when_the_grace_time_is_over_and_not_before() -> None:
    snapshot = a_cluster()
    memory = look(FenceMemory(), snapshot, 100.0)
    waits = leader_fence.decide(snapshot, look(memory, snapshot, 101.9), 101.9)
    assert (waits.actions, waits.wake_at_s) == ((), 102.0)
    (begin,) = leader_fence.decide(snapshot, look(memory, snapshot, 102.0), 102.0).actions
    assert begin == BeginFence("hv1", "its session is gone and one VM is to run there")


def test_the_grace_time_begins_anew_when_the_node_was_there_in_between() -> None:
    lost, there = a_cluster(), a_cluster(alive=True)
    memory = look(look(look(FenceMemory(), lost, 0.0), there, 1.0), lost, 1.5)
    assert decided(lost, 2.5, memory) == ()
    assert [type(action) for action in decided(lost, 3.5, memory)] == [BeginFence]


@pytest.mark.parametrize(
    "fields",
    [{"left": True}, {"maintenance": True}, {"alive": True}, {"fenced": True, "mode": "flushed"}],
    ids=["left", "maintenance", "alive", "fenced already"],
)
def test_a_node_is_not_fenced_when_it_is(fields: dict[str, Any]) -> None:
    snapshot = a_cluster(**fields)
    assert decided(snapshot, 1000.0, look(FenceMemory(), snapshot, 0.0)) == ()


def test_a_node_without_guests_is_not_fenced_and_that_it_is_gone_is_told_once() -> None:
    snapshot = a_cluster(a_vm("off", state="stopped"), a_vm("held", state="stopped", held=True), a_vm("x", node="hv2"))
    memory = look(FenceMemory(), snapshot, 0.0)
    assert decided(snapshot, 1.9, memory) == ()
    (gone,) = decided(snapshot, 2.0, memory)
    assert gone == NoteGone("hv1", "its session is gone; no VM is to run there")
    after = done(gone, snapshot)
    assert decided(after, 1000.0, look(FenceMemory(), after, 0.0)) == (), "not by the next leader either"
    back = leader_fence.returned(after.nodes["hv1"].record.value, NOW)
    assert (after.nodes["hv1"].record.value.gone_at, back.gone_at) == (NOW, "")


def test_that_a_node_is_gone_is_not_told_of_one_that_is_back_or_has_a_vm_to_run() -> None:
    action = NoteGone("hv1", "its session is gone")
    for snapshot in (a_cluster(a_vm("off", state="stopped"), alive=True), a_cluster()):
        with pytest.raises(Refused):
            leader_fence.change_for(action, snapshot, NOW)


def test_a_node_to_which_a_vm_migrates_is() -> None:
    snapshot = a_cluster(a_vm("web1", node="hv2", state="migrating", target="hv1"))
    assert [type(action) for action in decided(snapshot, 2.0, look(FenceMemory(), snapshot, 0.0))] == [BeginFence]


# --------------------------------------------------------------------------------------------------- proof


def test_a_confirmation_makes_it_fenced_and_nothing_else_does() -> None:
    snapshot, memory = being_fenced(a_cluster(watchdog_s=0.0))
    (ask,) = decided(snapshot, 2.0, memory)
    assert isinstance(ask, AskAgents)
    memory = asked(memory, ask)
    assert decided(snapshot, 500.0, memory) == (), "an agent that does not answer proves nothing"
    (confirm,) = decided(snapshot, 501.0, answered(memory, ask, OFF, 501.0))
    assert confirm == ConfirmFence("hv1", 1, "hv1's outlet is off")
    record = done(confirm, snapshot).nodes["hv1"].record.value
    assert (record.fenced, record.mode, record.reason) == (True, NodeMode.FLUSHED, "hv1's outlet is off")
    assert record.fence is not None
    assert (record.fence.step, record.fence.evidence) == (FenceStep.RECOVERING, "hv1's outlet is off")


def test_a_refusal_is_written_once_and_tried_again_for_ever() -> None:
    snapshot, memory = being_fenced(a_cluster())
    (ask,) = decided(snapshot, 2.0, memory)
    assert isinstance(ask, AskAgents)
    memory = answered(asked(memory, ask), ask, ON, 3.0)
    (note,) = decided(snapshot, 3.0, memory)
    assert note == NoteRefusal("hv1", 1, 1, "the BMC does not answer")
    change = leader_fence.change_for(note, snapshot, NOW)
    assert change.reason == (
        "nothing confirms that hv1 is off: the BMC does not answer; nothing is recovered, it is tried again; "
        "`pvc node confirm-fenced hv1` if you have made certain that it is off"
    )
    snapshot, memory, notes = done(note, snapshot), written(memory, note), 1
    for attempt in range(1, 2 * TOLD_EVERY + 1):
        now_s = 3.0 + 5.0 * attempt
        assert decided(snapshot, now_s - 0.1, memory) == ()
        (again,) = decided(snapshot, now_s, memory)
        assert isinstance(again, AskAgents)
        memory = answered(asked(memory, again), again, ON, now_s)
        for action in decided(snapshot, now_s, memory):
            snapshot, memory, notes = done(action, snapshot), written(memory, action), notes + 1
    report = snapshot.nodes["hv1"].record.value.fence
    assert report is not None
    assert (notes, report.attempts) == (3, 1 + 2 * TOLD_EVERY)


def test_an_answer_to_an_earlier_fence_does_not_count() -> None:
    snapshot, memory = being_fenced(a_cluster(fence=FenceReport(step=FenceStep.RECOVERED, number=6)))
    memory = answered(memory, AskAgents("hv1", 6, "earlier"), OFF, 2.0)
    (action,) = decided(snapshot, 2.0, memory)
    assert action == AskAgents("hv1", 7, "its session is gone and one VM is to run there")
    with pytest.raises(Refused, match="it is not fencing any more"):
        leader_fence.change_for(ConfirmFence("hv1", 6, "late"), snapshot, NOW)


def test_a_fence_ends_with_the_last_vm_that_may_run_there_and_not_before() -> None:
    snapshot, memory = being_fenced(a_cluster(a_vm("web1"), a_vm("web2")))
    (ask,) = decided(snapshot, 2.0, memory)
    assert isinstance(ask, AskAgents)
    memory = asked(memory, ask)
    hv1 = snapshot.nodes["hv1"]
    one = a_cluster(a_vm("web2"))
    one = replace(one, nodes={**one.nodes, "hv1": replace(one.nodes["hv1"], record=hv1.record)})
    assert decided(one, 3.0, memory) == ()
    none = replace(one, vms={}, nodes={**one.nodes, "hv1": replace(hv1, ledger=None)})
    (end,) = decided(none, 4.0, memory)
    assert end == EndFence("hv1", "no VM is to run there any more: there is nothing to recover")
    after = done(end, none).nodes["hv1"].record.value
    assert (after.mode, after.fenced, after.reason) == (NodeMode.READY, False, end.reason)
    (gone,) = decided(done(end, none), 4.0, written(memory, end))
    assert isinstance(gone, NoteGone)


def test_what_agents_say_when_their_fence_has_ended_counts_for_nothing() -> None:
    snapshot, memory = being_fenced(a_cluster())
    (ask,) = decided(snapshot, 2.0, memory)
    assert isinstance(ask, AskAgents)
    ended = written(asked(memory, ask), EndFence("hv1", "nothing is left"))
    for verdict in (OFF, ON):
        assert answered(ended, ask, verdict, 9.0) == ended
    again = replace(ask, number=ask.number + 1)
    assert answered(asked(ended, again), ask, OFF, 9.0) == asked(ended, again), "nor for the next fence"


def test_an_armed_watchdog_is_proof_when_its_time_and_the_margin_are_over() -> None:
    snapshot, memory = being_fenced(a_cluster(watchdog_s=10.0))
    (ask,) = decided(snapshot, 2.0, memory)
    assert isinstance(ask, AskAgents)
    memory = asked(memory, ask)
    waits = leader_fence.decide(snapshot, look(memory, snapshot, 14.9), 14.9)
    assert (waits.actions, waits.wake_at_s) == ((), 15.0)
    (confirm,) = decided(snapshot, 15.0, memory)
    assert confirm == ConfirmFence(
        "hv1", 1, "its watchdog has fenced it: it was to be off 10 s after the end of its session"
    )


def test_what_a_lost_node_has_promised_stays_in_its_record_until_it_is_off() -> None:
    snapshot, memory = being_fenced(a_cluster(watchdog_s=10.0))
    assert snapshot.nodes["hv1"].record.value.watchdog_s == 10.0
    (confirm,) = decided(snapshot, 15.0, memory)
    assert done(confirm, snapshot).nodes["hv1"].record.value.watchdog_s == 0.0


def test_nobody_is_alarmed_by_a_refusal_while_the_watchdog_will_prove_it() -> None:
    snapshot, memory = being_fenced(a_cluster(watchdog_s=10.0))
    for now_s in (2.0, 7.0, 12.0):
        (ask,) = decided(snapshot, now_s, memory)
        assert isinstance(ask, AskAgents), "a device may confirm it sooner"
        memory = answered(asked(memory, ask), ask, ON, now_s)
        assert decided(snapshot, now_s, memory) == ()
    assert [type(action) for action in decided(snapshot, 15.0, memory)] == [ConfirmFence]


def test_a_new_leader_waits_the_watchdogs_time_from_when_it_saw_the_loss_itself() -> None:
    snapshot, _ = being_fenced(a_cluster(watchdog_s=10.0))
    memory = look(FenceMemory(), snapshot, 1000.0)
    assert [type(action) for action in decided(snapshot, 1014.0, memory)] == [AskAgents]
    assert [type(action) for action in decided(snapshot, 1015.0, memory)] == [ConfirmFence]


def test_a_session_that_nobody_saw_begin_and_end_makes_the_watchdogs_time_begin_anew() -> None:
    snapshot, memory = being_fenced(a_cluster(watchdog_s=10.0))
    hv1 = snapshot.nodes["hv1"]
    record = _with(hv1.record.value, session="second")
    later = replace(snapshot, nodes={**snapshot.nodes, "hv1": replace(hv1, record=stored(hv1.record.key, record))})
    assert newly_gone(memory, snapshot) == ()
    assert newly_gone(memory, later) == ("hv1",)
    memory = look(memory, later, 100.0)
    assert ConfirmFence not in [type(action) for action in decided(later, 114.9, memory)]
    assert ConfirmFence in [type(action) for action in decided(later, 115.0, memory)]


def test_the_time_of_a_loss_counts_from_when_the_store_itself_says_that_the_session_is_gone() -> None:
    snapshot, _ = being_fenced(a_cluster(watchdog_s=10.0))
    memory = look(FenceMemory(), snapshot, 0.0, there={"hv1"})
    assert leader_fence.decide(snapshot, memory, 50.0).actions == (), "its session is just not seen yet"
    memory = look(memory, snapshot, 50.0)
    assert ConfirmFence not in [type(action) for action in decided(snapshot, 64.9, memory)]
    assert ConfirmFence in [type(action) for action in decided(snapshot, 65.0, memory)]


# -------------------------------------------------------------------------------------------------- called off


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (a_cluster(alive=True), "its daemon is there again"),
        (a_cluster(maintenance=True), "it is in maintenance"),
        (a_cluster(a_vm(state="stopped")), "no VM is to run there any more: there is nothing to recover"),
    ],
    ids=["it returns", "maintenance", "its VMs are gone"],
)
def test_a_fence_ends_without_a_recovery_when(now: ClusterSnapshot, why: str) -> None:
    before, memory = being_fenced(a_cluster())
    fence = before.nodes["hv1"].record.value.fence
    hv1 = now.nodes["hv1"]
    record = replace(hv1, record=stored(hv1.record.key, _with(hv1.record.value, fence=fence)))
    snapshot = replace(now, nodes={**now.nodes, "hv1": record})
    (end,) = decided(snapshot, 3.0, memory)
    assert end == EndFence("hv1", why)
    after = done(end, snapshot).nodes["hv1"].record.value
    assert (after.fenced, after.mode, after.fence.step) == (False, NodeMode.READY, FenceStep.RECOVERED)


def _with(record: Any, **fields: Any) -> Any:
    return type(record)(**{name: getattr(record, name) for name in record.__struct_fields__} | fields)


def test_a_daemon_that_joins_ends_a_fence_that_nothing_has_confirmed_and_no_other() -> None:
    snapshot, memory = being_fenced(a_cluster())
    joined = leader_fence.returned(snapshot.nodes["hv1"].record.value, NOW)
    assert joined.fence is not None
    assert joined.fence.step is FenceStep.RECOVERED
    (ask,) = decided(snapshot, 2.0, memory)
    assert isinstance(ask, AskAgents)
    (confirm,) = decided(snapshot, 3.0, answered(asked(memory, ask), ask, OFF, 3.0))
    off = done(confirm, snapshot).nodes["hv1"].record.value
    assert leader_fence.returned(off, NOW) == off, "its VMs are recovered first"


def test_what_was_confirmed_does_not_count_for_a_node_that_has_returned_meanwhile() -> None:
    snapshot, _ = being_fenced(a_cluster())
    hv1 = snapshot.nodes["hv1"]
    back = replace(hv1, record=stored(hv1.record.key, leader_fence.returned(hv1.record.value, NOW)))
    with pytest.raises(Refused, match="not fencing any more"):
        leader_fence.change_for(ConfirmFence("hv1", 1, "off"), replace(snapshot, nodes={"hv1": back}), NOW)


# ------------------------------------------------------------------------------------------------ taken back

FENCED = {"alive": True, "fenced": True, "mode": "flushed"}


def test_a_node_that_was_ready_is_taken_back_when_its_daemon_has_been_there_for_a_while() -> None:
    snapshot = a_cluster(**FENCED, fence=FenceReport(step=FenceStep.RECOVERED, was_ready=True))
    memory = look(FenceMemory(), snapshot, 0.0)
    assert decided(snapshot, 29.9, memory) == ()
    (back,) = decided(snapshot, 30.0, memory)
    assert isinstance(back, TakeBack)
    record = done(back, snapshot).nodes["hv1"].record.value
    assert (record.mode, record.fenced) == (NodeMode.UNFLUSHING, False)
    assert record.drain is not None
    assert record.drain.leaves_running


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({"fence": FenceReport(step=FenceStep.RECOVERED, was_ready=False)}, Settings()),
        ({"fence": FenceReport(step=FenceStep.RECOVERED)}, Settings(autoready=False)),
        ({"fence": FenceReport(step=FenceStep.RECOVERING)}, Settings()),
        ({"fence": FenceReport(step=FenceStep.RECOVERED), "alive": False}, Settings()),
        ({"fence": FenceReport(step=FenceStep.RECOVERED), "fenced": False}, Settings()),
        ({"fence": FenceReport(step=FenceStep.RECOVERED), "hypervisor_connected": False}, Settings()),
        ({"fence": FenceReport(step=FenceStep.RECOVERED), "reported": False}, Settings()),
    ],
    ids=[
        "was flushed before",
        "autoready is off",
        "still recovered",
        "away",
        "flushed by command",
        "has no hypervisor",
        "has not reported",
    ],
)
def test_a_node_is_not_taken_back_when_it(fields: dict[str, Any], settings: Settings) -> None:
    snapshot = a_cluster(settings=settings, **{**FENCED, **fields})
    assert decided(snapshot, 1000.0, look(FenceMemory(), snapshot, 0.0)) == ()


def test_a_daemon_that_starts_again_and_again_is_not_taken_back() -> None:
    fence = FenceReport(step=FenceStep.RECOVERED)
    memory = FenceMemory()
    for second in range(0, 200, 20):
        snapshot = a_cluster(**FENCED, fence=fence, session=f"s{second}")
        memory = look(memory, snapshot, float(second))
        assert decided(snapshot, second + 19.0, memory) == ()
