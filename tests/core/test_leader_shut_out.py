# SPDX-License-Identifier: Apache-2.0
"""leader_shut_out: storage shuts lost nodes out, whoever leads, and lets none in while old guests run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from played_cluster import Play

from pvc_core import fence_memory, leader, leader_fence, leader_shut_out
from pvc_core.errors import Refused
from pvc_core.events import EventKind
from pvc_core.fence_memory import FenceMemory
from pvc_core.fence_standing import waits_for_leader
from pvc_core.leader_actions import FinishRecovery, RecoverVm
from pvc_core.leader_ready import take_back
from pvc_core.leader_shut_out import (
    ATTEMPTS,
    Answer,
    AskStorage,
    NoteAnswer,
    ShutOutMemory,
    answered,
    asked,
    look,
    noted,
)
from pvc_core.model import DomainReport, FenceReport, FenceStep, NodeRecord, VmRecord
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.shut_out_record import ShutOut
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage_reports import BackendReport
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm, stored, uuid_of
from pvc_core.vm_volumes import VmVolume

NOW = "2026-01-31T12:00:00Z"
ABLE = BackendReport(usable=True, capabilities=("fence-clients", "shared"))
DONE, AWAY = Answer(True, "no client of hv1 can write"), Answer(False, "no quorum")
FENCING, OFF = FenceReport(number=3), FenceReport(number=3, step=FenceStep.RECOVERING)
OVER = FenceReport(number=3, step=FenceStep.RECOVERED)
ASKING = {"ceph": ShutOut(fence=3)}
SHUT_OUT = {"ceph": ShutOut(fence=3, state="confirmed")}


def on_ceph(name: str = "web1", **more: Any) -> VmRecord:
    volume = VmVolume(device="vda", backend="ceph", pool="vms", name=name)
    return a_vm(name, volumes=(volume,), only_volumes=True, **more)


def a_cluster(*vms: VmRecord, **hv1: Any) -> ClusterSnapshot:
    """hv1 is gone unless said otherwise, hv2 is there and can have nodes shut out of ceph."""
    hv1.setdefault("alive", False)
    return a_snapshot([a_node("hv1", storage={"ceph": ABLE}, **hv1), a_node("hv2", storage={"ceph": ABLE})], vms)


def back(*vms: VmRecord, **hv1: Any) -> ClusterSnapshot:
    """hv1 is there again after its recovery, and still shut out."""
    return a_cluster(
        *vms, **{"alive": True, "fenced": True, "mode": "flushed", "fence": OVER, "shut_out": SHUT_OUT, **hv1}
    )


def actions(
    snapshot: ClusterSnapshot, memory: ShutOutMemory, now_s: float = 0.0
) -> tuple[AskStorage | NoteAnswer, ...]:
    return leader_shut_out.decide(snapshot, look(memory, snapshot), now_s).actions


def told(snapshot: ClusterSnapshot, answer: Answer, memory: ShutOutMemory | None = None) -> ShutOutMemory:
    """Once the only thing to ask has been asked and answered."""
    memory = memory or ShutOutMemory()
    now_s = max(memory.refused_at_s.values(), default=-5.0) + 5.0
    (ask,) = actions(snapshot, memory, now_s)
    assert isinstance(ask, AskStorage)
    memory = asked(memory, ask)
    assert actions(snapshot, memory, now_s + 100) == (), "not asked twice at one time"
    return answered(memory, ask, answer, now_s)


def written(snapshot: ClusterSnapshot, memory: ShutOutMemory) -> tuple[ClusterSnapshot, ShutOutMemory, EventKind]:
    """With the only note in the store."""
    now_s = max(memory.refused_at_s.values(), default=0.0)
    (note,) = actions(snapshot, memory, now_s)
    assert isinstance(note, NoteAnswer)
    change = leader_shut_out.change_for(note, snapshot, NOW)
    (happening,) = change.happenings
    record = happening.change.node  # type: ignore[union-attr]
    return with_hv1(snapshot, record), noted(memory, note), happening.kind  # type: ignore[arg-type]


def with_hv1(snapshot: ClusterSnapshot, record: NodeRecord) -> ClusterSnapshot:
    node = snapshot.nodes["hv1"]
    return replace(snapshot, nodes={**snapshot.nodes, "hv1": replace(node, record=stored(node.record.key, record))})


def entry_of(snapshot: ClusterSnapshot) -> ShutOut:
    return snapshot.node("hv1").record.value.shut_out["ceph"]


# ------------------------------------------------------------------------------------------------ shutting out


@pytest.mark.parametrize("fence", [FENCING, OFF], ids=["to prove it", "known to be off"])
def test_storage_is_asked_until_it_confirms_and_that_is_written(fence: FenceReport) -> None:
    snapshot = a_cluster(on_ceph(), fence=fence, shut_out=ASKING)
    memory = told(snapshot, AWAY)
    snapshot, memory, kind = written(snapshot, memory)
    assert (entry_of(snapshot).attempts, entry_of(snapshot).problem, kind) == (1, "no quorum", "node_not_shut_out")
    memory = told(snapshot, DONE, memory)
    snapshot, memory, kind = written(snapshot, memory)
    assert (entry_of(snapshot).state, entry_of(snapshot).problem, kind) == ("confirmed", "", "node_shut_out")
    assert actions(snapshot, memory, 1000.0) == ()


def test_a_refusal_is_asked_again_after_the_pause_and_another_leader_asks_at_once() -> None:
    snapshot = a_cluster(on_ceph(), fence=FENCING, shut_out=ASKING)
    snapshot, memory, _ = written(snapshot, told(snapshot, AWAY))
    waits = leader_shut_out.decide(snapshot, look(memory, snapshot), 4.0)
    assert (waits.actions, waits.wake_at_s) == ((), 5.0)
    assert actions(snapshot, memory, 5.0) == actions(snapshot, ShutOutMemory()) != ()


def test_each_node_and_backend_is_asked_at_the_same_time() -> None:
    shut_out = {**ASKING, "other": ShutOut(fence=3)}
    lost = [a_node(name, alive=False, fence=FENCING, shut_out=shut_out) for name in ("hv1", "hv2")]
    asks = actions(a_snapshot(lost), ShutOutMemory())
    assert [ask.key for ask in asks if isinstance(ask, AskStorage)] == [
        ("hv1", "ceph"),
        ("hv1", "other"),
        ("hv2", "ceph"),
        ("hv2", "other"),
    ]


def test_what_is_to_prove_it_is_tried_for_ever_and_told_now_and_then() -> None:
    snapshot = a_cluster(on_ceph(), fence=FENCING, shut_out=ASKING)
    snapshot, memory, _ = written(snapshot, told(snapshot, AWAY))
    for _ in range(leader_shut_out.TOLD_EVERY - 1):
        memory = told(snapshot, AWAY, memory)
        assert not [a for a in actions(snapshot, memory, 0.0) if isinstance(a, NoteAnswer)]
    snapshot, _, _ = written(snapshot, told(snapshot, AWAY, memory))
    assert (entry_of(snapshot).state, entry_of(snapshot).attempts) == ("asking", 1 + leader_shut_out.TOLD_EVERY)


def test_of_a_node_that_is_off_storage_is_given_up_after_a_bounded_number_of_tries_each_of_them_told() -> None:
    snapshot, memory = a_cluster(on_ceph(), fence=OFF, shut_out=ASKING), ShutOutMemory()
    for attempt in range(1, ATTEMPTS + 1):
        snapshot, memory, kind = written(snapshot, told(snapshot, AWAY, memory))
        assert (entry_of(snapshot).attempts, kind) == (attempt, "node_not_shut_out")
    assert entry_of(snapshot).state == "given-up"
    assert actions(snapshot, memory, 1000.0) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"fence": FenceReport(number=4)},
        {"fence": OVER},
        {"fence": OFF, "shut_out": SHUT_OUT},
    ],
    ids=["of another fence", "over", "confirmed"],
)
def test_an_answer_that_comes_too_late_is_dropped(fields: dict[str, Any]) -> None:
    asking = a_cluster(on_ceph(), fence=FENCING, shut_out=ASKING)
    memory = told(asking, DONE)
    later = a_cluster(on_ceph(), **{"shut_out": ASKING, **fields})
    assert not [action for action in actions(later, memory, 1000.0) if isinstance(action, NoteAnswer)]
    note = NoteAnswer(AskStorage("hv1", "ceph", "shut-out", 3), DONE, 0)
    with pytest.raises(Refused):
        leader_shut_out.change_for(note, later, NOW)


# -------------------------------------------------------------------------------------- before VMs start elsewhere


def test_a_vm_waits_for_the_storage_that_its_node_is_being_shut_out_of_and_another_does_not(play: Play) -> None:
    off = a_node("hv1", alive=False, fenced=True, mode="flushed", fence=OFF, shut_out=ASKING)
    cluster = play(
        [off, a_node("hv2", storage={"ceph": ABLE}), a_node("hv3", storage={"ceph": ABLE})],
        [
            on_ceph("disk"),
            on_ceph("ends", state="shutting-down"),
            on_ceph("stops", recovery_policy="stop"),
            a_vm("diskless"),
        ],
    )
    cluster.counts_slots = False
    cluster.plays()
    assert [cluster.vm(name).node for name in ("disk", "ends", "stops")] == ["hv1"] * 3
    assert [cluster.vm(name).state for name in ("ends", "stops")] == ["shutting-down", "running"]
    assert cluster.vm("diskless").node != "hv1"
    assert not cluster.done(FinishRecovery)


@pytest.mark.parametrize("state", ["confirmed", "given-up"])
def test_they_start_once_storage_has_shut_the_node_out_or_is_given_up(play: Play, state: Any) -> None:
    shut_out = {"ceph": ShutOut(fence=3, state=state)}
    off = a_node("hv1", alive=False, fenced=True, mode="flushed", fence=OFF, shut_out=shut_out)
    cluster = play([off, a_node("hv2", storage={"ceph": ABLE})], [on_ceph("disk")])
    cluster.plays()
    assert cluster.vm("disk").node == "hv2"
    assert cluster.done(FinishRecovery)


def test_a_recovery_that_was_decided_before_is_refused_while_storage_is_asked() -> None:
    snapshot = a_cluster(on_ceph(), fenced=True, mode="flushed", fence=OFF, shut_out=ASKING)
    action = RecoverVm("hv1", uuid_of("web1"), "hv2", "hv1 is off")
    with pytest.raises(Refused, match="it waits for the storage ceph"):
        leader.change_for(action, snapshot, Placer(Registry.load()), NOW)


# ------------------------------------------------------------------------------------------------ letting in again


def test_a_node_that_is_back_is_let_in_and_then_taken_back() -> None:
    snapshot = back()
    assert actions(snapshot, ShutOutMemory()) == (AskStorage("hv1", "ceph", "admit", 3),)
    after, _, kind = written(snapshot, told(snapshot, Answer(True, "")))
    assert kind == "node_admitted"
    assert after.node("hv1").record.value.shut_out == {}


@pytest.mark.parametrize(
    "hv1",
    [
        {"alive": False},
        {"reported": False},
        {"hypervisor_connected": False},
        {"fence": OFF},
        {"domains": {uuid_of("web1"): DomainReport(state="running")}},
        {"domains": {uuid_of("off"): DomainReport(state="paused")}},
    ],
    ids=["away", "silent", "without hypervisor", "being recovered", "an old guest", "a guest of a VM that is off"],
)
def test_it_is_not_let_in_while_it_is(hv1: dict[str, Any]) -> None:
    snapshot = back(on_ceph(node="hv2"), on_ceph("off", state="stopped"), **hv1)
    assert actions(snapshot, ShutOutMemory()) == ()


def test_guests_of_its_own_and_those_that_are_not_of_pvc_do_not_keep_it_out() -> None:
    snapshot = back(on_ceph(), domains={"5f1c2f8e-0d1b-4c3a-9a55-2d1f0a7be111": DomainReport(state="running")})
    assert actions(snapshot, ShutOutMemory()) != ()


def test_until_then_it_takes_no_vms_and_says_why() -> None:
    snapshot = back()
    after, memory, kind = written(snapshot, told(snapshot, AWAY))
    record = after.node("hv1").record.value
    sentence = "its clients are still shut out of the storage ceph: no quorum"
    assert (kind, "no quorum" in record.reason) == ("node_not_admitted", True)
    assert actions(after, memory, 4.0) == () != actions(after, memory, 5.0)
    with pytest.raises(Refused, match=sentence):
        take_back(after.node("hv1"), after, "ready requested", NOW, leaves_running=False)
    back_since = fence_memory.look(FenceMemory(), after, 0.0)
    assert leader_fence.decide(after, back_since, 1000.0).actions == ()
    in_service = back(mode="ready", fenced=False, shut_out=record.shut_out)
    decision = Placer(Registry.load()).place(a_request(), in_service, only="hv1")
    assert sentence in decision.reason


def test_its_daemon_waits_while_storage_is_to_prove_it_harmless_and_no_longer() -> None:
    record = NodeRecord(name="hv1", fence=FENCING, shut_out=ASKING)
    assert waits_for_leader(record)
    assert leader_fence.returned(record, NOW).fence == FENCING, "there is no way back"
    earlier = NodeRecord(name="hv1", fence=FENCING, shut_out={"ceph": ShutOut(fence=2)})
    assert not waits_for_leader(earlier)
    ended = leader_fence.returned(earlier, NOW).fence
    assert ended is not None
    assert ended.step is FenceStep.RECOVERED
