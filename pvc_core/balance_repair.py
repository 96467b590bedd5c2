# SPDX-License-Identifier: Apache-2.0
"""balance_repair: the fewest moves after which violated limits and broken rules are so no more.

One violation after the other, limits and hard rules first: all ways out with one move are tried, then with two, and
so on; a move may make others necessary, of VMs that make room or belong with the one that was moved. Among as short
ways the one that leaves least broken wins, then the one that leaves the cluster most even. A way whose moves wait for
one another counts as one longer: it takes a parking move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pvc_core.balance_columns import BalanceColumns, Standing
from pvc_core.balance_order import Move, in_order
from pvc_core.balance_rules import Bond, rivals_of

LONGEST = 6
"""How many moves one violation may take; a rule that keeps more VMs together takes as many as it has members."""
EFFORT = 30_000
"""How many moves are tried for one violation: well under a second."""


@dataclass(frozen=True)
class Outside:
    """A VM, by index, on a node outside its limit."""

    vm: int


Violated = Outside | Bond


@dataclass(frozen=True)
class Repairs:
    """The moves, in an order in which they fit; a VM that is parked moves twice.

    reasons: per VM the violation that its move ends; None for one that makes room or follows. in_vain: the violations
    that cannot be ended, each with the reason.
    """

    moves: tuple[Move, ...]
    reasons: dict[int, Violated | None]
    in_vain: dict[Violated, str]


def repair(columns: BalanceColumns, most_moves: int) -> Repairs:
    """Find the moves."""
    return _Repair(columns.loads, columns.movables, columns, most_moves).run()


Rank = tuple[int, int, float, float]
Way = tuple[Rank, Sequence[Move]]


@dataclass
class _Repair(Standing):
    columns: BalanceColumns
    most_moves: int
    moves: list[Move] = field(default_factory=list)
    reasons: dict[int, Violated | None] = field(default_factory=dict)
    in_vain: dict[Violated, str] = field(default_factory=dict)
    trail: list[int] = field(default_factory=list)
    """The VMs moved on the way that is being tried."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bonds = [bond for bond in self.columns.bonds if bond.rule.kind != "prefer"]
        self.bonds_of: dict[int, list[Bond]] = {}
        for bond in self.columns.bonds:
            for vm in bond.vms:
                self.bonds_of.setdefault(vm, []).append(bond)
        self.rivals = rivals_of(self.bonds)

    def run(self) -> Repairs:
        outside: list[Violated] = [Outside(vm) for vm in self.columns.outside]
        broken = [bond for bond in self.bonds if self.excess(bond)]
        hard = [bond for bond in broken if bond.rule.hard]
        soft = [bond for bond in broken if not bond.rule.hard]
        for violated in (*outside, *hard, *soft):
            while self.excess(violated):
                way = self.shortest_way(violated)
                if way is None:
                    self.in_vain[violated] = self.why_not(violated)
                    break
                self.moves += way
                for vm, node in {move.vm: move.target for move in way}.items():
                    self.go(vm, node)
                    self.reasons[vm] = violated if self.is_about(violated, vm) else None
                self.trail.clear()
        return Repairs(tuple(self.moves), self.reasons, self.in_vain)

    # ------------------------------------------------------------------------------------------ what is wrong

    def excess(self, violated: Violated) -> int:
        """How far it is from being kept: at least so many VMs are where they should not be."""
        if isinstance(violated, Outside):
            return int(self.where[violated.vm] == self.movables.at[violated.vm])
        places = Counter([*violated.elsewhere, *(self.where[vm] for vm in violated.vms)])
        if violated.rule.kind == "apart":
            return sum(count - 1 for node, count in places.items() if node >= 0)
        return places.total() - max(places.values())

    @staticmethod
    def is_about(violated: Violated, vm: int) -> bool:
        return violated.vm == vm if isinstance(violated, Outside) else vm in violated.vms

    # -------------------------------------------------------------------------------------------- the search

    def shortest_way(self, violated: Violated) -> Sequence[Move] | None:
        """The best of the shortest ways; at the price of soft rules only where there is no other."""
        is_soft = isinstance(violated, Bond) and not violated.rule.hard
        self.violated, self.first_excess = violated, self.excess(violated)
        for self.spares_soft in (True,) if is_soft else (True, False):
            self.base = {bond: self.excess(bond) for bond in self.bonds}
            self.effort = EFFORT
            self.straight: Way | None = None
            self.parking: Way | None = None
            for length in range(1, self.longest(violated) + 1):
                as_short, self.straight, self.parking = self.parking, None, None
                self.search(length)
                best = self.straight or as_short
                if best is not None:
                    return best[1]
                if self.effort <= 0:
                    break
        return None

    def why_not(self, violated: Violated) -> str:
        if len(self.moves) >= self.most_moves:
            return "the plan has as many migrations as it may"
        if self.effort <= 0:
            return "no moves that end it were found in time"
        return f"no {self.longest(violated)} moves or fewer end it"

    def longest(self, violated: Violated) -> int:
        members = len(violated.vms) if isinstance(violated, Bond) else 1
        return min(max(LONGEST, members), self.most_moves - len(self.moves))

    def search(self, moves_left: int) -> None:
        problem = self.problem()
        crowded = self.consider() if problem is None else frozenset()
        if not moves_left or (problem is None and not crowded):
            return
        for vm, node in self.aside(crowded) if problem is None else self.ways_out(problem, moves_left):
            if self.effort <= 0:
                return
            self.effort -= 1
            source = self.where[vm]
            self.go(vm, node)
            self.search(moves_left - 1)
            self.go_back(vm, source)

    def problem(self) -> Violated | int | None:
        """What has to be done next: the violation itself, what the moves so far have broken, or a node too full."""
        excess = self.excess(self.violated)
        is_apart = isinstance(self.violated, Bond) and self.violated.rule.kind == "apart"
        if excess >= self.first_excess if is_apart else excess:
            return self.violated
        for vm in self.trail:
            for bond in self.bonds_of.get(vm, ()):
                if bond.rule.kind == "prefer" or not (bond.rule.hard or self.spares_soft):
                    continue
                if self.excess(bond) > self.base[bond]:
                    return bond
        for vm in self.trail:
            node = self.where[vm]
            if self.room_mib[node] < 0 or self.room_vcpus[node] < 0:
                return node
        return None

    def consider(self) -> frozenset[int]:
        """Take the way if it is the best so far of those of its length, with a VM parked if need be.

        The nodes on which its moves wait for one another; none if they do not.
        """
        rank = self.rank()
        moves = [self.movables.move(vm, self.where[vm]) for vm in self.trail]
        stuck = self.stuck(moves)
        if not stuck:
            if self.straight is None or rank < self.straight[0]:
                self.straight = rank, moves
        elif self.parking is None or rank < self.parking[0]:
            parked = next((way for way in self.parkings(moves) if not self.stuck(way)), None)
            if parked is not None:
                self.parking = rank, parked
        return frozenset(move.target for move in stuck)

    def parkings(self, moves: Sequence[Move]) -> Iterator[Sequence[Move]]:
        """The same moves with one of the VMs on another node for a while."""
        for index, move in enumerate(moves):
            for node in self.movables.may[move.vm]:
                if node not in (move.source, move.target):
                    there, on = replace(move, target=node), replace(move, source=node)
                    yield [there, *moves[:index], *moves[index + 1 :], on]

    def stuck(self, moves: Sequence[Move]) -> tuple[Move, ...]:
        """The moves that never fit, after those that are settled."""
        movables = self.movables
        return in_order([*self.moves, *moves], movables.room_mib, movables.room_vcpus, self.rivals).stuck

    def rank(self) -> Rank:
        """How much is broken now, compared with before, and how even it is; less is better."""
        touched = dict.fromkeys(bond for vm in self.trail for bond in self.bonds_of.get(vm, ()))
        hard = -sum(1 for vm in self.trail if vm in self.columns.outside)
        soft, disliked = 0, 0.0
        for bond in touched:
            if bond.rule.kind == "prefer":
                disliked -= sum(
                    bond.rule.nodes.get(self.loads.nodes[self.where[vm]], 0.0) for vm in self.trail if vm in bond.vms
                )
            elif bond.rule.hard:
                hard += self.excess(bond) - self.base[bond]
            else:
                soft += self.excess(bond) - self.base[bond]
        return hard, soft, disliked, round(self.now.score, 9)

    # ---------------------------------------------------------------------------------------------- the moves

    def ways_out(self, problem: Violated | int, moves_left: int) -> Iterator[tuple[int, int]]:
        """Moves that get nearer to an end of the problem, of VMs that have not been moved yet."""
        if isinstance(problem, Outside):
            if self.is_free(problem.vm):
                yield from ((problem.vm, node) for node in self.movables.may[problem.vm])
        elif isinstance(problem, int):
            yield from self.making_room(problem, moves_left)
        elif problem.rule.kind == "apart":
            yield from self.parting(problem)
        else:
            yield from self.gathering(problem, moves_left)

    def is_free(self, vm: int) -> bool:
        return vm not in self.reasons and vm not in self.trail

    def making_room(self, node: int, moves_left: int) -> Iterator[tuple[int, int]]:
        """Moves away from a node that is too full: to where there is room, then to where room has to be made."""
        missing_mib, missing_vcpus = -self.room_mib[node], -self.room_vcpus[node]
        full: list[tuple[int, int]] = []
        for vm in sorted(self.here[node], key=lambda vm: (-self.movables.memory_mib[vm], vm)):
            memory_mib, vcpus = self.movables.memory_mib[vm], self.movables.vcpus[vm]
            is_enough = memory_mib >= missing_mib and vcpus >= missing_vcpus
            if not self.is_free(vm) or (moves_left == 1 and not is_enough):
                continue
            for other in self.movables.may[vm]:
                if self.room_mib[other] >= memory_mib and self.room_vcpus[other] >= vcpus:
                    if other != node:
                        yield vm, other
                elif other != node and moves_left > 1:
                    full.append((vm, other))
        yield from full

    def aside(self, crowded: Collection[int]) -> Iterator[tuple[int, int]]:
        """Moves of other VMs away from nodes where there is room in the end, but not on the way there."""
        for node in sorted(crowded):
            for vm in sorted(self.here[node]):
                if self.is_free(vm):
                    yield from ((vm, other) for other in self.movables.may[vm] if other != node)

    def parting(self, bond: Bond) -> Iterator[tuple[int, int]]:
        places = Counter([*bond.elsewhere, *(self.where[vm] for vm in bond.vms)])
        for vm in bond.vms:
            if places[self.where[vm]] > 1 and self.is_free(vm):
                yield from ((vm, node) for node in self.movables.may[vm] if not places[node])

    def gathering(self, bond: Bond, moves_left: int) -> Iterator[tuple[int, int]]:
        """All to one node: where one is that cannot be moved any more, else where most are, else anywhere."""
        fixed = {*bond.elsewhere, *(self.where[vm] for vm in bond.vms if not self.is_free(vm))}
        places = Counter(self.where[vm] for vm in bond.vms)
        nodes = sorted(fixed or range(len(self.loads.nodes)), key=lambda node: (-places[node], node))
        for node in nodes if len(fixed) <= 1 else ():
            away = [vm for vm in bond.vms if self.where[vm] != node]
            if len(away) <= moves_left and away and all(node in self.movables.may[vm] for vm in away):
                yield away[0], node

    def go(self, vm: int, node: int) -> None:
        self.put(vm, node)
        self.trail.append(vm)

    def go_back(self, vm: int, node: int) -> None:
        self.put(vm, node)
        self.trail.pop()
