# SPDX-License-Identifier: Apache-2.0
"""What is said of the loss of a node is word for word what a planner says that asks about every node for every VM."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core import PlacementRequest
from pvc_core.capacity import EFFORT, Stranded, losses
from pvc_core.model import Settings
from pvc_core.placement import Placer
from pvc_core.plan_assignment import NOWHERE, assign, weights_of
from pvc_core.plan_columns import columns_of
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, a_volume
from pvc_core.vm_states import OFF

PLACER = Placer(Registry.load())
NAMES = [f"hv{number:02}" for number in range(14)]
"""More than a sentence tells of."""
untimed = hypothesis_settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    nodes = [
        a_node(
            name,
            memory_mib=draw(st.integers(2, 9)) * 100,
            cores=draw(st.integers(1, 4)),
            mode=draw(st.sampled_from(["ready"] * 6 + ["flushed", "flushing"])),
            alive=draw(st.sampled_from([True] * 9 + [False])),
            labels={"rack": draw(st.sampled_from("ab"))},
            storage=draw(st.sampled_from([{"ceph": ""}, {"ceph": "", "local": ""}, {"ceph": "no quorum"}])),
        )
        for name in names
    ]
    limits = st.lists(st.sampled_from([*names, "label:rack=a"]), min_size=1, max_size=3, unique=True)
    vms = [
        a_vm(
            f"vm{number:02}",
            node=draw(st.sampled_from(names)),
            memory_mib=draw(st.integers(1, 6)) * 100,
            vcpus=draw(st.integers(1, 3)),
            state=draw(st.sampled_from(["running"] * 5 + ["starting", "stopped"])),
            priority=draw(st.sampled_from([0, 0, 0, 1])),
            node_limit=draw(st.just([]) | limits),
            volumes=draw(st.sampled_from([(), (), (a_volume(),), (a_volume(), a_volume("vdb", "local", names[0]))])),
        )
        for number in range(draw(st.integers(0, 24)))
    ]
    settings = Settings(
        memory_reserve_mib=draw(st.sampled_from([0, 50])),
        memory_overcommit=draw(st.sampled_from([1.0, 1.3])),
        vcpu_overcommit=draw(st.sampled_from([0.0, 0.0, 1.5])),
    )
    return a_snapshot(nodes, vms, settings)


def stranded_one_by_one(node: str, snapshot: ClusterSnapshot) -> tuple[Stranded, ...]:
    """With all filters asked about all nodes, for every VM that the search has left out."""
    running = [vm.value for vm in snapshot.vms_by_node.get(node, ()) if vm.value.state not in OFF]
    requests = [PlacementRequest.for_vm(vm) for vm in running]
    lost = replace(snapshot, nodes={**snapshot.nodes, node: replace(snapshot.nodes[node], member=None)})
    columns = columns_of(requests, lost, PLACER)
    found = assign(columns, weights_of([request.metadata.priority for request in requests]), EFFORT)
    planner = PLACER.planner(snapshot)
    planner.lose(node)
    for request, place in zip(requests, found.nodes, strict=True):
        if place != NOWHERE:
            assert planner.place(request, only=columns.nodes[place]).node == columns.nodes[place]
    left_out = [request for request, place in zip(requests, found.nodes, strict=True) if place == NOWHERE]
    decisions = [planner.place(request) for request in left_out]
    return tuple(Stranded(vm=decision.vm, reason=decision.reason) for decision in decisions if not decision.node)


@untimed
@given(clusters())
def test_who_is_stranded_and_why_is_what_asking_about_every_node_says(snapshot: ClusterSnapshot) -> None:
    found = losses(snapshot, PLACER)
    assert found.keys() == snapshot.nodes.keys()
    for node, loss in found.items():
        assert loss.stranded == stranded_one_by_one(node, snapshot)
        assert loss.survivable == (not loss.stranded)
        assert loss.proven
