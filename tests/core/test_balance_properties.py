# SPDX-License-Identifier: Apache-2.0
"""What holds of every recommendation, on random clusters small enough to be crowded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from plan_checks import replay

from pvc_core.balance import BalanceGoal, recommend
from pvc_core.model import Settings, VmState
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.rules import violations
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_rule, a_snapshot, a_vm

PLACER = Placer(Registry.load())
GOAL = BalanceGoal(threshold=0.05, margin=0.01, max_moves=100)
untimed = hypothesis_settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    names = [f"hv{n}" for n in range(draw(st.integers(2, 6)))]
    nodes = [
        a_node(
            name,
            memory_mib=draw(st.integers(4, 16)) * 100,
            cores=draw(st.sampled_from([2, 4, 8])),
            mode=draw(st.sampled_from(["ready"] * 7 + ["flushed"])),
        )
        for name in names
    ]
    left = {node.name: node.report.value.memory_total_mib if node.report else 0 for node in nodes}
    vms = []
    for number in range(draw(st.integers(1, 14))):
        node, memory_mib = draw(st.sampled_from(names)), draw(st.integers(1, 8)) * 50
        if left[node] < memory_mib:
            continue
        left[node] -= memory_mib
        others = draw(st.just([]) | st.lists(st.sampled_from(names), max_size=2, unique=True))
        vms.append(
            a_vm(
                f"vm{number}",
                node=node,
                memory_mib=memory_mib,
                vcpus=draw(st.integers(1, 4)),
                node_limit=sorted(others if draw(st.integers(0, 9)) == 0 else {node, *others}) if others else [],
                state=draw(st.sampled_from(["running"] * 6 + ["stopped"])),
                migration_method=draw(st.sampled_from(["none"] * 6 + ["live", "shutdown"])),
            )
        )
    members = st.lists(st.sampled_from([vm.name for vm in vms] or ["nobody"]), min_size=2, max_size=4, unique=True)
    rules = [
        a_rule(f"rule{number}", kind, *draw(members), hard=draw(st.booleans()))
        for number, kind in enumerate(draw(st.lists(st.sampled_from(["together", "apart"]), max_size=2)))
        if len(vms) > 1
    ]
    return a_snapshot(nodes, vms, Settings(memory_reserve_mib=0), rules=rules)


def carried_out(places: Mapping[str, str], snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """The cluster with its VMs at these places."""
    empty = [
        a_node(
            view.name,
            memory_mib=view.report.value.memory_total_mib,
            cores=view.report.value.cores,
            mode=view.mode,
        )
        for view in snapshot.nodes.values()
        if view.report
    ]
    vms = [msgspec.structs.replace(vm.value, node=places[vm.value.name]) for vm in snapshot.vms.values()]
    return replace(a_snapshot(empty, vms, snapshot.settings), rules=snapshot.rules)


@untimed
@given(clusters())
def test_a_recommendation_fits_at_every_moment_and_leaves_the_cluster_no_worse(snapshot: ClusterSnapshot) -> None:
    found = recommend(snapshot, PLACER, GOAL)
    after = carried_out(replay(found.plan, snapshot, shuffles=3), snapshot)
    assert abs(recommend(after, PLACER, GOAL).score_before - found.score_after) < 1e-6
    nodes = sum(1 for view in snapshot.nodes.values() if view.mode == "ready")
    gained = found.score_before - found.score_after
    assert gained * nodes > len(found.plan.steps) * GOAL.margin - 1e-6 or not found.plan.steps or found.repaired


@untimed
@given(clusters())
def test_what_was_recommended_and_done_is_followed_by_nothing(snapshot: ClusterSnapshot) -> None:
    found = recommend(snapshot, PLACER, GOAL)
    after = carried_out(replay(found.plan, snapshot), snapshot)
    assert recommend(after, PLACER, GOAL).plan.steps == ()


@untimed
@given(clusters())
def test_only_running_vms_that_migrate_live_are_moved_and_each_once(snapshot: ClusterSnapshot) -> None:
    steps = recommend(snapshot, PLACER, GOAL).plan.steps
    parked = [step.vm for step in steps if "parked" in step.reason]
    assert len({step.vm for step in steps}) == len(steps) - len(parked)
    for step in steps:
        vm = snapshot.vm(step.vm).value
        assert vm.state is VmState.RUNNING
        assert vm.metadata.migration_method != "shutdown"
        assert snapshot.nodes[step.source].mode == snapshot.nodes[step.target].mode == "ready"


@untimed
@given(clusters())
def test_no_rule_and_no_limit_is_broken_that_was_kept(snapshot: ClusterSnapshot) -> None:
    found = recommend(snapshot, PLACER, GOAL)
    after = carried_out(replay(found.plan, snapshot), snapshot)
    broken = {one.rule for one in violations(after)} - {one.rule for one in violations(snapshot)}
    assert not any(snapshot.rules[name].value.hard for name in broken)
    for name in broken:
        assert any(f"rule {name}: " in said and "gives way to what is hard" in said for said in found.unrepaired)
    assert outside_limits(after) <= outside_limits(snapshot)


def outside_limits(snapshot: ClusterSnapshot) -> set[str]:
    vms = [stored.value for stored in snapshot.vms.values()]
    return {vm.name for vm in vms if vm.metadata.node_limit and vm.node not in vm.metadata.node_limit}


@untimed
@given(clusters(), st.integers(1, 3))
def test_no_more_moves_are_recommended_than_allowed(snapshot: ClusterSnapshot, most: int) -> None:
    found = recommend(snapshot, PLACER, BalanceGoal(threshold=0.0, margin=0.001, max_moves=most))
    assert len(found.plan.steps) <= most
    assert found.score_after <= found.score_before + 1e-9 or found.repaired


@untimed
@given(clusters())
def test_the_same_cluster_gets_the_same_recommendation(snapshot: ClusterSnapshot) -> None:
    backwards = replace(
        snapshot, vms=dict(reversed(snapshot.vms.items())), nodes=dict(reversed(snapshot.nodes.items()))
    )
    assert recommend(backwards, PLACER, GOAL) == recommend(snapshot, PLACER, GOAL)
