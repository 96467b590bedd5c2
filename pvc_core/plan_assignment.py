# SPDX-License-Identifier: Apache-2.0
"""plan_assignment: which VM goes to which node so that as many as possible get a place: branch and bound.

For VMs whose old nodes matter to nobody (a drained or lost node): whatever order they go in, places are only
taken. The first way down is the tightest fit for the largest VM; what follows proves that there is no better
arrangement, or stops when the effort is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pvc_core.plan_columns import Columns

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


def assign(columns: Columns, weights: Sequence[int], effort: int, only: Sequence[int] | None = None) -> Assignment:
    """Give as many VMs as possible a place.

    effort: how many (VM, node) pairs may be looked at. only: the VMs to look at, by index; all by default.
    """
    search = _Search(columns, weights, effort, range(len(weights)) if only is None else only)
    search.go_down(0, 0)
    return Assignment(tuple(search.best), search.effort > 0 or search.best_weight == search.full_weight)


@dataclass
class _Search:
    """One search; `placed` and `free` are the arrangement at hand, `best` the best so far."""

    columns: Columns
    weights: Sequence[int]
    effort: int
    only: Sequence[int]
    order: list[int] = field(init=False)
    free: list[int] = field(init=False)
    placed: list[int] = field(init=False)
    best: list[int] = field(init=False)
    full_weight: int = field(init=False)
    kind: list[int] = field(init=False)
    best_weight: int = -1
    seen: dict[tuple[int, tuple[tuple[int, int], ...]], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = self.columns
        self.order = sorted(self.only, key=lambda vm: (-columns.memory_mib[vm], len(columns.may[vm]), vm))
        self.free = list(columns.free_mib)
        self.placed = [NOWHERE] * len(self.weights)
        self.best = list(self.placed)
        self.full_weight = sum(self.weights[vm] for vm in self.order)
        sides: dict[tuple[bool, ...], int] = {}
        allowed = {may: frozenset(may) for may in columns.may}
        asked = list(dict.fromkeys(columns.may[vm] for vm in self.order))
        # Nodes that the same VMs may go to are interchangeable when they have the same room.
        self.kind = [
            sides.setdefault(tuple(node in allowed[may] for may in asked), len(sides))
            for node in range(len(columns.nodes))
        ]

    def go_down(self, level: int, weight: int) -> None:
        """Place the VMs from this level on in all ways that may be better than the best."""
        if weight > self.best_weight:
            self.best_weight, self.best = weight, list(self.placed)
        if level == len(self.order) or self.best_weight == self.full_weight or self.effort <= 0:
            return
        if weight + self._still_possible(level) <= self.best_weight or self._was_here(level, weight):
            return
        vm = self.order[level]
        memory_mib = self.columns.memory_mib[vm]
        for node in self._places(vm):
            self.placed[vm] = node
            self.free[node] -= memory_mib
            self.go_down(level + 1, weight + self.weights[vm])
            self.free[node] += memory_mib
            self.placed[vm] = NOWHERE
            if self.best_weight == self.full_weight or self.effort <= 0:
                return
        self.go_down(level + 1, weight)

    def _places(self, vm: int) -> Iterator[int]:
        """The nodes that take it now, the tightest first, one of each group that makes no difference."""
        columns, free, memory_mib = self.columns, self.free, self.columns.memory_mib[vm]
        self.effort -= len(columns.may[vm])
        tried: set[tuple[int, int]] = set()
        for node in sorted((n for n in columns.may[vm] if free[n] >= memory_mib), key=free.__getitem__):
            if columns.veto is not None:
                come = [other for other in self.order if self.placed[other] == node]
                if columns.veto(vm, node, come, ()):
                    continue
            elif (self.kind[node], free[node]) in tried:
                continue
            tried.add((self.kind[node], free[node]))
            yield node

    def _still_possible(self, level: int) -> int:
        """The weight of the VMs from here on that fit somewhere, each on its own."""
        free, may, memory_mib = self.free, self.columns.may, self.columns.memory_mib
        return sum(
            self.weights[vm] for vm in self.order[level:] if any(free[node] >= memory_mib[vm] for node in may[vm])
        )

    def _was_here(self, level: int, weight: int) -> bool:
        """Whether the same room was left for the same VMs before, with no less gained."""
        if self.columns.veto is not None:
            return False
        self.effort -= len(self.free)
        key = (level, tuple(sorted(zip(self.kind, self.free, strict=True))))
        if self.seen.get(key, -1) >= weight:
            return True
        self.seen[key] = weight
        return False
