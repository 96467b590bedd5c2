# SPDX-License-Identifier: Apache-2.0
"""What a balance does about violated limits and broken rules, however even the cluster is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from plan_checks import fewest_moves, replay

from pvc_core.balance import BalanceGoal, Recommendation, recommend
from pvc_core.model import Rule, Settings, VmRecord
from pvc_core.placement import Placer
from pvc_core.planner import Wish
from pvc_core.plugin_types import PlacementRequest
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_rule, a_snapshot, a_vm

PLACER = Placer(Registry.load())
ONLY_REPAIRS = BalanceGoal(threshold=100.0)
untimed = hypothesis_settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def a_cluster(*vms: VmRecord, nodes: int = 3, rules: Sequence[Rule] = (), memory_mib: int = 1000) -> ClusterSnapshot:
    equal = [a_node(f"hv{n + 1}", memory_mib=memory_mib) for n in range(nodes)]
    return a_snapshot(equal, vms, Settings(memory_reserve_mib=0), rules=rules)


def moves(found: Recommendation) -> list[tuple[str, str, str]]:
    return [(step.vm, step.source, step.target) for step in found.plan.steps]


def test_a_vm_outside_its_limit_is_moved_into_it() -> None:
    snapshot = a_cluster(a_vm("web1", node="hv1", memory_mib=100, node_limit=["hv3"]))
    found = recommend(snapshot, PLACER, ONLY_REPAIRS)
    assert moves(found) == [("web1", "hv1", "hv3")]
    assert found.repaired == ("web1 is on hv1, outside its limit (hv3)",)
    assert (found.unrepaired, found.plan.complete) == ((), True)
    assert found.plan.steps[0].reason.startswith("hv1 is outside its limit")
    assert (
        found.reason
        == "one migration for limits and rules; balanced enough: the score 0.1650 is no higher than the threshold 100"
    )


def test_another_vm_makes_room_where_a_limit_leaves_only_a_full_node() -> None:
    full = [a_vm("a", node="hv3", memory_mib=400), a_vm("b", node="hv3", memory_mib=600)]
    snapshot = a_cluster(a_vm("web1", node="hv1", memory_mib=500, node_limit=["hv3"]), *full)
    found = recommend(snapshot, PLACER, ONLY_REPAIRS)
    assert [(step.vm, step.after) for step in found.plan.steps] == [("b", ()), ("web1", (0,))]
    assert found.plan.steps[0].reason.startswith("makes way on hv3 for what repairs limits and rules")
    replay(found.plan, snapshot, shuffles=3)


def test_vms_that_are_to_be_apart_part_with_one_move_fewer_than_they_are() -> None:
    vms = [a_vm(f"db{n}", node="hv1", memory_mib=100) for n in range(3)]
    found = recommend(a_cluster(*vms, rules=[a_rule("dbs", "apart", "db0", "db1", "db2", hard=True)]), PLACER)
    assert len(found.plan.steps) == 2
    assert {target for _, _, target in moves(found)} == {"hv2", "hv3"}
    assert found.repaired == ("rule dbs: db0, db1 and db2 are all on hv1, and are to be apart",)


def test_vms_that_are_to_be_together_meet_where_most_of_them_are() -> None:
    vms = [a_vm(f"app{n}", node=node, memory_mib=100) for n, node in enumerate(["hv1", "hv2", "hv2"])]
    rules = [a_rule("app", "together", "app0", "app1", "app2")]
    found = recommend(a_cluster(*vms, rules=rules), PLACER, ONLY_REPAIRS)
    assert moves(found) == [("app0", "hv1", "hv2")]
    assert found.plan.steps[0].reason.startswith("rule app is broken on hv1")


def test_one_move_repairs_several_violations_where_it_can() -> None:
    vms = [
        a_vm("a", node="hv1", memory_mib=100, node_limit=["hv2", "hv3"]),
        a_vm("b", node="hv1", memory_mib=100),
        a_vm("c", node="hv3", memory_mib=100),
    ]
    rules = [a_rule("parted", "apart", "a", "b", hard=True), a_rule("pair", "together", "a", "c")]
    found = recommend(a_cluster(*vms, rules=rules), PLACER, ONLY_REPAIRS)
    assert moves(found) == [("a", "hv1", "hv3")]
    assert len(found.repaired) == 3


def test_a_soft_rule_gives_way_to_a_limit_only_where_it_must() -> None:
    rules = [a_rule("pair", "apart", "a", "b")]
    mate, vm = a_vm("b", node="hv2", memory_mib=100), a_vm("a", node="hv1", memory_mib=100, node_limit=["hv2", "hv3"])
    assert moves(recommend(a_cluster(mate, vm, rules=rules), PLACER, ONLY_REPAIRS)) == [("a", "hv1", "hv3")]
    mate = a_vm("b", node="hv2", memory_mib=100, node_limit=["hv2"])
    vm = a_vm("a", node="hv1", memory_mib=100, node_limit=["hv2"])
    found = recommend(a_cluster(mate, vm, rules=rules), PLACER, ONLY_REPAIRS)
    assert moves(found) == [("a", "hv1", "hv2")]
    assert found.unrepaired == (
        "rule pair: a and b are both on hv2, and are to be apart; it gives way to what is hard",
    )


def test_a_vm_that_would_have_to_be_restarted_stays_and_is_named() -> None:
    snapshot = a_cluster(a_vm("web1", node="hv1", memory_mib=100, node_limit=["hv3"], migration_method="shutdown"))
    found = recommend(snapshot, PLACER, ONLY_REPAIRS)
    assert (moves(found), found.plan.complete) == ([], False)
    assert found.unrepaired == (
        "web1 is on hv1, outside its limit (hv3); it would have to be restarted elsewhere, which a balance never does",
    )
    assert [(stay.vm, stay.node) for stay in found.plan.stay] == [("web1", "hv1")]


def test_what_no_moves_can_help_is_said_with_the_reason() -> None:
    stuck = a_vm("big", node="hv3", memory_mib=900, node_limit=["hv3"])
    found = recommend(
        a_cluster(a_vm("web1", node="hv1", memory_mib=200, node_limit=["hv3"]), stuck), PLACER, ONLY_REPAIRS
    )
    (sentence,) = found.unrepaired
    assert sentence.startswith("web1 is on hv1, outside its limit (hv3); no candidate: hv1: ")
    assert "hv3: needs 200 MiB, 100 MiB are free of 1000" in sentence
    assert sentence.endswith("; no 6 moves or fewer end it")


def test_a_broken_rule_about_vms_that_cannot_move_is_said() -> None:
    vms = [a_vm(name, node="hv1", memory_mib=100, migration_method="shutdown") for name in ("a", "b")]
    found = recommend(a_cluster(*vms, rules=[a_rule("parted", "apart", "a", "b", hard=True)]), PLACER)
    assert found.unrepaired == (
        "rule parted: a and b are both on hv1, and are to be apart; none of these VMs can be migrated now",
    )


def test_vms_that_wait_for_one_anothers_places_in_vain_are_named() -> None:
    vms = [a_vm(f"vm{n}", node=f"hv{n + 1}", memory_mib=800, node_limit=[f"hv{(n + 1) % 3 + 1}"]) for n in range(3)]
    found = recommend(a_cluster(*vms), PLACER, ONLY_REPAIRS)
    assert found.plan.steps == ()
    assert [stay.vm for stay in found.plan.stay] == ["vm0", "vm1", "vm2"]
    assert len(found.unrepaired) == 3


def test_repairs_count_as_moves() -> None:
    vms = [a_vm(f"web{n}", node="hv1", memory_mib=100, node_limit=["hv2"]) for n in range(3)]
    found = recommend(a_cluster(*vms), PLACER, BalanceGoal(threshold=0.0, max_moves=2))
    assert len(found.plan.steps) == 2
    assert found.unrepaired == ("web2 is on hv1, outside its limit (hv2); the plan has as many migrations as it may",)


@st.composite
def crowded(draw: st.DrawFn) -> ClusterSnapshot:
    names = ["hv1", "hv2", "hv3", "hv4"][: draw(st.integers(2, 4))]
    left = {name: draw(st.integers(3, 8)) * 100 for name in names}
    nodes = [a_node(name, memory_mib=memory_mib) for name, memory_mib in left.items()]
    vms = []
    for number in range(draw(st.integers(1, 5))):
        node, memory_mib = draw(st.sampled_from(names)), draw(st.integers(1, 5)) * 100
        if left[node] >= memory_mib:
            left[node] -= memory_mib
            others = [name for name in names if name != node]
            limit = [draw(st.sampled_from(others))] if not vms else []
            vms.append(a_vm(f"vm{number}", node=node, memory_mib=memory_mib, node_limit=limit))
    return a_snapshot(nodes, vms, Settings(memory_reserve_mib=0))


@untimed
@given(crowded())
def test_a_limit_is_repaired_with_the_fewest_moves_wherever_that_is_possible(snapshot: ClusterSnapshot) -> None:
    assume(snapshot.vms)
    vm = next(iter(snapshot.vms.values())).value
    wish = Wish(PlacementRequest.for_vm(vm), to=vm.metadata.node_limit[0])
    possible, fewest = fewest_moves([wish], snapshot, may_move_others=True)
    found = recommend(snapshot, PLACER, ONLY_REPAIRS)
    replay(found.plan, snapshot, shuffles=3)
    assert (len(found.repaired), len(found.plan.steps)) == (possible, fewest)


@pytest.mark.parametrize("method", ["live", "none"])
def test_both_live_methods_are_migrated(method: str) -> None:
    vm = a_vm("web1", node="hv1", memory_mib=100, node_limit=["hv3"], migration_method=method)
    assert len(recommend(a_cluster(vm), PLACER, ONLY_REPAIRS).plan.steps) == 1
