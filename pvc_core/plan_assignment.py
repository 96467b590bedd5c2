# SPDX-License-Identifier: Apache-2.0
"""plan_assignment: which VM goes to which node so that as many as possible get a place: branch and bound.

For VMs whose old nodes matter to nobody (a drained or lost node): whatever order they go in, places are only
taken. In most clusters the largest VM to the roomiest node and so on places all that can be placed. Only where
that leaves one out is there a search: its first way down is the tightest fit for the largest VM; what follows proves
that there is no better arrangement, or stops when the effort is spent.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pvc_core.plan_bounds import kinds_of, least_left_out, narrowed
from pvc_core.plan_columns import Columns, Room

NOWHERE = -1


@dataclass(frozen=True)
class Assignment:
    """Per VM the index of its node, or `NOWHERE`. proven: no arrangement gives more VMs a place, by their weights."""

    nodes: tuple[int, ...]
    proven: bool

    @property
    def is_complete(self) -> bool:
        return NOWHERE not in self.nodes


def weights_of(priorities: Sequence[int]) -> tuple[int, ...]:
    """A weight per VM, so that one of a higher priority outweighs all of the lower ones together."""
    ranks = {priority: rank for rank, priority in enumerate(sorted(set(priorities)))}
    return tuple((len(priorities) + 1) ** ranks[priority] for priority in priorities)


def assign(columns: Columns, weights: Sequence[int], effort: int) -> Assignment:
    """Give as many VMs as possible a place. effort: how many (VM, node) pairs the search may look at."""
    possible = [vm for vm in _largest_first(columns) if _fits_somewhere(columns, vm)]
    spread = _to_the_roomiest(columns, possible)
    if spread is not None:
        return Assignment(spread, True)
    needed, back = narrowed(columns, possible)
    search = _Search(needed, weights, effort, possible)
    search.run()
    places = tuple(back[node] if node != NOWHERE else NOWHERE for node in search.best)
    return Assignment(places, search.is_proven)


def cannot_all_fit(columns: Columns) -> bool:
    """Whether counting is proof enough that not all get a place: of some size there are more VMs than places."""
    vms = range(len(columns.memory_mib))
    return least_left_out(columns, vms, [1] * len(vms)) > 0


def _largest_first(columns: Columns) -> list[int]:
    def key(vm: int) -> tuple[int, int, int, int]:
        return (-columns.memory_mib[vm], -columns.vcpus[vm], len(columns.may[vm]), vm)

    return sorted(range(len(columns.memory_mib)), key=key)


def _fits_somewhere(columns: Columns, vm: int) -> bool:
    """Whether there would be a place for it, were it the only one to come."""
    free_mib, free_vcpus = columns.free_mib, columns.free_vcpus
    memory_mib, vcpus = columns.memory_mib[vm], columns.vcpus[vm]
    return any(free_mib[node] >= memory_mib and free_vcpus[node] >= vcpus for node in columns.may[vm])


# --------------------------------------------------------------------------------------- to the roomiest node


def _to_the_roomiest(columns: Columns, order: Sequence[int]) -> tuple[int, ...] | None:
    """Each VM to the node that has most memory left of those that take it; None when one finds no place that way."""
    room = columns.room()
    heaps: dict[int, list[tuple[int, int]]] = {}
    placed = [NOWHERE] * len(columns.memory_mib)
    for vm in order:
        may = columns.may[vm]
        heap = heaps.get(id(may))
        if heap is None:
            heap = heaps[id(may)] = [(-room.free_mib[node], node) for node in may]
            heapq.heapify(heap)
        node = _roomiest(vm, heap, room, placed)
        if node == NOWHERE:
            return None
        placed[vm] = node
        room.take(vm, node)
    return tuple(placed)


def _roomiest(vm: int, heap: list[tuple[int, int]], room: Room, placed: Sequence[int]) -> int:
    """The roomiest node of the heap that takes the VM. What the heap knows may be more than what is left by now."""
    memory_mib, veto = room.columns.memory_mib[vm], room.columns.veto
    unfit, found = [], NOWHERE
    while heap and found == NOWHERE and -heap[0][0] >= memory_mib:
        known, node = heap[0]
        if -known != room.free_mib[node]:
            heapq.heapreplace(heap, (-room.free_mib[node], node))
        elif not room.fits(vm, node) or (veto and veto(vm, node, _on(node, placed), ())):
            unfit.append(heapq.heappop(heap))
        else:
            found = node
    for entry in unfit:
        heapq.heappush(heap, entry)
    return found


def _on(node: int, placed: Sequence[int]) -> list[int]:
    return [vm for vm, place in enumerate(placed) if place == node]


# ------------------------------------------------------------------------------------------------ the search


@dataclass
class _Search:
    """One search; `placed` and `room` are the arrangement at hand, `best` the best so far. order: largest first."""

    columns: Columns
    weights: Sequence[int]
    effort: int
    order: Sequence[int]
    room: Room = field(init=False)
    placed: list[int] = field(init=False)
    best: list[int] = field(init=False)
    most_weight: int = field(init=False)
    kind: list[int] = field(init=False)
    best_weight: int = -1
    seen: dict[tuple[int, tuple[tuple[int, int, int], ...]], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.room = self.columns.room()
        self.placed = [NOWHERE] * len(self.weights)
        self.best = list(self.placed)
        full_weight = sum(self.weights[vm] for vm in self.order)
        self.most_weight = full_weight - least_left_out(self.columns, self.order, self.weights)
        self.kind = kinds_of(self.columns, self.order)

    @property
    def is_proven(self) -> bool:
        """Whether no arrangement is better than the best so far."""
        return self.effort > 0 or self.best_weight >= self.most_weight

    def run(self) -> None:
        """Place the VMs in all ways that may be better than the best, as long as there is effort to spend."""
        ways = [self._ways_from(0, 0)]
        while ways and self.effort > 0 and self.best_weight < self.most_weight:
            step = next(ways[-1], None)
            if step is None:
                ways.pop()
            else:
                ways.append(self._ways_from(*step))

    def _ways_from(self, level: int, weight: int) -> Iterator[tuple[int, int]]:
        """The places of the VM at this level, one after the other, and at last none: the next level and the weight."""
        if weight > self.best_weight:
            self.best_weight, self.best = weight, list(self.placed)
        if level == len(self.order):
            return
        if weight + self._still_possible(level) <= self.best_weight or self._was_here(level, weight):
            return
        vm = self.order[level]
        for node in self._places(vm):
            self.placed[vm] = node
            self.room.take(vm, node)
            yield level + 1, weight + self.weights[vm]
            self.room.give_back(vm, node)
            self.placed[vm] = NOWHERE
        yield level + 1, weight

    def _places(self, vm: int) -> Iterator[int]:
        """The nodes that take it now, the tightest first, one of each group that makes no difference."""
        columns, fits, free_mib, free_vcpus = self.columns, self.room.fits, self.room.free_mib, self.room.free_vcpus
        self.effort -= len(columns.may[vm])
        tried: set[tuple[int, int, int]] = set()
        for node in sorted((n for n in columns.may[vm] if fits(vm, n)), key=free_mib.__getitem__):
            same = (self.kind[node], free_mib[node], free_vcpus[node])
            if columns.veto is not None:
                if columns.veto(vm, node, _on(node, self.placed), ()):
                    continue
            elif same in tried:
                continue
            tried.add(same)
            yield node

    def _still_possible(self, level: int) -> int:
        """The weight of the VMs from here on that fit somewhere, each on its own."""
        may, fits = self.columns.may, self.room.fits
        self.effort -= len(self.order) - level
        return sum(self.weights[vm] for vm in self.order[level:] if any(fits(vm, node) for node in may[vm]))

    def _was_here(self, level: int, weight: int) -> bool:
        """Whether the same room was left for the same VMs before, with no less gained."""
        if self.columns.veto is not None:
            return False
        self.effort -= len(self.kind)
        key = (level, tuple(sorted(zip(self.kind, self.room.free_mib, self.room.free_vcpus, strict=True))))
        if self.seen.get(key, -1) >= weight:
            return True
        self.seen[key] = weight
        return False
