# SPDX-License-Identifier: Apache-2.0
"""How sets of VMs get to other places: every step fits when it is taken, and "impossible" is proven."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import pytest
from plan_checks import fewest_moves, replay

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest
from pvc_core.model import Settings, VmRecord
from pvc_core.placement import Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.plan_assignment import NOWHERE, assign, weights_of
from pvc_core.plan_columns import Columns
from pvc_core.planner import Plan, Wish, arrange, plan
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

PLACER = Placer(Registry.load())
NO_RESERVE = Settings(memory_reserve_mib=0)
NO_OVERCOMMIT = Settings(memory_reserve_mib=0, vcpu_overcommit=1)


def leaving(snapshot: ClusterSnapshot, node: str) -> list[Wish]:
    return [
        Wish(PlacementRequest.for_vm(vm.value, exclude=frozenset({node}))) for vm in snapshot.vms_by_node.get(node, ())
    ]


def heading(vms: Iterable[VmRecord], targets: Sequence[str]) -> list[Wish]:
    return [Wish(PlacementRequest.for_vm(vm), to=to) for vm, to in zip(vms, targets, strict=True)]


def targets(made: Plan) -> dict[str, str]:
    return {step.vm: step.target for step in made.steps}


def three_sizes(**priorities: int) -> ClusterSnapshot:
    """Small, medium and large leave a node; the two others hold exactly the three of them."""
    nodes = [
        a_node("old", memory_mib=8192, mode="flushing"),
        a_node("hv2", memory_mib=2048, cores=2),
        a_node("hv4", memory_mib=4096, cores=4),
    ]
    sizes = {"small": 1, "medium": 2, "large": 3}
    vms = [
        a_vm(name, node="old", memory_mib=1024 * size, vcpus=size, priority=priorities.get(name, 0))
        for name, size in sizes.items()
    ]
    return a_snapshot(nodes, vms, NO_RESERVE)


def test_three_vms_that_fit_only_in_one_way_all_get_a_place() -> None:
    snapshot = three_sizes()
    made = plan(leaving(snapshot, "old"), snapshot, PLACER)
    assert (made.complete, made.proven) == (True, True)
    assert targets(made) == {"small": "hv4", "medium": "hv2", "large": "hv4"}


def test_where_one_by_one_leaves_a_vm_out_an_arrangement_of_all_is_found() -> None:
    snapshot = three_sizes(medium=5)
    wishes = leaving(snapshot, "old")
    one_by_one = PLACER.place_many([wish.request for wish in wishes], snapshot)
    assert [decision.vm for decision in one_by_one if not decision.node] == ["large"]
    made = plan(wishes, snapshot, PLACER)
    assert made.complete
    assert targets(made) == {"small": "hv4", "medium": "hv2", "large": "hv4"}
    assert made.steps[0].reason == "hv2, in an arrangement of all: placed one by one, large would find no place"


@pytest.mark.parametrize("order", list(permutations(["small", "medium", "large"])), ids="-".join)
def test_small_medium_and_large_all_get_a_place_without_overcommit_in_whichever_order_they_come(
    order: tuple[str, ...],
) -> None:
    sizes = {"small": 1, "medium": 2, "large": 3}
    nodes = [a_node("hv2", memory_mib=2048, cores=2), a_node("hv4", memory_mib=4096, cores=4)]
    requests = [
        a_request(name, memory_mib=1024 * sizes[name], vcpus=sizes[name], priority=-rank)
        for rank, name in enumerate(order)
    ]
    found = arrange(requests, a_snapshot(nodes, (), NO_OVERCOMMIT), PLACER)
    assert [decision.vm for decision in found.decisions] == list(order)
    assert {decision.vm: decision.node for decision in found.decisions} == {
        "small": "hv4",
        "medium": "hv2",
        "large": "hv4",
    }


def test_of_the_same_priority_those_that_come_behind_get_what_the_others_leave() -> None:
    nodes = [a_node("hv2", memory_mib=2048), a_node("hv4", memory_mib=4096)]
    requests = [
        a_request("first", memory_mib=2048, priority=2),
        a_request("large", memory_mib=3072, priority=1),
        a_request("small", memory_mib=512),
        a_request("behind", memory_mib=1024),
    ]
    for behind, left_out in (((), "small"), ((requests[3].uuid,), "behind")):
        found = arrange(requests, a_snapshot(nodes, (), NO_RESERVE), PLACER, behind=behind)
        assert [decision.vm for decision in found.decisions if not decision.node] == [left_out]


def test_vcpus_decide_where_memory_is_no_matter() -> None:
    """One by one "b" would take the two cores that "c" needs."""
    nodes = [a_node("hv1", cores=3, memory_mib=65536), a_node("hv2", cores=2, memory_mib=32768)]
    requests = [a_request("a", vcpus=1, priority=3), a_request("b", vcpus=2, priority=2), a_request("c", vcpus=2)]
    found = arrange(requests, a_snapshot(nodes, (), NO_OVERCOMMIT), PLACER)
    assert (found.proven, all(decision.node for decision in found.decisions)) == (True, True)
    requests.append(a_request("d", vcpus=1))
    (left_out,) = [d for d in arrange(requests, a_snapshot(nodes, (), NO_OVERCOMMIT), PLACER).decisions if not d.node]
    assert "needs 1 vCPU, 0 of 2 are free (2 cores, overcommit 1)" in left_out.reason


def test_a_vm_waits_for_the_vcpus_that_another_leaves() -> None:
    nodes = [a_node("hv1", cores=2), a_node("hv2", cores=2), a_node("hv3", cores=2)]
    web, app = a_vm("web", node="hv1", vcpus=2), a_vm("app", node="hv2", vcpus=2)
    snapshot = a_snapshot(nodes, [web, app], NO_OVERCOMMIT)
    made = plan(heading([web, app], ["hv2", "hv3"]), snapshot, PLACER)
    assert [(step.vm, step.target, step.after) for step in made.steps] == [("app", "hv3", ()), ("web", "hv2", (0,))]


def test_a_vm_that_fits_nowhere_is_named_with_the_numbers_and_does_not_keep_the_others() -> None:
    nodes = [a_node("hv1", mode="flushing", memory_mib=8192), a_node("hv2"), a_node("hv3")]
    vms = [a_vm("big", node="hv1", memory_mib=4096), a_vm("web", node="hv1", memory_mib=512)]
    snapshot = a_snapshot(nodes, vms)
    made = plan(leaving(snapshot, "hv1"), snapshot, PLACER)
    assert (made.complete, made.proven) == (False, True)
    assert [step.vm for step in made.steps] == ["web"]
    assert [(stay.vm, stay.node) for stay in made.stay] == [("big", "hv1")]
    assert "hv3: needs 4096 MiB, 3584 MiB are free of 4096" in made.stay[0].reason


def test_where_not_all_fit_the_higher_priority_does() -> None:
    nodes = [a_node("hv1", mode="flushing", memory_mib=8192), a_node("hv2", memory_mib=2048)]
    vms = [
        a_vm("vital", node="hv1", memory_mib=2048, priority=9),
        a_vm("a", node="hv1", memory_mib=1024),
        a_vm("b", node="hv1", memory_mib=1024),
    ]
    snapshot = a_snapshot(nodes, vms, NO_RESERVE)
    made = plan(leaving(snapshot, "hv1"), snapshot, PLACER)
    assert targets(made) == {"vital": "hv2"}
    assert (made.complete, made.proven) == (False, True)


def ring(spare: bool, **limits: list[str]) -> tuple[ClusterSnapshot, list[Wish]]:
    """Three full nodes whose VMs each want the next one's; a fourth that is empty, or none."""
    nodes = [a_node(name, memory_mib=1000) for name in ("hv1", "hv2", "hv3", *(["hv4"] if spare else []))]
    homes = {"a": "hv1", "b": "hv2", "c": "hv3"}
    vms = [a_vm(vm, node=node, memory_mib=1000, node_limit=limits.get(vm, [])) for vm, node in homes.items()]
    return a_snapshot(nodes, vms, NO_RESERVE), heading(vms, ["hv2", "hv3", "hv1"])


def test_a_ring_of_three_turns_by_way_of_one_parking_move() -> None:
    snapshot, wishes = ring(spare=True)
    made = plan(wishes, snapshot, PLACER)
    assert (made.complete, made.proven) == (True, True)
    assert len(made.steps) == 4
    assert "is parked on hv4 and makes room on hv1 for c" in made.steps[0].reason
    assert replay(made, snapshot, shuffles=20)["a"] == "hv2"


def test_a_ring_of_three_without_room_is_proven_impossible() -> None:
    snapshot, wishes = ring(spare=False)
    made = plan(wishes, snapshot, PLACER)
    assert (made.complete, made.proven, made.steps) == (False, True, ())
    assert {stay.vm for stay in made.stay} == {"a", "b", "c"}
    assert all(stay.reason.endswith("no order of moves makes room for it") for stay in made.stay)


def test_nobody_parks_outside_a_limit() -> None:
    inside = ["hv1", "hv2", "hv3"]
    snapshot, wishes = ring(spare=True, a=inside, b=inside, c=inside)
    assert not plan(wishes, snapshot, PLACER).complete
    snapshot, wishes = ring(spare=True, a=inside, c=inside)
    made = plan(wishes, snapshot, PLACER)
    assert made.complete
    assert {step.vm for step in made.steps if step.target == "hv4"} == {"b"}


def test_a_wish_for_a_node_outside_the_limit_is_not_granted() -> None:
    web = a_vm("web", node="hv1", node_limit=["hv1", "hv2"])
    snapshot = a_snapshot([a_node(name) for name in ("hv1", "hv2", "hv3")], [web])
    made = plan(heading([web], ["hv3"]), snapshot, PLACER, may_move_others=True)
    assert (made.complete, made.proven) == (False, True)
    assert "outside the VM's limit (hv1, hv2)" in made.stay[0].reason


def crowded() -> tuple[ClusterSnapshot, list[Wish]]:
    """db is too large for what any other node has left, but not if web went from hv2 to hv3."""
    nodes = [a_node(name, memory_mib=3000) for name in ("hv1", "hv2", "hv3")]
    vms = [
        a_vm("db", node="hv1", memory_mib=2000),
        a_vm("web", node="hv2", memory_mib=1500),
        a_vm("app", node="hv3", memory_mib=1500),
    ]
    snapshot = a_snapshot(nodes, vms, NO_RESERVE)
    return snapshot, leaving(snapshot, "hv1")


def test_other_vms_are_left_alone_unless_they_may_be_moved() -> None:
    snapshot, wishes = crowded()
    made = plan(wishes, snapshot, PLACER)
    assert (made.complete, made.proven, made.steps) == (False, True, ())


def test_another_vm_makes_room_where_that_is_allowed_and_is_waited_for() -> None:
    snapshot, wishes = crowded()
    made = plan(wishes, snapshot, PLACER, may_move_others=True)
    assert (made.complete, made.proven) == (True, True)
    aside, last = made.steps
    assert aside.vm in ("web", "app")
    assert (last.vm, last.target, last.after) == ("db", aside.source, (0,))
    assert "makes room" in aside.reason
    replay(made, snapshot, shuffles=5)


def test_what_has_its_place_already_needs_no_step() -> None:
    web = a_vm("web", node="hv1")
    made = plan(heading([web], ["hv1"]), a_snapshot([a_node("hv1"), a_node("hv2")], [web]), PLACER)
    assert made == Plan()


class AtMostOneVm:
    """A plugin's filter that looks at more than memory."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> dict[str, str]:
        return {node.name: "has a VM" for node in nodes if node.assigned_vms >= 1}


def test_a_filter_of_a_plugin_is_asked_at_every_step_of_a_search() -> None:
    filters = {**PLACER.drivers.filters, "one": FilterEntry("one", "one VM per node", AtMostOneVm())}
    placer = Placer(GivenDrivers(PLACER.drivers.selectors, filters))
    snapshot = three_sizes(medium=5)
    made = plan(leaving(snapshot, "old"), snapshot, placer)
    assert (made.complete, made.proven) == (False, True)
    assert len(set(targets(made).values())) == len(made.steps) == 2
    ring_of, wishes = ring(spare=True)
    assert len(plan(wishes, ring_of, placer).steps) == 4
    crowd, wishes = crowded()
    assert not plan(wishes, crowd, placer, may_move_others=True).complete


def test_a_search_that_ends_early_proves_nothing() -> None:
    snapshot, wishes = ring(spare=True)
    made = plan(wishes, snapshot, PLACER, effort=1)
    assert (made.complete, made.proven, made.steps) == (False, False, ())
    assert all("no order of moves was found" in stay.reason for stay in made.stay)


def test_equal_nodes_are_tried_once() -> None:
    """Fifteen VMs on seven nodes that take two each: hopeless, and known at once."""
    columns = Columns(
        tuple(f"hv{n}" for n in range(7)), (2000,) * 7, (0,) * 7, (900,) * 15, (0,) * 15, (tuple(range(7)),) * 15
    )
    found = assign(columns, weights_of([0] * 15), effort=20_000)
    assert found.proven
    assert sum(node != NOWHERE for node in found.nodes) == 14


def test_the_reference_of_the_properties_knows_the_ring() -> None:
    snapshot, wishes = ring(spare=True)
    assert fewest_moves(wishes, snapshot, may_move_others=False) == (3, 4)
