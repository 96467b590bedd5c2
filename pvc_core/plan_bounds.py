# SPDX-License-Identifier: Apache-2.0
"""plan_bounds: what can be said of an arrangement without searching: who is left out at least, which nodes matter.

On a large and nearly full cluster most nodes have room for none of the VMs at hand, and of those that are alike no more
are needed than there are VMs. And where of some size there are more VMs than places, counting says how many are left
out: a search that is left with no more has found the best there is.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pvc_core.plan_columns import Columns


def least_left_out(columns: Columns, vms: Sequence[int], weights: Sequence[int]) -> int:
    """The weight of the VMs that at least find no place, by counting; weights: of all VMs of the columns, above 0."""
    least = 0
    for group, nodes in _scopes(columns, vms):
        for sizes, free in ((columns.memory_mib, columns.free_mib), (columns.vcpus, columns.free_vcpus)):
            left_out = _number_left_out([sizes[vm] for vm in group], [free[node] for node in nodes])
            for size, number in left_out:
                # Whoever these are, they weigh at least as much as the lightest ones.
                lightest = sorted(weights[vm] for vm in group if sizes[vm] >= size)[:number]
                least = max(least, sum(lightest))
    return least


def _scopes(columns: Columns, vms: Sequence[int]) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Groups of VMs, with all the nodes that any of the group may go to."""
    groups: dict[int, list[int]] = {}
    for vm in vms:
        groups.setdefault(id(columns.may[vm]), []).append(vm)
    for group in groups.values():
        yield group, columns.may[group[0]]
    if len(groups) > 1:
        yield vms, sorted({node for group in groups.values() for node in columns.may[group[0]]})


def _number_left_out(sizes: Sequence[int], free: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sizes, and how many of the VMs that are at least as large find no place."""
    largest_first = sorted(sizes, reverse=True)
    for size in set(sizes) - {0}:
        wanting = sum(1 for other in sizes if other >= size)
        places = sum(room // size for room in free if room >= size)
        if wanting > places:
            yield size, wanting - places
    excess, number = sum(sizes) - sum(room for room in free if room > 0), 0
    while excess > 0:
        excess -= largest_first[number]
        number += 1
    if number:
        yield 0, number


def narrowed(columns: Columns, vms: Sequence[int]) -> tuple[Columns, tuple[int, ...]]:
    """The columns with no more nodes than an arrangement of these VMs can need; per node what its index was.

    If an arrangement uses a node of which as many nodes have no less room as there are VMs, and take the same VMs, then
    one of those is unused, and would do as well.
    """
    if columns.veto is not None:
        return columns, tuple(range(len(columns.nodes)))
    needed = sorted(_needed(columns, vms))
    position = {node: index for index, node in enumerate(needed)}
    shared = {id(may): tuple(position[node] for node in may if node in position) for may in distinct(columns.may)}
    return replace(
        columns,
        nodes=tuple(columns.nodes[node] for node in needed),
        free_mib=tuple(columns.free_mib[node] for node in needed),
        free_vcpus=tuple(columns.free_vcpus[node] for node in needed),
        may=tuple(shared[id(may)] for may in columns.may),
    ), tuple(needed)


def _needed(columns: Columns, vms: Sequence[int]) -> Iterator[int]:
    free_mib, free_vcpus = columns.free_mib, columns.free_vcpus
    least_mib, least_vcpus = min(columns.memory_mib[vm] for vm in vms), min(columns.vcpus[vm] for vm in vms)
    by_kind: dict[int, list[int]] = {}
    for node, kind in enumerate(kinds_of(columns, vms)):
        if kind != NO_VMS and free_mib[node] >= least_mib and free_vcpus[node] >= least_vcpus:
            by_kind.setdefault(kind, []).append(node)
    for nodes in by_kind.values():
        roomiest_first = sorted(nodes, key=lambda node: (-free_mib[node], -free_vcpus[node], node))
        kept_vcpus: list[int] = []
        for node in roomiest_first:
            at_least_as_roomy = len(kept_vcpus) - bisect_left(kept_vcpus, free_vcpus[node])
            if at_least_as_roomy < len(vms):
                insort(kept_vcpus, free_vcpus[node])
                yield node


NO_VMS = -1


def kinds_of(columns: Columns, vms: Sequence[int]) -> list[int]:
    """A number per node, equal for nodes to which the same of these VMs may go; `NO_VMS` where none may."""
    allowed = [frozenset(may) for may in distinct(columns.may[vm] for vm in vms)]
    nobody = tuple(False for _ in allowed)
    kinds: dict[tuple[bool, ...], int] = {nobody: NO_VMS}
    sides = (tuple(node in may for may in allowed) for node in range(len(columns.nodes)))
    return [kinds.setdefault(side, len(kinds)) for side in sides]


def distinct(may: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Without those that are the very same: to compare long tuples, or hash them, costs more than it saves."""
    return list({id(nodes): nodes for nodes in may}.values())
