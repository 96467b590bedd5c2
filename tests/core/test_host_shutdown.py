# SPDX-License-Identifier: Apache-2.0
"""host_shutdown: what becomes of a node's guests when its host goes down by plan, and how the node comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pvc_core import fence_memory, host_shutdown, leader_fence
from pvc_core.errors import Refused
from pvc_core.fence_memory import FenceMemory, TakeBack
from pvc_core.host_shutdown import Drain, Hold, HostAction, Leave, TakeOut, decide, has_left
from pvc_core.leader_flush import begin_flush
from pvc_core.model import DrainReport, NodeMode, NodeRecord, Settings, VmRecord, VmState
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of

NOW = "2026-01-31T12:00:00Z"
SESSION = "session-hv1"


def a_cluster(*vms: VmRecord, **hv1: Any) -> ClusterSnapshot:
    return a_snapshot([a_node("hv1", **hv1), a_node("hv2")], vms)


def decided(policy: Any, snapshot: ClusterSnapshot, now_s: float = 0.0) -> tuple[HostAction, ...]:
    return decide(policy, snapshot.nodes["hv1"], snapshot, now_s, 300.0)


def record_after(action: Drain | TakeOut, snapshot: ClusterSnapshot) -> NodeRecord:
    (happening,) = host_shutdown.change_for(action, "hv1", SESSION, snapshot, NOW).happenings
    record: NodeRecord = happening.change.node  # type: ignore[union-attr]
    return record


# -------------------------------------------------------------------------------------------------- leave


def test_a_host_whose_guests_are_to_be_left_alone_leaves_at_once() -> None:
    assert decided("leave", a_cluster(a_vm())) == (Leave("its guests are left alone"),)


@pytest.mark.parametrize("policy", ["flush", "shutdown"])
def test_nobody_waits_beyond_the_deadline(policy: str) -> None:
    snapshot = a_cluster(a_vm("web1"), a_vm("off", state="stopped"), mode="flushing")
    assert decided(policy, snapshot, 300.0) == (Leave("the time is over; 1 of its guests still run"),)


# -------------------------------------------------------------------------------------------------- flush


@pytest.mark.parametrize("mode", ["ready", "unflushing"])
def test_a_flush_is_asked_for_and_remembers_that_the_node_comes_back(mode: str) -> None:
    snapshot = a_cluster(a_vm(), mode=mode)
    (drain,) = decided("flush", snapshot)
    assert isinstance(drain, Drain)
    after = record_after(drain, snapshot)
    assert (after.mode, after.goes_down) == (NodeMode.FLUSHING, SESSION)


def test_a_flush_is_waited_for_until_the_node_is_drained() -> None:
    assert decided("flush", a_cluster(a_vm(), mode="flushing")) == ()
    assert decided("flush", a_cluster(mode="flushed")) == (Leave("it is drained"),)
    assert decided("flush", a_cluster(a_vm(), mode="flushed")) == (Leave("it is drained; 1 of its guests stayed"),)


def test_a_flush_that_somebody_else_was_faster_with_is_not_asked_for_again() -> None:
    with pytest.raises(Refused, match="it is flushing"):
        host_shutdown.change_for(Drain("x"), "hv1", SESSION, a_cluster(mode="flushing"), NOW)


# ----------------------------------------------------------------------------------------------- shutdown


def test_a_shutdown_first_takes_the_node_out_of_service_so_that_nothing_comes_to_it() -> None:
    snapshot = a_cluster(a_vm(), mode="flushing", drain=DrainReport())
    (out,) = decided("shutdown", snapshot)
    assert isinstance(out, TakeOut)
    after = record_after(out, snapshot)
    assert (after.mode, after.drain, after.goes_down) == (NodeMode.FLUSHED, DrainReport(finished_at=NOW), "")
    assert record_after(out, a_cluster(a_vm())).goes_down == SESSION


def test_the_least_important_guests_are_shut_down_first_and_held() -> None:
    low, also_low, high = a_vm("low", priority=-1), a_vm("low2", priority=-1), a_vm("high", priority=5)
    snapshot = a_cluster(low, also_low, high, a_vm("elsewhere", node="hv2", priority=-9), mode="flushed")
    actions = decided("shutdown", snapshot)
    assert {action.uuid for action in actions if isinstance(action, Hold)} == {uuid_of("low"), uuid_of("low2")}
    change = host_shutdown.change_for(actions[0], "hv1", SESSION, snapshot, NOW)  # type: ignore[arg-type]
    assert change.vm is not None
    assert (change.vm.state, change.vm.held) == ("shutting-down", True)

    going = msgspec.structs.replace(low, state=VmState.SHUTTING_DOWN)
    off = msgspec.structs.replace(also_low, state=VmState.STOPPED, held=True)
    assert decided("shutdown", a_cluster(going, off, high, mode="flushed")) == (), "the important one waits"
    gone = msgspec.structs.replace(low, state=VmState.STOPPED, held=True)
    (last,) = decided("shutdown", a_cluster(gone, off, high, mode="flushed"))
    assert isinstance(last, Hold)
    assert last.uuid == high.uuid


def test_what_migrates_holds_up_nobody_but_the_end() -> None:
    leaving = a_vm("leaving", state="migrating", target="hv2", priority=-9)
    assert len(decided("shutdown", a_cluster(leaving, a_vm("web1"), mode="flushed"))) == 1
    assert decided("shutdown", a_cluster(leaving, mode="flushed")) == ()
    assert decided("shutdown", a_cluster(mode="flushed")) == (Leave("its guests are off"),)


def test_a_guest_that_has_gone_elsewhere_meanwhile_is_not_held() -> None:
    hold = Hold(uuid_of("web1"), "x")
    with pytest.raises(Refused, match="not here any more"):
        host_shutdown.change_for(hold, "hv1", SESSION, a_cluster(a_vm("web1", node="hv2")), NOW)


# -------------------------------------------------------------------------------------------- coming back


def test_a_drain_for_the_hosts_sake_is_over_when_the_daemon_leaves_however_far_it_came() -> None:
    going = NodeRecord(name="hv1", mode=NodeMode.FLUSHING, goes_down=SESSION, drain=DrainReport(total=3))
    left = has_left(going, SESSION, NOW)
    assert (left.mode, left.goes_down) == (NodeMode.FLUSHED, SESSION)
    assert left.drain == DrainReport(total=3, finished_at=NOW)
    for other in (msgspec.structs.replace(going, goes_down=""), msgspec.structs.replace(going, mode=NodeMode.READY)):
        assert has_left(other, SESSION, NOW) == other


@pytest.mark.parametrize("mode", ["flushed", "flushing"])
def test_the_node_is_taken_back_once_its_daemon_has_been_there_for_a_while_in_another_session(mode: str) -> None:
    back = a_cluster(mode=mode, goes_down="before", session="after")
    memory = fence_memory.look(FenceMemory(), back, 0.0)
    assert leader_fence.decide(back, memory, 29.9).actions == ()
    (take,) = leader_fence.decide(back, memory, 30.0).actions
    assert isinstance(take, TakeBack)
    (happening,) = leader_fence.change_for(take, back, NOW).happenings
    record = happening.change.node  # type: ignore[union-attr]
    assert (record.mode, record.goes_down, record.drain.by_itself) == (NodeMode.UNFLUSHING, "", True)


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({"session": "before"}, Settings()),
        ({"alive": False, "left": True}, Settings()),
        ({"mode": "ready"}, Settings()),
        ({"goes_down": ""}, Settings()),
        ({"maintenance": True}, Settings()),
        ({}, Settings(autoready=False)),
    ],
    ids=["still going down", "away", "in service", "flushed by command", "in maintenance", "autoready is off"],
)
def test_the_node_is_not_taken_back_when_it_is(fields: dict[str, Any], settings: Settings) -> None:
    hv1 = {"mode": "flushed", "goes_down": "before", "session": "after", **fields}
    snapshot = replace(a_cluster(**hv1), settings=settings)
    memory = fence_memory.look(FenceMemory(), snapshot, 0.0)
    assert leader_fence.decide(snapshot, memory, 1000.0).actions == ()


def test_an_operators_flush_is_no_planned_absence() -> None:
    snapshot = a_cluster(goes_down="before")
    (happening,) = begin_flush(snapshot.nodes["hv1"], snapshot, "flush requested", NOW).happenings
    assert happening.change.node.goes_down == ""  # type: ignore[union-attr]
