# SPDX-License-Identifier: Apache-2.0
"""maintenance: what it holds back, how its time passes under one leader and the next, and what follows its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc_core import fence_memory, leader, leader_fence, maintenance
from pvc_core.changes import Change
from pvc_core.errors import BrokenRecord, InvalidInput, Refused
from pvc_core.fence_memory import BeginFence, EndFence, FenceMemory, TakeBack
from pvc_core.fencing import FenceVerdict
from pvc_core.leader_actions import RecoverVm, StartHeld
from pvc_core.maintenance import (
    CLUSTER,
    COUNT_EVERY_S,
    MAX_FOR_S,
    CountDown,
    EndMaintenance,
    MaintenanceAction,
    MaintenanceMemory,
    Remind,
    look,
)
from pvc_core.model import DrainReport, FenceReport, FenceStep, Settings
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, stored

NOW = "2026-01-31T12:00:00Z"
HOUR = Pause(reason="new switch", began_at=NOW, ends_at="2026-01-31T13:00:00Z", left_s=3600.0)
FENCING = FenceReport(step=FenceStep.FENCING)
RECOVERING = FenceReport(step=FenceStep.RECOVERING)
RECOVERED = FenceReport(step=FenceStep.RECOVERED)


def paused(snapshot: ClusterSnapshot, pause: Pause | None = HOUR) -> ClusterSnapshot:
    return replace(snapshot, maintenance=stored("/maintenance", MaintenanceRecord(pause=pause)))


def lost_hv1(**hv1: Any) -> ClusterSnapshot:
    return a_snapshot([a_node("hv1", alive=False, **hv1), a_node("hv2")], [a_vm()])


def fence_actions(snapshot: ClusterSnapshot, now_s: float, memory: FenceMemory) -> list[type]:
    memory = fence_memory.look(memory, snapshot, now_s)
    return [type(action) for action in leader_fence.decide(snapshot, memory, now_s).actions]


# ------------------------------------------------------------------------------------------ what it holds back


@pytest.mark.parametrize("snapshot", [paused(lost_hv1()), lost_hv1(maintenance=True)], ids=["cluster", "node"])
def test_a_node_in_maintenance_is_not_fenced_and_waits_for_nothing(snapshot: ClusterSnapshot) -> None:
    memory = fence_memory.look(FenceMemory(), snapshot, 0.0)
    decision = leader_fence.decide(snapshot, fence_memory.look(memory, snapshot, 1e6), 1e6)
    assert (decision.actions, decision.wake_at_s) == ((), None)


@pytest.mark.parametrize("watchdog_s", [0.0, 10.0])
def test_a_fence_under_way_is_called_off_when_the_cluster_is_paused(watchdog_s: float) -> None:
    snapshot = paused(lost_hv1(fence=FENCING, watchdog_s=watchdog_s))
    memory = fence_memory.answered(
        fence_memory.look(FenceMemory(), lost_hv1(fence=FENCING), 0.0),
        fence_memory.AskAgents("hv1", 1, ""),
        FenceVerdict(True, "its outlet is off"),
        1.0,
    )
    assert fence_actions(snapshot, 100.0, memory) == [EndFence]


@given(
    alive=st.booleans(),
    left=st.booleans(),
    fenced=st.booleans(),
    mode=st.sampled_from(["ready", "flushing", "flushed", "unflushing"]),
    fence=st.sampled_from([None, RECOVERING, RECOVERED]),
    watchdog_s=st.sampled_from([0.0, 10.0]),
    is_cluster=st.booleans(),
    now_s=st.floats(0, 1e6),
)
def test_nothing_is_begun_about_any_node_in_maintenance(is_cluster: bool, now_s: float, **hv1: Any) -> None:
    snapshot = a_snapshot([a_node("hv1", maintenance=not is_cluster, **hv1), a_node("hv2")], [a_vm()])
    snapshot = paused(snapshot) if is_cluster else snapshot
    assert fence_actions(snapshot, now_s, fence_memory.look(FenceMemory(), snapshot, 0.0)) == []


def test_no_vm_is_recovered_and_nothing_taken_back_by_itself_while_the_cluster_is_paused(registry: Registry) -> None:
    hv1 = {"fenced": True, "mode": "flushed"}
    off = a_snapshot([a_node("hv1", alive=False, fence=RECOVERING, **hv1), a_node("hv2")], [a_vm()])
    placer = Placer(registry)
    (recover,) = leader.decide(off, placer, registry.recovery_policies)
    assert isinstance(recover, RecoverVm)
    assert leader.decide(paused(off), placer, registry.recovery_policies) == ()
    with pytest.raises(Refused, match="the cluster is in maintenance"):
        leader.change_for(recover, paused(off), placer, NOW)
    back = a_snapshot([a_node("hv1", fence=RECOVERED, **hv1), a_node("hv2")], [a_vm()])
    memory = fence_memory.look(FenceMemory(), back, 0.0)
    assert fence_actions(back, 100.0, memory) == [TakeBack]
    assert fence_actions(paused(back), 100.0, memory) == []


def test_a_vm_that_is_held_until_there_is_a_place_stays_held_while_the_cluster_is_paused(registry: Registry) -> None:
    held = a_vm("web1", node="hv1", state="stopped", held=True, held_until="any")
    snapshot = a_snapshot([a_node("hv1", mode="flushed"), a_node("hv2")], [held])
    (start,) = leader.decide(snapshot, Placer(registry), registry.recovery_policies)
    assert isinstance(start, StartHeld)
    assert leader.decide(paused(snapshot), Placer(registry), registry.recovery_policies) == ()


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_ready_that_a_person_asked_for_goes_on_while_the_cluster_is_paused(
    registry: Registry, by_itself: bool
) -> None:
    node = a_node("hv1", mode="unflushing", drain=DrainReport(by_itself=by_itself))
    snapshot = a_snapshot([node, a_node("hv2")], [a_vm("web1", node="hv2", home="hv1")])
    assert leader.decide(snapshot, Placer(registry), registry.recovery_policies)
    assert bool(leader.decide(paused(snapshot), Placer(registry), registry.recovery_policies)) is not by_itself


def test_a_flush_goes_on_while_the_cluster_is_paused_unless_its_daemon_is_away(registry: Registry) -> None:
    for alive in (True, False):
        snapshot = a_snapshot([a_node("hv1", mode="flushing", alive=alive), a_node("hv2")], [a_vm()])
        assert bool(leader.decide(paused(snapshot), Placer(registry), registry.recovery_policies)) is alive


def test_a_ready_of_a_node_that_is_put_into_maintenance_waits_for_its_end(registry: Registry) -> None:
    vm = a_vm("web1", node="hv2", home="hv1")
    snapshot = a_snapshot([a_node("hv1", mode="unflushing", maintenance=True), a_node("hv2")], [vm])
    assert leader.decide(snapshot, Placer(registry), registry.recovery_policies) == ()


# ------------------------------------------------------------------------------------------- how its time passes


def actions_at(
    snapshot: ClusterSnapshot, now_s: float, memory: MaintenanceMemory
) -> tuple[tuple[MaintenanceAction, ...], float | None]:
    return maintenance.decide(snapshot, look(memory, snapshot, now_s), now_s)


def written(action: MaintenanceAction, snapshot: ClusterSnapshot) -> tuple[ClusterSnapshot, Change]:
    """The cluster with the action in the store."""
    change = maintenance.change_for(action, snapshot)
    (op,) = change.ops
    data = op.data  # type: ignore[union-attr]
    return paused(snapshot, msgspec.json.decode(data, type=MaintenanceRecord).pause), change


def test_what_is_left_is_written_every_minute_without_an_event() -> None:
    snapshot = paused(lost_hv1())
    memory = look(MaintenanceMemory(), snapshot, 100.0)
    assert actions_at(snapshot, 159.0, memory) == ((), 160.0)
    (count,) = actions_at(snapshot, 160.0, memory)[0]
    assert count == CountDown(CLUSTER, 3540.0)
    after, change = written(count, snapshot)
    assert after.pause == msgspec.structs.replace(HOUR, left_s=3540.0)
    assert change.happenings == ()


def test_the_next_leader_goes_on_from_what_was_written_however_long_nobody_led() -> None:
    snapshot = paused(lost_hv1(), msgspec.structs.replace(HOUR, left_s=30.0))
    memory = look(MaintenanceMemory(), snapshot, 9_000_000.0)
    assert actions_at(snapshot, 9_000_029.9, memory) == ((), 9_000_030.0)
    assert actions_at(snapshot, 9_000_030.0, memory)[0] == (EndMaintenance(CLUSTER),)


@given(st.lists(st.floats(0.1, 500), min_size=1, max_size=40), st.floats(1, 4000))
def test_under_however_many_leaders_it_never_ends_too_early_and_at_most_a_minute_late_for_each(
    terms_s: list[float], for_s: float
) -> None:
    snapshot = paused(lost_hv1(), msgspec.structs.replace(HOUR, left_s=for_s))
    led_s, leaders = 0.0, 0
    for term_s in [*terms_s, 1e5]:
        memory, start_s, leaders = MaintenanceMemory(), led_s, leaders + 1
        for _ in range(200_000):
            if led_s >= start_s + term_s:
                break
            memory = look(memory, snapshot, led_s)
            actions, wake_s = maintenance.decide(snapshot, memory, led_s)
            if EndMaintenance(CLUSTER) in actions:
                assert for_s - 1e-6 <= led_s <= for_s + leaders * (COUNT_EVERY_S + 1e-6)
                return
            for action in actions:
                snapshot, memory = written(action, snapshot)[0], maintenance.told(memory, action, led_s)
            led_s = min(start_s + term_s, wake_s) if wake_s else led_s
    pytest.fail("it never ended")


def test_other_terms_count_from_when_they_are_seen() -> None:
    memory = look(MaintenanceMemory(), paused(lost_hv1()), 0.0)
    longer = paused(lost_hv1(), Pause(began_at="2026-01-31T12:00:50Z", left_s=3600.0))
    assert actions_at(longer, 50.0, memory) == ((), 110.0)
    memory = look(memory, longer, 50.0)
    assert EndMaintenance(CLUSTER) not in actions_at(longer, 3649.0, memory)[0]
    assert actions_at(longer, 3650.0, memory)[0] == (EndMaintenance(CLUSTER),)


def test_it_is_spoken_of_every_so_often() -> None:
    snapshot = replace(paused(lost_hv1()), settings=Settings(maintenance_reminder_s=45))
    memory, said = look(MaintenanceMemory(), snapshot, 0.0), []
    for now_s in range(0, 200, 5):
        memory = look(memory, snapshot, now_s)
        for action in maintenance.decide(snapshot, memory, now_s)[0]:
            snapshot, change = written(action, snapshot)
            memory = maintenance.told(memory, action, now_s)
            said += [(now_s, happening.reason) for happening in change.happenings]
    sentence = (
        "the cluster is in maintenance until 2026-01-31T13:00:00Z (new switch): no node is fenced and no VM recovered"
    )
    assert said == [(at, sentence) for at in (45, 90, 135, 180)]


def test_a_node_without_a_deadline_is_spoken_of_and_stays_in_maintenance() -> None:
    node = a_node("hv1", maintenance=True, pause=Pause(reason="new fan", began_at=NOW))
    snapshot = a_snapshot([node])
    memory = look(MaintenanceMemory(), snapshot, 0.0)
    assert actions_at(snapshot, 899.0, memory) == ((), 900.0)
    (remind,) = actions_at(snapshot, 900.0, memory)[0]
    assert remind == Remind("hv1", None)
    (happening,) = maintenance.change_for(remind, snapshot).happenings
    assert happening.reason == ("hv1 is in maintenance until it is ended (new fan): it is not fenced and takes no VMs")
    assert happening.node == "hv1"


def test_a_nodes_deadline_ends_its_maintenance_and_no_other() -> None:
    ends = a_node("hv1", maintenance=True, pause=msgspec.structs.replace(HOUR, left_s=10.0))
    stays = a_node("hv2", maintenance=True, pause=Pause(began_at=NOW))
    snapshot = paused(a_snapshot([ends, stays]))
    memory = look(MaintenanceMemory(), snapshot, 0.0)
    (end,) = actions_at(snapshot, 10.0, memory)[0]
    assert end == EndMaintenance("hv1")
    (happening,) = maintenance.change_for(end, snapshot).happenings
    record = happening.change.node  # type: ignore[union-attr]
    assert (record.maintenance, record.pause) == (False, None)


# --------------------------------------------------------------------------------------- what follows its end


@pytest.mark.parametrize("is_cluster", [True, False])
def test_the_fence_clock_starts_when_the_maintenance_ends(is_cluster: bool) -> None:
    on = paused(lost_hv1()) if is_cluster else lost_hv1(maintenance=True)
    ended = lost_hv1()
    memory = FenceMemory()
    for now_s in (0.0, 500.0, 998.0):
        memory = fence_memory.look(memory, on, now_s)
    memory = fence_memory.look(memory, ended, 1000.0)
    waits = leader_fence.decide(ended, memory, 1000.0)
    assert (waits.actions, waits.wake_at_s) == ((), 1002.0)
    assert fence_actions(ended, 1002.0, memory) == [BeginFence]


def test_the_end_names_the_nodes_that_are_lost_by_then() -> None:
    nodes = [
        a_node("hv1", alive=False),
        a_node("hv2"),
        a_node("hv3", alive=False),
        a_node("hv4", alive=False, left=True),
    ]
    snapshot = paused(a_snapshot(nodes))
    assert maintenance.change_for(EndMaintenance(CLUSTER), snapshot).reason == (
        "its time is over; hv1, hv3 are lost, and what is to run there is dealt with from now on"
    )


@pytest.mark.parametrize("action", [EndMaintenance(CLUSTER), CountDown(CLUSTER, 1.0), Remind("hv1", None)])
def test_what_was_decided_of_a_maintenance_that_is_over_is_refused(action: MaintenanceAction) -> None:
    with pytest.raises(Refused, match="not in maintenance"):
        maintenance.change_for(action, paused(lost_hv1(), None))


def test_a_record_that_does_not_parse_is_not_written_over() -> None:
    snapshot = replace(lost_hv1(), broken={"/maintenance": BrokenRecord("/maintenance", "it is no JSON")})
    with pytest.raises(BrokenRecord):
        maintenance.begin(CLUSTER, HOUR, snapshot)


@pytest.mark.parametrize("for_s", [0, -1, MAX_FOR_S + 1, float("nan")])
def test_a_deadline_is_within_seven_days(for_s: float) -> None:
    with pytest.raises(InvalidInput, match=r"for_s .*must be more than 0 and at most 604800 seconds, which is 7 days"):
        maintenance.checked_terms(for_s, "", NOW)
