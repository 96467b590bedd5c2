# SPDX-License-Identifier: Apache-2.0
"""What a recommendation moves, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from plan_checks import replay

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest
from pvc_core.balance import BalanceGoal, Recommendation, recommend
from pvc_core.model import Settings, VmMetadata
from pvc_core.placement import Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm

REGISTRY = Registry.load()
PLACER = Placer(REGISTRY)
NO_RESERVE = Settings(memory_reserve_mib=0)


def moves(found: Recommendation) -> list[tuple[str, str, str]]:
    return [(step.vm, step.source, step.target) for step in found.plan.steps]


def a_cluster(*vms: tuple[str, str, int], nodes: int = 2) -> ClusterSnapshot:
    """Equal nodes of 4096 MiB and 4 cores, and VMs by name, node and memory, with one vCPU per GiB."""
    return a_snapshot(
        [a_node(f"hv{n + 1}") for n in range(nodes)],
        [
            a_vm(name, node=node, memory_mib=memory_mib, vcpus=max(memory_mib // 1024, 1))
            for name, node, memory_mib in vms
        ],
        NO_RESERVE,
    )


def test_equal_vms_are_spread_evenly() -> None:
    found = recommend(a_cluster(*((f"vm{n}", "hv1", 1024) for n in range(4))), PLACER)
    assert [(source, target) for _, source, target in moves(found)] == [("hv1", "hv2")] * 2
    assert found.score_before == pytest.approx(1.0)
    assert found.score_after == pytest.approx(0.0)
    assert found.reason == "2 migrations lower the score from 1.0000 to 0.0000"
    assert found.plan.steps[0].reason == (
        "hv1 has 100% of its memory and 1.00 vCPUs per core, hv2 has 0% of its memory and 0.00 vCPUs per core: "
        "the score goes from 1.0000 to 0.5000"
    )


def test_a_cluster_below_the_threshold_is_left_alone() -> None:
    snapshot = a_cluster(("a", "hv1", 1024), ("b", "hv1", 1024), ("c", "hv2", 1024))
    assert moves(recommend(snapshot, PLACER, BalanceGoal(threshold=0.3))) == []
    assert recommend(snapshot, PLACER, BalanceGoal(threshold=0.3)).reason == (
        "balanced enough: the score 0.2500 is no higher than the threshold 0.3"
    )


def test_a_lone_big_vm_is_not_moved_back_and_forth() -> None:
    found = recommend(a_cluster(("big", "hv1", 3072)), PLACER)
    assert moves(found) == []
    assert found.score_after == found.score_before > 0.1
    assert found.reason == "the score is 0.7500, and no move lowers it by what a move has to"


def test_one_move_of_a_big_vm_is_preferred_to_many_of_small_ones() -> None:
    small = [(f"small{n}", "hv1", 1024) for n in range(2)]
    assert moves(recommend(a_cluster(("big", "hv1", 2048), *small), PLACER)) == [("big", "hv1", "hv2")]


def test_a_move_that_gains_less_than_the_margin_is_not_recommended() -> None:
    snapshot = a_cluster(("a", "hv1", 1024), ("b", "hv1", 64), ("c", "hv2", 1024))
    assert moves(recommend(snapshot, PLACER, BalanceGoal(threshold=0.0, margin=0.5))) == []


def test_the_settings_of_the_cluster_are_the_goal() -> None:
    vms = [a_vm(f"vm{n}", node="hv1", memory_mib=512) for n in range(8)]
    settings = Settings(memory_reserve_mib=0, balance_max_moves=2, balance_threshold=0.01)
    found = recommend(a_snapshot([a_node("hv1"), a_node("hv2")], vms, settings), PLACER)
    assert len(found.plan.steps) == 2
    assert found.reason.endswith(", as many as one plan may have")


@pytest.mark.parametrize(
    "stays",
    [
        {"node_limit": ["hv1"]},
        {"state": "stopped"},
        {"state": "migrating", "target": "hv2"},
        {"migration_method": "shutdown"},
    ],
)
def test_a_vm_that_must_not_or_cannot_migrate_stays(stays: Mapping[str, object]) -> None:
    vms = [a_vm(name, node="hv1", memory_mib=1024, **stays) for name in ("a", "b")]
    vms.append(a_vm("c", node="hv1", memory_mib=512))
    found = recommend(a_snapshot([a_node("hv1"), a_node("hv2")], vms, NO_RESERVE), PLACER, BalanceGoal(threshold=0.0))
    assert {vm for vm, _, _ in moves(found)} <= {"c"}


@pytest.mark.parametrize(
    "broken", [{"mode": "flushed"}, {"alive": False}, {"maintenance": True}, {"report_age_s": 99.0}]
)
def test_nodes_that_are_not_in_service_neither_give_nor_take_nor_count(broken: dict[str, object]) -> None:
    nodes = [a_node("hv1"), a_node("hv2", memory_mib=65536, **broken)]
    vms = [a_vm(f"vm{n}", node="hv1", memory_mib=512) for n in range(4)]
    found = recommend(a_snapshot(nodes, vms, NO_RESERVE), PLACER)
    assert (moves(found), found.score_before) == ([], 0.0)


def test_a_migrating_vm_counts_where_it_will_be() -> None:
    vms = [a_vm("stays", node="hv1"), a_vm("leaves", node="hv1", state="migrating", target="hv2")]
    assert recommend(a_snapshot([a_node("hv1"), a_node("hv2")], vms, NO_RESERVE), PLACER).score_before == 0.0


def test_a_move_waits_for_the_one_that_makes_its_room() -> None:
    vms = [a_vm("full", node="hv2", memory_mib=3072, vcpus=1)]
    vms += [a_vm(f"busy{n}", node="hv1", memory_mib=1024, vcpus=4) for n in range(2)]
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3")], vms, NO_RESERVE)
    found = recommend(snapshot, PLACER, BalanceGoal(threshold=0.0))
    replay(found.plan, snapshot, shuffles=5)
    assert found.score_after < found.score_before


class NothingOnHv2:
    """A filter of somebody's own."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        return {node.name: "is not for this one" for node in nodes if node.name == "hv2" and request.vm != "vm3"}


def test_a_filter_from_a_plugin_is_asked_about_every_move() -> None:
    own = FilterEntry("own", "nodes of somebody's own choice", NothingOnHv2())
    drivers = GivenDrivers(selectors=REGISTRY.selectors, filters={**REGISTRY.filters, "own": own})
    snapshot = a_cluster(*((f"vm{n}", "hv1", 1024) for n in range(4)), nodes=3)
    found = recommend(snapshot, Placer(drivers), BalanceGoal(threshold=0.0))
    assert [vm for vm, _, target in moves(found) if target == "hv2"] == ["vm3"]
    assert "hv3" in {target for _, _, target in moves(found)}


def test_a_cluster_without_nodes_has_nothing_to_balance() -> None:
    assert recommend(a_snapshot(), PLACER).plan.steps == ()


@pytest.mark.parametrize(("overcommit", "moved"), [(2.0, 0), (4.0, 1), (0.0, 1)])
def test_no_node_gets_more_vcpus_than_the_overcommit_allows(overcommit: float, moved: int) -> None:
    full = [a_vm(f"cpu{n}", node="hv2", memory_mib=64, vcpus=4) for n in range(2)]
    vms = [a_vm(f"big{n}", node="hv1", memory_mib=1024, vcpus=1, node_limit=["hv1", "hv2"]) for n in range(3)]
    settings = Settings(memory_reserve_mib=0, vcpu_overcommit=overcommit)
    stays = [msgspec.structs.replace(vm, metadata=VmMetadata(migration_method="shutdown")) for vm in full]
    snapshot = a_snapshot([a_node("hv1", cores=64), a_node("hv2", cores=4)], [*vms, *stays], settings)
    assert len(recommend(snapshot, PLACER).plan.steps) == moved
