# SPDX-License-Identifier: Apache-2.0
"""What holds of every plan, compared with trying everything on clusters small enough for that."""

from __future__ import annotations

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from plan_checks import fewest_moves, replay, room_of

from pvc_core import PlacementRequest
from pvc_core.model import Settings
from pvc_core.placement import Placer
from pvc_core.plan_columns import room_mib, room_vcpus
from pvc_core.planner import Wish, plan
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

PLACER = Placer(Registry.load())
NAMES = ["hv1", "hv2", "hv3", "hv4"]
untimed = hypothesis_settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    names = NAMES[: draw(st.integers(2, 4))]
    nodes = [
        a_node(
            name,
            memory_mib=draw(st.integers(2, 8)) * 100,
            cores=draw(st.integers(1, 4)),
            mode=draw(st.sampled_from(["ready"] * 5 + ["flushed"])),
        )
        for name in names
    ]
    left = {node.name: node.report.value.memory_total_mib if node.report else 0 for node in nodes}
    vms = []
    for number in range(draw(st.integers(1, 5))):
        node, memory_mib = draw(st.sampled_from(names)), draw(st.integers(1, 5)) * 100
        if left[node] >= memory_mib:
            left[node] -= memory_mib
            limit = draw(st.just([]) | st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
            vcpus = draw(st.integers(1, 3))
            vms.append(a_vm(f"vm{number}", node=node, memory_mib=memory_mib, vcpus=vcpus, node_limit=limit))
    overcommit = draw(st.sampled_from([0.0, 1.0, 1.5]))
    return a_snapshot(nodes, vms, Settings(memory_reserve_mib=0, vcpu_overcommit=overcommit))


@untimed
@given(clusters(), st.data(), st.booleans())
def test_a_plan_fits_at_every_moment_and_none_is_better(
    snapshot: ClusterSnapshot, data: st.DataObject, may_move_others: bool
) -> None:
    wishes = []
    for stored in snapshot.vms.values():
        vm = stored.value
        to = data.draw(st.sampled_from(["stay", "leave", *snapshot.nodes]))
        if to == "leave":
            wishes.append(Wish(PlacementRequest.for_vm(vm, exclude=frozenset({vm.node}))))
        elif to not in ("stay", vm.node):
            wishes.append(Wish(PlacementRequest.for_vm(vm), to=to))
    made = plan(wishes, snapshot, PLACER, may_move_others=may_move_others)
    places = replay(made, snapshot, shuffles=3)
    arrived = {
        wish.request.vm
        for wish in wishes
        if (places[wish.request.vm] == wish.to if wish.to else places[wish.request.vm] != wish.request.current_node)
    }
    assert {stay.vm for stay in made.stay} == {wish.request.vm for wish in wishes} - arrived
    assert made.complete == (not made.stay)
    assert made.proven
    assert (len(arrived), len(made.steps)) == fewest_moves(wishes, snapshot, may_move_others)
    if not may_move_others:
        assert {step.vm for step in made.steps} <= {wish.request.vm for wish in wishes}


@untimed
@given(clusters(), st.integers(0, 300), st.sampled_from([0.5, 1.0, 1.3]), st.integers(1, 900), st.integers(1, 5))
def test_the_columns_know_the_same_room_as_the_filters(
    snapshot: ClusterSnapshot, reserve_mib: int, overcommit: float, memory_mib: int, vcpus: int
) -> None:
    settings = Settings(memory_reserve_mib=reserve_mib, memory_overcommit=overcommit, vcpu_overcommit=overcommit)
    nodes, filters = list(PLACER.capacities(snapshot).values()), PLACER.drivers.filters
    request = a_request("x", memory_mib=memory_mib, vcpus=vcpus)
    too_small = {node.name for node in nodes if room_mib(node, settings) < memory_mib}
    assert set(filters["memory"].filter.reject(request, nodes, settings)) == too_small
    too_few = {node.name for node in nodes if room_vcpus(node, settings) < vcpus}
    assert set(filters["vcpus"].filter.reject(request, nodes, settings)) == too_few
    assert room_of(snapshot).keys() == snapshot.nodes.keys()
