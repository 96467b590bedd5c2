# SPDX-License-Identifier: Apache-2.0
"""Placement: filter, score, choose; the rules that hold whatever VM is placed and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from pvc_core.errors import BrokenRecord, NoCandidate, NotFound
from pvc_core.model import NodeMode, VmState
from pvc_core.placement import Decision, Placer, Rejection
from pvc_core.plugin_types import PlacementRequest
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

BUILT_IN = Registry.load()


def place(request: PlacementRequest, snapshot: ClusterSnapshot, only: str = "") -> Decision:
    return Placer(BUILT_IN).place(request, snapshot, only)


THREE_NODES = a_snapshot([a_node("hv1", memory_mib=2048), a_node("hv2", memory_mib=8192), a_node("hv3")])


# ------------------------------------------------------------------------------------- limits and filters


def test_the_best_candidate_of_the_default_selector_wins() -> None:
    decision = place(a_request(), THREE_NODES)
    assert decision.node == "hv2"
    assert decision.selector == "mem"
    assert decision.reason == "selector mem: hv2 of 3 candidates has the most free memory"


def test_a_vm_goes_nowhere_outside_its_limit_however_good_it_is_there() -> None:
    decision = place(a_request(node_limit=("hv1",)), THREE_NODES)
    assert decision.node == "hv1"
    assert [rejection.node for rejection in decision.rejections] == ["hv2", "hv3"]


def test_an_empty_limit_means_any_node() -> None:
    assert len(place(a_request(node_limit=()), THREE_NODES).ranking) == 3


def test_a_limit_that_leaves_no_node_leaves_no_candidate_and_says_why() -> None:
    snapshot = a_snapshot([a_node("hv1", mode=NodeMode.FLUSHING), a_node("hv2"), a_node("hv3")])
    decision = place(a_request(node_limit=("hv1",)), snapshot)
    assert decision.node == ""
    assert decision.ranking == ()
    assert decision.reason == "no candidate: hv1: is being flushed; hv2, hv3: outside the VM's limit (hv1)"


def test_the_size_is_compared_with_what_the_nodes_have_left() -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2")], [a_vm("a", node="hv1", memory_mib=2000)])
    assert place(a_request(memory_mib=2000), snapshot).node == "hv2"


def test_a_vm_larger_than_any_node_has_a_reason_per_node() -> None:
    with pytest.raises(NoCandidate) as error:
        place(a_request("huge", memory_mib=100_000), THREE_NODES).raise_if_none()
    assert error.value.vm == "huge"
    assert error.value.rejections[0] == "hv1: needs 100000 MiB, 1536 MiB are free of 2048 (512 in reserve)"
    assert len(error.value.rejections) == 3


def test_a_cluster_without_nodes_has_no_candidate() -> None:
    assert place(a_request(), a_snapshot()).reason == "no candidate: the cluster has no node"


def test_every_filter_that_rejects_a_node_is_named() -> None:
    snapshot = a_snapshot([a_node("hv1", mode=NodeMode.FLUSHED)])
    rejections = place(a_request(memory_mib=9999, node_limit=("hv2",)), snapshot).rejections
    assert {rejection.plugin for rejection in rejections} == {"limit", "memory", "ready"}


def test_a_node_whose_ledger_does_not_parse_takes_nothing() -> None:
    snapshot = a_snapshot([a_node("hv1")])
    snapshot = replace(
        snapshot,
        nodes={"hv1": replace(snapshot.nodes["hv1"], ledger=None)},
        broken={"/ledger/hv1": BrokenRecord("/ledger/hv1", "truncated")},
    )
    assert place(a_request(), snapshot).reason == "no candidate: hv1: its ledger does not parse"


def test_a_thousand_rejected_nodes_do_not_make_a_thousand_clauses() -> None:
    nodes = [a_node(f"hv{n:04}", memory_mib=600 + n) for n in range(1000)]
    reason = place(a_request(memory_mib=9999), a_snapshot(nodes)).reason
    assert reason.endswith("; 992 more nodes rejected")
    assert len(reason) < 800


# ------------------------------------------------------------------------------------------ explicit target


def test_an_explicit_target_is_taken_although_another_node_is_better() -> None:
    decision = place(a_request(), THREE_NODES, only="hv1")
    assert decision.node == "hv1"
    assert decision.reason == "hv1 was named and passes every filter"


def test_an_explicit_target_outside_the_limit_is_refused() -> None:
    decision = place(a_request(node_limit=("hv2", "hv3")), THREE_NODES, only="hv1")
    assert decision.node == ""
    assert decision.rejections == (Rejection("hv1", "outside the VM's limit (hv2, hv3)", "limit"),)


def test_an_explicit_target_that_is_too_small_is_refused() -> None:
    assert "are free of 2048" in place(a_request(memory_mib=2000), THREE_NODES, only="hv1").reason


def test_an_explicit_target_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound) as error:
        place(a_request(), THREE_NODES, only="hv9")
    assert error.value.known == ("hv1", "hv2", "hv3")


# ---------------------------------------------------------------------------------------------- the ranking


def test_scores_run_from_0_to_100_and_the_raw_figure_is_kept() -> None:
    ranking = place(a_request(), THREE_NODES).ranking
    assert [(r.node, r.raw) for r in ranking] == [("hv2", 8192.0), ("hv3", 4096.0), ("hv1", 2048.0)]
    assert [round(r.score, 1) for r in ranking] == [100.0, 33.3, 0.0]


def test_equal_candidates_score_100_and_the_first_by_name_wins() -> None:
    decision = place(a_request(), a_snapshot([a_node("hv3"), a_node("hv2")]))
    assert [(r.node, r.score) for r in decision.ranking] == [("hv2", 100.0), ("hv3", 100.0)]
    assert decision.reason.endswith("has the most free memory, as hv3; first by name")


def test_among_equal_candidates_a_vm_stays_where_it_is() -> None:
    vm = a_vm("web1", node="hv3", state="stopped")
    decision = place(a_request(vm), a_snapshot([a_node("hv2"), a_node("hv3")], [vm]))
    assert decision.node == "hv3"
    assert decision.reason.endswith("as hv2; the VM is there already")


def test_a_decision_can_be_written_as_json_and_read_back() -> None:
    decision = place(a_request(node_limit=("hv1", "hv2")), THREE_NODES)
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision


# --------------------------------------------------------------------------- the VM does not compete with itself


def test_the_vms_own_reservation_does_not_count_twice() -> None:
    vm = a_vm("large", node="hv1", memory_mib=3000, state="stopped")
    assert place(a_request(vm), a_snapshot([a_node("hv1")], [vm]), only="hv1").node == "hv1"


def test_a_vm_that_grew_fits_if_it_fits_in_place_of_itself() -> None:
    vm = a_vm("web1", node="hv1", memory_mib=3000)
    snapshot = a_snapshot([a_node("hv1")], [vm])
    assert place(a_request(vm, memory_mib=3584), snapshot).node == "hv1"
    assert place(a_request(vm, memory_mib=3585), snapshot).node == ""


def test_a_reservation_at_the_target_of_a_migration_is_the_vms_own_too() -> None:
    vm = a_vm("web1", node="hv1", memory_mib=3000, state=VmState.MIGRATING, target="hv2")
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2")], [vm])
    assert place(a_request(vm), snapshot, only="hv2").node == "hv2"


def test_a_running_vm_is_not_drawn_away_by_the_memory_that_it_uses_itself() -> None:
    vm = a_vm("web1", node="hv1", memory_mib=2000)
    assert place(a_request(vm), a_snapshot([a_node("hv1"), a_node("hv2")], [vm])).node == "hv1"


# ------------------------------------------------------------------------------------------------- batches


def requests_of_12_guests(selector: str) -> tuple[list[PlacementRequest], ClusterSnapshot]:
    guests = [a_vm(f"web{n:02}", node="hv1", memory_mib=256, node_selector=selector) for n in range(12)]
    snapshot = a_snapshot([a_node("hv1", mode=NodeMode.FLUSHING), a_node("hv2"), a_node("hv3")], guests)
    return [a_request(guest, exclude=frozenset({"hv1"})) for guest in guests], snapshot


def test_guests_that_name_different_selectors_spread_as_well() -> None:
    requests, snapshot = requests_of_12_guests("mem")
    selectors = ("mem", "memprov", "load", "vcpus", "vms", "")
    mixed = [
        replace(request, metadata=msgspec.structs.replace(request.metadata, node_selector=selectors[n % 6]))
        for n, request in enumerate(requests)
    ]
    assert Counter(d.node for d in Placer(BUILT_IN).place_many(mixed, snapshot)) == {"hv2": 6, "hv3": 6}


def test_a_batch_sees_the_decisions_before_it_and_does_not_overfill_the_last_gap() -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2")])
    decisions = Placer(BUILT_IN).place_many([a_request(f"vm{n}", memory_mib=2000) for n in range(3)], snapshot)
    assert [decision.node for decision in decisions] == ["hv1", "hv2", ""]
    assert "1584 MiB are free" in decisions[2].reason


def test_a_plan_made_bit_by_bit_sees_its_own_steps() -> None:
    planner = Placer(BUILT_IN).planner(a_snapshot([a_node("hv1"), a_node("hv2")]))
    assert planner.place(a_request("a", memory_mib=2000), only="hv1").node == "hv1"
    assert planner.place(a_request("b", memory_mib=2000)).node == "hv2"
    assert planner.place(a_request("c", memory_mib=2000), only="hv1").node == ""


def test_a_plan_does_not_change_the_next_plan() -> None:
    requests, snapshot = requests_of_12_guests("mem")
    placer = Placer(BUILT_IN)
    assert placer.place_many(requests, snapshot) == placer.place_many(requests, snapshot)


def test_priority_goes_first_then_size_then_name() -> None:
    requests = [
        a_request("b", memory_mib=256),
        a_request("large", memory_mib=1024),
        a_request("a", memory_mib=256),
        a_request("urgent", memory_mib=128, priority=10),
    ]
    decisions = Placer(BUILT_IN).place_many(requests, THREE_NODES)
    assert [decision.vm for decision in decisions] == ["urgent", "large", "a", "b"]


def test_the_source_counts_until_the_vm_has_arrived() -> None:
    moving = a_vm("moving", node="hv1", memory_mib=2000)
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2")], [moving])
    planner = Placer(BUILT_IN).planner(snapshot)
    assert planner.place(a_request(moving, exclude=frozenset({"hv1"}))).node == "hv2"
    assert planner.place(a_request("next", memory_mib=2000)).node == ""


def test_a_vm_on_its_way_counts_on_its_target() -> None:
    moving = a_vm("moving", node="hv1", memory_mib=2000, state=VmState.MIGRATING, target="hv2")
    snapshot = a_snapshot([a_node("hv1", mode=NodeMode.FLUSHING), a_node("hv2")], [moving])
    assert "1584 MiB are free" in place(a_request("next", memory_mib=2000), snapshot).reason
