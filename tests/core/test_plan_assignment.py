# SPDX-License-Identifier: Apache-2.0
"""The arrangement that leaves out as few VMs as possible, compared with trying every arrangement there is."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core.plan_assignment import NOWHERE, assign, weights_of
from pvc_core.plan_bounds import least_left_out, narrowed
from pvc_core.plan_columns import Columns

untimed = hypothesis_settings(deadline=None, max_examples=300)


def some_columns(
    free: list[tuple[int, int]], sizes: list[tuple[int, int]], may: list[tuple[int, ...]] | None = None
) -> Columns:
    """Nodes with room, and VMs, in MiB and vCPUs."""
    everywhere = tuple(range(len(free)))
    return Columns(
        nodes=tuple(f"hv{node}" for node in everywhere),
        free_mib=tuple(free_mib for free_mib, _ in free),
        free_vcpus=tuple(free_vcpus for _, free_vcpus in free),
        memory_mib=tuple(memory_mib for memory_mib, _ in sizes),
        vcpus=tuple(vcpus for _, vcpus in sizes),
        may=tuple(may) if may else (everywhere,) * len(sizes),
    )


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    nodes = draw(st.integers(1, 6))
    amounts = st.tuples(st.integers(-1, 7), st.integers(-1, 6))
    everywhere = tuple(range(nodes))
    places = st.just(everywhere) | st.sets(st.sampled_from(everywhere)).map(lambda some: tuple(sorted(some)))
    vms = draw(st.integers(1, 4))
    return some_columns(
        free=draw(st.lists(amounts, min_size=nodes, max_size=nodes)),
        sizes=draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=vms, max_size=vms)),
        may=draw(st.lists(places, min_size=vms, max_size=vms)),
    )


def fits(places: tuple[int, ...], given: Columns) -> bool:
    room = given.room()
    for vm, node in enumerate(places):
        if node != NOWHERE:
            if node not in given.may[vm] or not room.fits(vm, node):
                return False
            room.take(vm, node)
    return True


def gained(places: tuple[int, ...], weights: tuple[int, ...]) -> int:
    return sum(weight for weight, node in zip(weights, places, strict=True) if node != NOWHERE)


def most(given: Columns, weights: tuple[int, ...]) -> int:
    """The largest weight of all arrangements."""
    options = [(NOWHERE, *may) for may in given.may]
    return max(gained(places, weights) for places in product(*options) if fits(places, given))


@untimed
@given(columns(), st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_no_arrangement_gives_more_vms_a_place(given: Columns, priorities: list[int]) -> None:
    weights = weights_of(priorities[: len(given.memory_mib)])
    found = assign(given, weights, effort=100_000)
    assert fits(found.nodes, given)
    assert found.proven
    best = most(given, weights)
    assert gained(found.nodes, weights) == best
    vms = range(len(weights))
    assert best <= sum(weights) - least_left_out(given, vms, weights)
    assert most(narrowed(given, vms)[0], weights) == best


def test_a_thousand_nodes_are_no_more_to_a_search_than_the_few_that_matter() -> None:
    """Four large VMs, three places for them; the other places are many and small."""
    free = [(900, 0)] * 997 + [(1000, 0), (1010, 0), (1020, 0)]
    given = some_columns(free, [(1000, 0)] * 4 + [(100, 0)] * 6)
    found = assign(given, (1,) * 10, effort=1000)
    assert found.proven
    assert sum(node == NOWHERE for node in found.nodes) == 1
    needed, _ = narrowed(given, range(10))
    assert len(needed.nodes) == 10


def test_counting_knows_who_is_left_out_at_least() -> None:
    given = some_columns([(5, 0), (5, 0)], [(3, 0), (3, 0), (3, 0), (1, 0)])
    assert least_left_out(given, range(4), (1, 1, 1, 1)) == 1
    assert least_left_out(given, range(4), (5, 2, 5, 1)) == 2
    assert least_left_out(given, range(2), (1, 1, 1, 1)) == 0


def test_a_node_with_more_vms_than_a_stack_has_frames_is_searched_as_well() -> None:
    given = some_columns([(2000, 0), (1, 0)], [(1, 0)] * 1999 + [(2, 0)])
    assert gained(assign(given, (1,) * 2000, effort=10_000_000).nodes, (1,) * 2000) == 2000
