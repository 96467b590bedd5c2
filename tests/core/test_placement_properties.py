# SPDX-License-Identifier: Apache-2.0
"""What holds of every placement on every cluster, whatever hypothesis comes up with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import msgspec
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core.codec import Stored
from pvc_core.model import Ledger, NodeMode, Reservation, Settings
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

BUILT_IN = Registry.load()
untimed = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NODE_NAMES = [f"hv{n}" for n in range(1, 6)]

node_views = st.builds(
    a_node,
    st.just("hv1"),
    memory_mib=st.integers(600, 8192),
    cores=st.integers(1, 8),
    load_1m=st.floats(0, 32),
    mode=st.sampled_from(["ready", "ready", "ready", "flushing", "flushed", "unflushing"]),
    alive=st.booleans() | st.just(True),
    reported=st.booleans() | st.just(True),
)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    names = draw(st.lists(st.sampled_from(NODE_NAMES), min_size=1, unique=True))
    nodes = []
    for name in names:
        view = draw(node_views)
        record = msgspec.structs.replace(view.record.value, name=name)
        nodes.append(replace(view, record=Stored(f"/nodes/{name}", record, 0)))
    vms = [
        a_vm(f"old{n}", node=draw(st.sampled_from(names)), memory_mib=draw(st.integers(1, 1024)))
        for n in range(draw(st.integers(0, 6)))
    ]
    settings = Settings(
        memory_reserve_mib=draw(st.integers(0, 1024)),
        memory_overcommit=draw(st.sampled_from([0.5, 1.0, 1.3])),
        default_selector=draw(st.sampled_from([*BUILT_IN.selectors, "gone"])),
    )
    return a_snapshot(nodes, vms, settings)


batches = st.lists(
    st.tuples(
        st.integers(1, 4096),
        st.integers(1, 4),
        st.lists(st.sampled_from([*NODE_NAMES, "gone"]), max_size=3),
        st.sampled_from([*BUILT_IN.selectors, "", "none", "gone"]),
        st.integers(-1, 1),
    ),
    max_size=12,
)


def requests_from(batch: list[tuple[int, int, list[str], str, int]]) -> list[PlacementRequest]:
    return [
        a_request(f"new{n}", memory_mib=mib, vcpus=vcpus, node_limit=limit, node_selector=selector, priority=priority)
        for n, (mib, vcpus, limit, selector, priority) in enumerate(batch)
    ]


@untimed
@given(clusters(), batches)
def test_no_plan_leaves_a_limit_or_overfills_a_node_or_uses_one_out_of_service(
    snapshot: ClusterSnapshot, batch: list[tuple[int, int, list[str], str, int]]
) -> None:
    """New VMs and every VM that is there already, moved away from where it is, in one plan."""
    moving = [a_request(vm.value, exclude=frozenset({vm.value.node})) for vm in snapshot.vms.values()]
    requests = {request.vm: request for request in [*requests_from(batch), *moving]}
    decisions = Placer(BUILT_IN).place_many(requests.values(), snapshot)
    assert {decision.vm for decision in decisions} == set(requests)
    given_mib = Counter({name: view.reserved.memory_mib for name, view in snapshot.nodes.items()})
    settings = snapshot.settings
    for decision in (decision for decision in decisions if decision.node):
        request, view = requests[decision.vm], snapshot.nodes[decision.node]
        given_mib[decision.node] += request.memory_mib
        assert decision.node not in request.exclude
        assert decision.node in (request.metadata.node_limit or snapshot.nodes)
        assert view.mode is NodeMode.READY
        assert view.is_alive
        assert view.report is not None
        room_mib = (view.report.value.memory_total_mib - settings.memory_reserve_mib) * settings.memory_overcommit
        assert given_mib[decision.node] <= room_mib


@untimed
@given(clusters(), batches)
def test_a_decision_accounts_for_every_node_and_ranks_the_chosen_one_first(
    snapshot: ClusterSnapshot, batch: list[tuple[int, int, list[str], str, int]]
) -> None:
    for decision in Placer(BUILT_IN).place_many(requests_from(batch), snapshot):
        candidates = {ranked.node for ranked in decision.ranking}
        assert candidates.isdisjoint(rejection.node for rejection in decision.rejections)
        assert candidates | {rejection.node for rejection in decision.rejections} == set(snapshot.nodes)
        scores = [ranked.score for ranked in decision.ranking]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 100 for score in scores)
        assert decision.node == (decision.ranking[0].node if decision.ranking else "")
        assert decision.reason


@untimed
@given(clusters(), st.lists(st.tuples(st.sampled_from(NODE_NAMES), st.integers(1, 512)), max_size=8))
def test_remembered_sums_equal_fresh_ones_whatever_changes(
    snapshot: ClusterSnapshot, changes: list[tuple[str, int]]
) -> None:
    placer = Placer(BUILT_IN)
    for name, memory_mib in changes:
        assert placer.capacities(snapshot) == Placer(BUILT_IN).capacities(snapshot)
        if name in snapshot.nodes:
            view = snapshot.nodes[name]
            vms = {**view.reserved.vms, f"uuid-{memory_mib}": Reservation(memory_mib=memory_mib, vcpus=1)}
            ledger = Stored(f"/ledger/{name}", Ledger(vms=vms), 1)
            snapshot = replace(snapshot, nodes={**snapshot.nodes, name: replace(view, ledger=ledger)})
    assert placer.capacities(snapshot) == Placer(BUILT_IN).capacities(snapshot)
