# SPDX-License-Identifier: Apache-2.0
"""balance_spread: which VMs go where so that the cluster is spread more evenly, in as few moves as will do.

A descent on one number, the score plus a price per move. VMs are moved, moved elsewhere or left where they were after
all, always the best such change, until none pays; then moves are exchanged for better ones, one by one. A step looks
at sizes and nodes rather than at VMs times nodes: what a VM takes away from its node and what one of its size adds
to another are two terms, and the best of each are found apart. The terms are those of the tangent to the score, above
which the score itself never lies; the few best pairs are then computed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nsmallest

from pvc_core.balance_columns import Movables, Standing
from pvc_core.balance_score import NodeLoads
from pvc_core.plan_columns import Veto

NEVER = math.inf
EPSILON = 1e-9
"""What is less than this is an error of rounding."""
PAIRS_LOOKED_AT = 200
"""The fewer nodes there are, the more VMs and targets are looked at exactly."""
EFFORT_OF_A_SIZE = 12
ROUNDS = 4
OVERSHOT = 0.9
"""Some moves more than needed are tried, because the least useful to take back is often an early one."""
SIZES_APART = 64
"""Up to so many sizes of VMs are told apart exactly; of more, similar ones share their best targets."""


@dataclass(frozen=True)
class Terms:
    """When it is enough: at a score of `threshold`, when a move brings no more than `price`, or after `most_moves`.

    price: by how much a move lowers the score at least. effort: how many steps may be looked at beyond the descent.
    """

    threshold: float
    price: float
    most_moves: int
    effort: int


def spread(loads: NodeLoads, movables: Movables, terms: Terms, veto: Veto | None = None) -> dict[int, int]:
    """The VMs to move, by index, each with the node it goes to."""
    if len(loads.nodes) < 2 or not movables.at:
        return {}
    search = _Search(loads, movables, terms, veto)
    search.run()
    return {vm: node for vm, node in enumerate(search.where) if node != movables.at[vm]}


@dataclass
class _Size:
    """VMs of one size that may go to the same nodes. source: what leaving brings, target: what arriving costs."""

    vms: list[int]
    may: frozenset[int]
    rivals: frozenset[int]
    memory_mib: int
    vcpus: int
    most_mib: int
    most_vcpus: int
    memory_share: list[float] = field(default_factory=list)
    cpu_share: list[float] = field(default_factory=list)
    source: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)


@dataclass
class _Search(Standing):
    terms: Terms
    veto: Veto | None
    sizes: list[_Size] = field(init=False)
    place: list[tuple[_Size, int]] = field(init=False)
    """Per VM its size and its index there."""
    moved: int = 0
    forbidden: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes = list(_sizes(self.loads, self.movables))
        self.place = [(self.sizes[0], 0)] * len(self.where)
        for size in self.sizes:
            for index, vm in enumerate(size.vms):
                self.place[vm] = (size, index)
        self.born = [tuple(vms) for vms in self.here]
        self.width = max(2, PAIRS_LOOKED_AT // len(self.loads.nodes) // 10)
        self.sizes_looked_at = max(6, PAIRS_LOOKED_AT // len(self.loads.nodes))
        self.refresh_after = max(8, len(self.loads.nodes) // 8)
        self.refresh()

    # ------------------------------------------------------------------------------------------ the terms

    def refresh(self) -> None:
        """All terms by what the cluster looks like now."""
        now, count = self.now, self.now.size
        now.add_up()
        self.mean_memory, self.mean_cpu = now.sum_memory / count, now.sum_cpu / count
        self.weight_memory = 0.5 / count / max(_deviation(count, now.sum_memory, now.squares_memory), EPSILON)
        self.weight_cpu = 0.5 / count / max(_deviation(count, now.sum_cpu, now.squares_cpu), EPSILON)
        self.steps_since = 0
        for size in self.sizes:
            size.target = [self.term_of_target(size, node) for node in range(count)]
            size.source = [self.term_of_source(vm) for vm in size.vms]

    def term_of_target(self, size: _Size, node: int) -> float:
        if node not in size.may or self.room_mib[node] < size.most_mib or self.room_vcpus[node] < size.most_vcpus:
            return NEVER
        if size.rivals and any(node in (self.where[vm], self.movables.at[vm]) for vm in size.rivals):
            return NEVER
        more, further = size.memory_share[node], size.cpu_share[node]
        return self.weight_memory * more * (2 * (self.now.memory[node] - self.mean_memory) + more) + (
            self.weight_cpu * further * (2 * (self.now.cpu[node] - self.mean_cpu) + further)
        )

    def term_of_source(self, vm: int) -> float:
        node = self.where[vm]
        less = self.movables.memory_mib[vm] / self.loads.total_mib[node]
        fewer = self.movables.vcpus[vm] / self.loads.cores[node]
        price = self.terms.price if node == self.movables.at[vm] else 0.0
        return (
            price
            - self.weight_memory * less * (2 * (self.now.memory[node] - self.mean_memory) - less)
            - self.weight_cpu * fewer * (2 * (self.now.cpu[node] - self.mean_cpu) - fewer)
        )

    # ------------------------------------------------------------------------------------------- moving

    def price_of(self, vm: int, node: int) -> float:
        """What the number of moves costs more by this one; less than 0 for a way back."""
        home = self.movables.at[vm]
        return self.terms.price * ((node != home) - (self.where[vm] != home))

    def move(self, vm: int, node: int) -> None:
        """The VM goes to the node; the terms follow."""
        source, home = self.where[vm], self.movables.at[vm]
        self.put(vm, node)
        self.moved += (node != home) - (source != home)
        self.steps_since += 1
        if self.steps_since >= self.refresh_after:
            self.refresh()
            return
        for size in self.sizes:
            size.target[source] = self.term_of_target(size, source)
            size.target[node] = self.term_of_target(size, node)
        for other in (*self.here[source], *self.here[node]):
            size, index = self.place[other]
            size.source[index] = self.term_of_source(other)

    def fits(self, vm: int, node: int) -> bool:
        return (
            self.room_mib[node] >= self.movables.memory_mib[vm]
            and self.room_vcpus[node] >= self.movables.vcpus[vm]
            and (vm, node) not in self.forbidden
        )

    def is_vetoed(self, vm: int, node: int) -> bool:
        if self.veto is None or node == self.movables.at[vm]:
            return False
        come = [other for other in self.here[node] if self.movables.at[other] != node]
        gone = [other for other in self.born[node] if self.where[other] != node]
        return self.veto(vm, node, come, gone)

    def best_change(self, most_moves: int) -> tuple[float, int, int] | None:
        """The VM and the node that lower score and price most, and by how much (below 0); None when nothing does."""
        best: tuple[float, int, int] | None = None
        score, bound = self.now.score, -EPSILON
        for vm, node in self.candidates():
            if self.where[vm] == self.movables.at[vm] and self.moved >= most_moves:
                continue
            memory_mib, vcpus = self.movables.memory_mib[vm], self.movables.vcpus[vm]
            change = self.now.score_after(memory_mib, vcpus, self.where[vm], node) - score + self.price_of(vm, node)
            if change < bound and self.fits(vm, node):
                if self.is_vetoed(vm, node):
                    self.forbidden.add((vm, node))
                else:
                    best, bound = (change, vm, node), change
        return best

    def candidates(self) -> Iterator[tuple[int, int]]:
        """The few VMs and nodes whose terms promise most."""
        promises = [(min(size.source) + min(size.target), index) for index, size in enumerate(self.sizes)]
        for _, index in nsmallest(self.sizes_looked_at, promises):
            size = self.sizes[index]
            targets = _lowest(size.target, self.width + 1)
            for member in _lowest(size.source, self.width):
                vm = size.vms[member]
                yield from ((vm, node) for node in targets if node != self.where[vm])

    # ---------------------------------------------------------------------------------------- the search

    def run(self) -> None:
        terms = self.terms
        self.effort = terms.effort
        self.descend(terms.threshold, terms.most_moves)
        for _ in range(ROUNDS):
            further = min(self.now.score, terms.threshold) * OVERSHOT
            self.descend(further, self.moved + max(2, self.moved // 6))
            self.reduce(terms.threshold, terms.most_moves)
            if not self.exchange():
                break
            self.reduce(terms.threshold, terms.most_moves)
        self.descend(terms.threshold, terms.most_moves)

    def descend(self, threshold: float, most_moves: int) -> None:
        """Change one thing after the other as long as it pays and the cluster is not balanced enough."""
        while self.now.score > threshold:
            change = self.best_change(most_moves)
            if change is None:
                if self.steps_since == 0:
                    return
                self.refresh()
                continue
            self.move(change[1], change[2])

    def reduce(self, threshold: float, most_moves: int) -> None:
        """Take moves back, always the least useful, down to what is allowed, enough or worth its price."""
        while self.moved:
            score, price = self.now.score, self.terms.price
            cheapest = min(self.ways_back(), default=None)
            if cheapest is None:
                return
            after, vm = cheapest
            if self.moved <= most_moves and after > threshold and after - score >= price:
                return
            self.move(vm, self.movables.at[vm])

    def ways_back(self) -> Iterator[tuple[float, int]]:
        """The moved VMs that could stay where they were, each with the score that it would cost."""
        for vm, node in enumerate(self.where):
            home = self.movables.at[vm]
            if node != home and self.room_mib[home] >= self.movables.memory_mib[vm]:
                yield self.now.score_after(self.movables.memory_mib[vm], self.movables.vcpus[vm], node, home), vm

    def exchange(self) -> bool:
        """Take every move back once and make the best one instead; whether that has lowered anything."""
        improved = False
        for vm in [vm for vm, node in enumerate(self.where) if node != self.movables.at[vm]]:
            home, node = self.movables.at[vm], self.where[vm]
            if self.room_mib[home] < self.movables.memory_mib[vm] or self.effort <= 0:
                continue
            self.effort -= len(self.sizes) * (EFFORT_OF_A_SIZE + len(self.loads.nodes) // 16)
            before = self.now.score
            self.move(vm, home)
            change = self.best_change(self.terms.most_moves)
            if change is not None and self.now.score + change[0] < before - EPSILON + self.terms.price:
                self.move(change[1], change[2])
                improved = True
            elif before > self.now.score - self.terms.price:
                self.move(vm, node)
        return improved


def _lowest(terms: list[float], count: int) -> list[int]:
    """Where the lowest terms stand, the very lowest first; none of what can never be."""
    found: list[tuple[int, float]] = []
    while len(found) < min(count, len(terms)):
        lowest = min(terms)
        if lowest == NEVER:
            break
        index = terms.index(lowest)
        found.append((index, lowest))
        terms[index] = NEVER
    for index, term in found:
        terms[index] = term
    return [index for index, _ in found]


def _deviation(count: int, total: float, squares: float) -> float:
    return math.sqrt(max(squares / count - (total / count) ** 2, 0.0))


def _sizes(loads: NodeLoads, movables: Movables) -> Iterator[_Size]:
    exact = len(set(zip(movables.memory_mib, movables.vcpus, strict=True))) <= SIZES_APART
    groups: dict[object, list[int]] = {}
    for vm, (memory_mib, vcpus) in enumerate(zip(movables.memory_mib, movables.vcpus, strict=True)):
        size = (memory_mib, vcpus) if exact else (round(math.log2(memory_mib) * 4), round(math.log2(vcpus) * 4))
        groups.setdefault((size, movables.may[vm], vm if vm in movables.rivals else -1), []).append(vm)
    for vms in groups.values():
        memory_mib = sum(movables.memory_mib[vm] for vm in vms) // len(vms)
        vcpus = sum(movables.vcpus[vm] for vm in vms) // len(vms)
        yield _Size(
            vms=vms,
            may=frozenset(movables.may[vms[0]]),
            rivals=movables.rivals.get(vms[0], frozenset()),
            memory_mib=memory_mib,
            vcpus=vcpus,
            most_mib=max(movables.memory_mib[vm] for vm in vms),
            most_vcpus=max(movables.vcpus[vm] for vm in vms),
            memory_share=[memory_mib / total for total in loads.total_mib],
            cpu_share=[vcpus / cores for cores in loads.cores],
        )
