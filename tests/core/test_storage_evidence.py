# SPDX-License-Identifier: Apache-2.0
"""storage_evidence: storage that shuts a lost node out is proof only if it holds for every VM that may run there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pvc_core import leader_fence, storage_evidence
from pvc_core.errors import BrokenRecord, Refused
from pvc_core.fence_memory import (
    AskAgents,
    BeginShutOut,
    ConfirmFence,
    EndFence,
    FenceAction,
    FenceMemory,
    NoteRefusal,
    answered,
    asked,
    look,
)
from pvc_core.fencing import FenceVerdict
from pvc_core.layout import ledger
from pvc_core.model import FenceReport, FenceStep, Reservation, VmRecord
from pvc_core.shut_out_record import ShutOut
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage_reports import BackendReport
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, stored, uuid_of
from pvc_core.vm_volumes import VmVolume

NOW = "2026-01-31T12:00:00Z"
ABLE = BackendReport(usable=True, capabilities=("fence-clients", "shared"))
UNABLE = BackendReport(usable=True, capabilities=("shared",))
HANGS = BackendReport(usable=False, detail="has not answered for 12 s")
STORAGE = {"ceph": ABLE, "other": ABLE, "folder": UNABLE}
FENCING = FenceReport(number=3)
REFUSED = FenceVerdict(False, "hv1 has no fence device")
CONFIRMED = {"ceph": ShutOut(fence=3, state="confirmed")}


def on(*backends: str, name: str = "web1", **more: Any) -> VmRecord:
    volumes = tuple(
        VmVolume(device=f"vd{letter}", backend=backend, pool="vms", name=f"{name}-{letter}")
        for letter, backend in zip("abc", backends, strict=False)
    )
    return a_vm(name, volumes=volumes, **{"only_volumes": True, **more})


def a_cluster(*vms: VmRecord, storage: dict[str, BackendReport] | None = None, **hv1: Any) -> ClusterSnapshot:
    """hv1 is lost and being fenced, hv2 is there with these backends."""
    lost = a_node("hv1", **{"alive": False, "fence": FENCING, **hv1})
    return a_snapshot([lost, a_node("hv2", storage=STORAGE if storage is None else storage)], vms)


def why_no_proof(snapshot: ClusterSnapshot) -> str:
    node = snapshot.node("hv1")
    return storage_evidence.why_no_proof(node, leader_fence.guests_of(node, snapshot), snapshot)


def refused(snapshot: ClusterSnapshot) -> FenceMemory:
    """When the devices of hv1 have been asked in vain."""
    memory = asked(look(FenceMemory(), snapshot, 0.0), AskAgents("hv1", 3, ""))
    return answered(memory, AskAgents("hv1", 3, ""), REFUSED, 1.0)


def decided(
    snapshot: ClusterSnapshot, now_s: float = 1.0, memory: FenceMemory | None = None
) -> tuple[FenceAction, ...]:
    memory = look(memory or refused(snapshot), snapshot, now_s)
    return leader_fence.decide(snapshot, memory, now_s).actions


# -------------------------------------------------------------------------------------------- what is a proof


def test_storage_is_a_proof_when_all_vms_have_all_their_disks_where_nodes_can_be_shut_out() -> None:
    assert why_no_proof(a_cluster(on("ceph"), on("ceph", "other", name="web2"))) == ""


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (a_vm("bare", only_volumes=True), "bare has no volume"),
        (on("ceph", name="more", only_volumes=False), "more may write to more than its volumes, by its definition"),
        (on("ceph", "folder", name="mixed"), "mixed has folder vms/mixed-b, and no living node says that folder can"),
        (on("gone", name="odd"), "odd has gone vms/odd-a, and no living node says that gone can"),
        (a_vm("coming", node="hv2", target="hv1", state="migrating"), "coming has no volume"),
    ],
    ids=lambda value: value.name if isinstance(value, VmRecord) else "",
)
def test_one_vm_that_storage_says_nothing_of_makes_it_no_proof(vm: VmRecord, why: str) -> None:
    snapshot = a_cluster(on("ceph"), vm)
    assert why_no_proof(snapshot) == why
    assert not any(isinstance(action, BeginShutOut) for action in decided(snapshot))
    with pytest.raises(Refused, match=why):
        leader_fence.change_for(BeginShutOut("hv1", 3, ("ceph",), ""), snapshot, NOW)


def test_a_vm_that_is_off_has_no_say() -> None:
    assert why_no_proof(a_cluster(on("ceph"), a_vm("off", state="stopped"), a_vm("failed", state="failed"))) == ""


def test_records_that_do_not_parse_make_it_no_proof() -> None:
    snapshot = a_cluster(on("ceph"))
    node = snapshot.node("hv1")
    unknown = replace(
        node, ledger=stored(ledger("hv1"), replace_vms(snapshot, {"x": Reservation(memory_mib=1, vcpus=1)}))
    )
    assert "the record of the VM x cannot be read" in why_no_proof(
        replace(snapshot, nodes={**snapshot.nodes, "hv1": unknown})
    )
    broken = {ledger("hv1"): BrokenRecord(ledger("hv1"), "no JSON")}
    assert why_no_proof(replace(snapshot, broken=broken)) == "its ledger does not parse"


def replace_vms(snapshot: ClusterSnapshot, more: dict[str, Reservation]) -> Any:
    held = snapshot.node("hv1").reserved
    return msgspec.structs.replace(held, vms={**held.vms, **more})


def test_a_node_that_was_not_let_in_again_since_its_last_loss_is_not_proven_by_storage() -> None:
    snapshot = a_cluster(on("ceph"), shut_out={"ceph": ShutOut(fence=2, state="confirmed")})
    assert why_no_proof(snapshot) == "ceph has not let its clients in again since it was lost the last time"


# ---------------------------------------------------------------------------------------------------- the fence


def test_storage_is_told_when_no_device_has_confirmed_and_not_before() -> None:
    snapshot = a_cluster(on("ceph"), on("other", name="web2"))
    first = decided(snapshot, memory=look(FenceMemory(), snapshot, 0.0))
    assert [type(action) for action in first] == [AskAgents]
    (begin,) = decided(snapshot)
    assert begin == BeginShutOut("hv1", 3, ("ceph", "other"), "hv1 has no fence device")
    change = leader_fence.change_for(begin, snapshot, NOW)
    (happening,) = change.happenings
    assert happening.kind == "node_shutting_out"
    assert happening.change.node.shut_out == {"ceph": ShutOut(fence=3), "other": ShutOut(fence=3)}  # type: ignore[union-attr]


def test_storage_that_has_shut_the_node_out_is_the_evidence_and_the_reason_says_so() -> None:
    snapshot = a_cluster(on("ceph"), shut_out=CONFIRMED)
    (confirm,) = decided(snapshot)
    assert isinstance(confirm, ConfirmFence)
    reason = "storage has shut it out: its VMs have all their disks in ceph, which takes no write of it"
    assert confirm.reason == reason
    (happening,) = leader_fence.change_for(confirm, snapshot, NOW).happenings
    record = happening.change.node  # type: ignore[union-attr]
    assert (happening.kind, record.fence.step, record.fence.evidence) == ("node_fenced", FenceStep.RECOVERING, reason)
    assert record.shut_out == CONFIRMED, "it is not asked once more"


@pytest.mark.parametrize(
    ("vms", "shut_out"),
    [
        ([on("ceph")], {"ceph": ShutOut(fence=3)}),
        ([on("ceph")], {"ceph": ShutOut(fence=2, state="confirmed")}),
        ([on("ceph")], {"ceph": ShutOut(fence=3, state="given-up")}),
        ([on("ceph", "other")], CONFIRMED),
        ([on("ceph"), a_vm("bare")], CONFIRMED),
    ],
    ids=["asked", "of an earlier fence", "given up", "one of two backends", "another VM has no volume"],
)
def test_it_is_no_evidence_when_it_is_only(vms: list[VmRecord], shut_out: dict[str, ShutOut]) -> None:
    snapshot = a_cluster(*vms, shut_out=shut_out)
    assert not any(isinstance(action, ConfirmFence) for action in decided(snapshot))


def test_nothing_is_told_as_not_confirmed_while_storage_may_still_confirm_it() -> None:
    asking = a_cluster(on("ceph"), shut_out={"ceph": ShutOut(fence=3)})
    assert decided(asking) == ()
    failed = a_cluster(on("ceph"), shut_out={"ceph": ShutOut(fence=3, attempts=1, problem="no quorum")})
    (note,) = decided(failed)
    assert isinstance(note, NoteRefusal)


def test_the_refusal_says_why_storage_is_no_proof_where_vms_have_volumes() -> None:
    (note,) = decided(a_cluster(on("ceph"), a_vm("bare")))
    change = leader_fence.change_for(note, a_cluster(on("ceph"), a_vm("bare")), NOW)
    assert change.reason.endswith("; storage that shuts it out is no proof: bare has no volume")
    (note,) = decided(a_cluster(a_vm("bare")))
    assert "storage" not in leader_fence.change_for(note, a_cluster(a_vm("bare")), NOW).reason


def test_devices_are_asked_on_while_storage_is() -> None:
    snapshot = a_cluster(on("ceph"), shut_out={"ceph": ShutOut(fence=3)})
    assert [type(action) for action in decided(snapshot, 6.0)] == [AskAgents]


# ------------------------------------------------------------------------------------ the daemon comes back meanwhile


def test_a_daemon_that_comes_back_waits_for_the_answer_and_loses_its_vms_if_it_was_shut_out() -> None:
    assert decided(a_cluster(on("ceph"), alive=True, shut_out={"ceph": ShutOut(fence=3)})) == ()
    snapshot = a_cluster(on("ceph"), alive=True, shut_out=CONFIRMED)
    (confirm,) = decided(snapshot)
    assert isinstance(confirm, ConfirmFence)
    assert leader_fence.change_for(confirm, snapshot, NOW).happenings[0].kind == "node_fenced"


@pytest.mark.parametrize(
    "shut_out",
    [{"ceph": ShutOut(fence=3, attempts=1)}, {**CONFIRMED, "other": ShutOut(fence=3, attempts=2)}],
    ids=["refused", "one of two refused"],
)
def test_without_a_confirmation_it_goes_on_and_people_are_told_of_lost_disks(shut_out: dict[str, ShutOut]) -> None:
    snapshot = a_cluster(on("ceph"), on("other", name="web2"), alive=True, shut_out=shut_out)
    (end,) = decided(snapshot)
    assert isinstance(end, EndFence)
    assert end.reason.startswith("its daemon is there again; guests on it may have lost their disks in ceph")
    (happening,) = leader_fence.change_for(end, snapshot, NOW).happenings
    assert happening.change.node.shut_out == shut_out, "it is let in before it takes VMs"  # type: ignore[union-attr]


def test_a_living_node_is_confirmed_off_by_nothing_else() -> None:
    with pytest.raises(Refused, match="its daemon is alive"):
        leader_fence.change_for(ConfirmFence("hv1", 3, "its outlet is off"), a_cluster(on("ceph"), alive=True), NOW)


# --------------------------------------------------------------------------------------------- after another proof


def confirmed_off(snapshot: ClusterSnapshot) -> dict[str, ShutOut]:
    change = leader_fence.change_for(ConfirmFence("hv1", 3, "its outlet is off"), snapshot, NOW)
    return change.happenings[0].change.node.shut_out  # type: ignore[union-attr]


def test_a_node_that_is_off_is_to_be_shut_out_of_all_storage_of_its_vms_that_can() -> None:
    vms = [on("ceph", "folder"), a_vm("bare"), on("other", name="off", state="stopped")]
    assert confirmed_off(a_cluster(*vms)) == {"ceph": ShutOut(fence=3)}


def test_storage_that_nobody_could_ask_what_it_can_is_told_as_well() -> None:
    assert confirmed_off(a_cluster(on("ceph"), storage={"ceph": HANGS})) == {"ceph": ShutOut(fence=3)}
    assert confirmed_off(a_cluster(on("ceph"), storage={})) == {}


def test_what_was_refused_before_gets_its_tries_anew() -> None:
    before = {"ceph": ShutOut(fence=3, attempts=7, problem="no quorum"), "old": ShutOut(fence=1, state="confirmed")}
    assert confirmed_off(a_cluster(on("ceph"), shut_out=before)) == {"ceph": ShutOut(fence=3), "old": before["old"]}


def test_a_vm_of_a_living_node_waits_for_nothing() -> None:
    snapshot = a_cluster(on("ceph", node="hv2"), shut_out={"ceph": ShutOut(fence=3)})
    assert storage_evidence.waits_for(snapshot.vms[uuid_of("web1")].value, snapshot) == ""
