# SPDX-License-Identifier: Apache-2.0
"""Which VMs would not come back when a node is lost, and how many more fit: judged by the filters, not by sums."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core.capacity import VmSize, capacity_of, losses, sentences
from pvc_core.errors import NotFound
from pvc_core.model import Settings
from pvc_core.placement import Placer
from pvc_core.plan_assignment import cannot_all_fit
from pvc_core.plan_columns import Columns, room_mib
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_request, a_rule, a_snapshot, a_vm

PLACER = Placer(Registry.load())
NO_RESERVE = Settings(memory_reserve_mib=0)


def test_enough_memory_in_too_small_pieces_strands_a_large_vm() -> None:
    """3,288 MiB are free in total, and no place for one VM of 3,000."""
    nodes = [a_node("hv1", memory_mib=3000), a_node("hv2", memory_mib=4096), a_node("hv3", memory_mib=4096)]
    vms = [
        a_vm("db", node="hv1", memory_mib=3000),
        a_vm("web", node="hv2", memory_mib=2452),
        a_vm("app", node="hv3", memory_mib=2452),
    ]
    snapshot = a_snapshot(nodes, vms, NO_RESERVE)
    free_mib = sum(room_mib(node, snapshot.settings) for node in PLACER.capacities(snapshot).values())
    assert free_mib == 3288
    found = capacity_of(snapshot, PLACER).nodes["hv1"]
    assert not found.survivable
    assert [stranded.vm for stranded in found.stranded] == ["db"]
    assert "hv1: its daemon's session is lost" in found.stranded[0].reason
    assert "needs 3000 MiB, 1644 MiB are free of 4096" in found.stranded[0].reason
    (line,) = [line for line in sentences(capacity_of(snapshot, PLACER)) if "db" in line]
    assert line.startswith("without hv1, db would not come back: no candidate: ")


def test_a_cluster_with_room_survives_any_node() -> None:
    vms = [a_vm(f"vm{n}", node=f"hv{n % 3 + 1}") for n in range(6)]
    found = capacity_of(a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3")], vms), PLACER)
    assert list(found.nodes) == ["hv1", "hv2", "hv3"]
    assert all(loss.survivable and not loss.stranded for loss in found.nodes.values())
    assert found.fit is None


def test_a_limit_to_the_lost_node_strands_the_vm() -> None:
    vms = [a_vm("tied", node="hv1", node_limit=["hv1"]), a_vm("free", node="hv1")]
    found = capacity_of(a_snapshot([a_node("hv1"), a_node("hv2")], vms), PLACER)
    assert [stranded.vm for stranded in found.nodes["hv1"].stranded] == ["tied"]
    assert "hv2: outside the VM's limit (hv1)" in found.nodes["hv1"].stranded[0].reason
    assert found.nodes["hv2"].survivable


def test_the_losses_of_a_few_nodes_are_those_that_a_look_at_all_of_them_finds() -> None:
    vms = [a_vm("tied", node="hv1", node_limit=["hv1"]), a_vm("free", node="hv2")]
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3")], vms)
    found, few = losses(snapshot, PLACER), losses(snapshot, PLACER, nodes={"hv3", "hv1"})
    assert list(few) == ["hv1", "hv3"]
    assert few == {node: found[node] for node in few}
    with pytest.raises(NotFound):
        losses(snapshot, PLACER, nodes=["hv9"])


def places(free_mib: Sequence[int], sizes_mib: Sequence[int]) -> Columns:
    nodes, none = tuple(range(len(free_mib))), (0,) * 99
    return Columns(
        nodes=tuple(f"hv{node}" for node in nodes),
        free_mib=tuple(free_mib),
        free_vcpus=none[: len(nodes)],
        memory_mib=tuple(sizes_mib),
        vcpus=none[: len(sizes_mib)],
        may=(nodes,) * len(sizes_mib),
    )


@pytest.mark.parametrize(
    ("free_mib", "sizes_mib", "impossible"),
    [
        ([3000, 3000], [2000, 2000], False),
        ([3000, 3000], [2000, 2000, 1600], True),
        ([9000], [2000, 2000, 2000, 2000, 2000], True),
        ([1644, 1644], [3000], True),
        ([-500, 2000], [1000, 1000], False),
    ],
)
def test_more_vms_of_a_size_than_places_for_them_are_proof_enough(
    free_mib: list[int], sizes_mib: list[int], impossible: bool
) -> None:
    assert cannot_all_fit(places(free_mib, sizes_mib)) is impossible


def test_a_verdict_that_a_search_gave_up_on_says_so() -> None:
    """Whether 40 VMs of odd sizes fit exactly is more than a bounded search can say."""
    sizes_mib = [1000 + 37 * n % 499 for n in range(40)]
    room_mib = sum(sizes_mib) // 4 + 1
    nodes = [a_node("old", memory_mib=65536), *(a_node(f"hv{n}", memory_mib=room_mib) for n in range(4))]
    vms = [a_vm(f"vm{n:02}", node="old", memory_mib=size) for n, size in enumerate(sizes_mib)]
    loss = capacity_of(a_snapshot(nodes, vms, NO_RESERVE), PLACER).nodes["old"]
    assert (loss.survivable, loss.proven) == (False, False)
    vms.append(a_vm("one too many", node="old", memory_mib=2000))
    loss = capacity_of(a_snapshot(nodes, vms, NO_RESERVE), PLACER).nodes["old"]
    assert (loss.survivable, loss.proven) == (False, True)


def test_what_does_not_run_is_not_missed() -> None:
    vms = [a_vm(state, node="hv1", state=state, memory_mib=3500) for state in ("stopped", "disabled", "failed")]
    found = capacity_of(a_snapshot([a_node("hv1", memory_mib=16000), a_node("hv2", memory_mib=1024)], vms), PLACER)
    assert found.nodes["hv1"].survivable


def test_vms_that_fit_only_in_one_way_come_back() -> None:
    nodes = [a_node("old", memory_mib=6144), a_node("hv2", memory_mib=2048), a_node("hv4", memory_mib=4096)]
    vms = [a_vm(f"vm{size}", node="old", memory_mib=1024 * size) for size in (1, 2, 3)]
    assert capacity_of(a_snapshot(nodes, vms, NO_RESERVE), PLACER).nodes["old"].survivable


def test_the_higher_priority_comes_back_first() -> None:
    nodes = [a_node("hv1", memory_mib=4096), a_node("hv2", memory_mib=1024)]
    vms = [a_vm("idle", node="hv1", memory_mib=1024), a_vm("vital", node="hv1", memory_mib=1024, priority=5)]
    found = capacity_of(a_snapshot(nodes, vms, NO_RESERVE), PLACER).nodes["hv1"]
    assert [stranded.vm for stranded in found.stranded] == ["idle"]


def test_fit_counts_places_and_not_memory() -> None:
    nodes = [a_node("hv1", memory_mib=2500), a_node("hv2", memory_mib=1999), a_node("hv3", mode="flushed")]
    snapshot = a_snapshot(nodes, [a_vm("web", node="hv2", memory_mib=1000)], NO_RESERVE)
    assert capacity_of(snapshot, PLACER, VmSize(1000, 1)).fit == 2


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(100, 5000), min_size=1, max_size=4), st.integers(50, 700))
def test_as_many_vms_fit_as_can_be_placed_one_after_the_other(sizes: list[int], memory_mib: int) -> None:
    snapshot = a_snapshot([a_node(f"hv{n}", memory_mib=size) for n, size in enumerate(sizes)], (), NO_RESERVE)
    planner, placed = PLACER.planner(snapshot), 0
    while planner.place(a_request(f"vm{placed}", memory_mib=memory_mib)).node:
        placed += 1
    assert capacity_of(snapshot, PLACER, VmSize(memory_mib, 1)).fit == placed


def test_a_group_that_no_node_has_room_for_is_stranded() -> None:
    """Each of the three would fit, two here and one there, but they belong together."""
    nodes = [a_node("hv1"), a_node("hv2", memory_mib=512 + 2048), a_node("hv3", memory_mib=512 + 2048)]
    vms = [a_vm(name, node="hv1", memory_mib=1024) for name in "abc"]
    rule = a_rule("trio", "together", *"abc", hard=True)
    assert losses(a_snapshot(nodes, vms), PLACER)["hv1"].survivable
    loss = losses(a_snapshot(nodes, vms, rules=[rule]), PLACER)["hv1"]
    assert len(loss.stranded) == 1
    assert "rule trio keeps it together with" in loss.stranded[0].reason
    larger = [*nodes[:2], a_node("hv3", memory_mib=512 + 3072)]
    assert losses(a_snapshot(larger, vms, rules=[rule]), PLACER)["hv1"].survivable


def test_a_vm_whose_group_is_elsewhere_comes_back_only_there() -> None:
    nodes = [a_node("hv1"), a_node("hv2", memory_mib=512 + 1024), a_node("hv3")]
    vms = [a_vm("a", node="hv1", memory_mib=1024), a_vm("b", node="hv2", memory_mib=1024)]
    rule = a_rule("pair", "together", "a", "b", hard=True)
    assert not losses(a_snapshot(nodes, vms, rules=[rule]), PLACER)["hv1"].survivable


def test_vms_that_are_kept_apart_need_a_node_each() -> None:
    vms = [a_vm("a", node="hv1"), a_vm("b", node="hv2"), a_vm("c", node="hv3")]
    rule = a_rule("apart", "apart", "a", "b", "c", hard=True)
    nodes = [a_node(name) for name in ("hv1", "hv2", "hv3", "hv4")]
    assert losses(a_snapshot(nodes, vms, rules=[rule]), PLACER)["hv1"].survivable
    assert not losses(a_snapshot(nodes[:3], vms, rules=[rule]), PLACER)["hv1"].survivable
