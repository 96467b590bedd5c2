# SPDX-License-Identifier: Apache-2.0
"""plan_order: in which order VMs move where one must go before another can come: a search over arrangements.

A migrating VM counts on both sides until it has arrived, so a full ring of VMs that want to swap cannot turn;
somebody has to park elsewhere first, or a third VM has to make room. The search (A*) goes from arrangement to
arrangement, one migration at a time, and finds the fewest; when it has seen every arrangement that can be reached
and none will do, that is the proof that there is no plan.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from pvc_core.plan_columns import Columns, Room

State = tuple[tuple[int, int], ...]
"""An arrangement: (VM, node) of those that are not where they were, in order."""


@dataclass(frozen=True)
class Order:
    """moves: (VM, node), one after the other. arrived: the VMs that reach their goals. proven: no plan is better."""

    moves: tuple[tuple[int, int], ...]
    arrived: frozenset[int]
    proven: bool


@dataclass(frozen=True)
class Journey:
    """Where each VM is (-1: nowhere, it is to be started), and where those that are asked for may end."""

    at: Sequence[int]
    goals: Mapping[int, frozenset[int]]
    weights: Mapping[int, int]


def find_order(columns: Columns, journey: Journey, effort: int) -> Order:
    """The fewest moves after which as many VMs as possible have arrived.

    effort: how many moves may be looked at. VMs without goals move only to make room.
    """
    return _Search(columns, journey, effort).run()


@dataclass
class _Search:
    columns: Columns
    journey: Journey
    effort: int
    came_from: dict[State, tuple[State, tuple[int, int]]] = field(default_factory=dict)
    length: dict[State, int] = field(default_factory=lambda: {(): 0})

    def run(self) -> Order:
        """Expand the most promising arrangement until all have arrived, none is left or the effort is spent."""
        start: State = ()
        best, best_rank = start, self._rank(start)
        full_weight, number = sum(self.journey.weights.values()), count()
        heap = [(self._at_least(start), 0, next(number), start)]
        done: set[State] = set()
        while heap:
            _, _, _, state = heapq.heappop(heap)
            if state in done:
                continue
            done.add(state)
            rank = self._rank(state)
            if rank > best_rank:
                best, best_rank = state, rank
            if rank[0] == full_weight:
                return self._order(state, proven=True)
            if self.effort <= 0:
                return self._order(best, proven=False)
            moves = self.length[state] + 1
            for move in self._moves(state):
                after = _moved(state, move, self.journey.at[move[0]])
                if moves < self.length.get(after, moves + 1):
                    self.length[after], self.came_from[after] = moves, (state, move)
                    heapq.heappush(heap, (moves + self._at_least(after), -moves, next(number), after))
        return self._order(best, proven=True)

    def _rank(self, state: State) -> tuple[int, int]:
        """How good it would be to end here: who has arrived, then how few moves it took."""
        arrived = sum(self.journey.weights[vm] for vm in self._arrived(state))
        return arrived, -self.length[state]

    def _arrived(self, state: State) -> frozenset[int]:
        now, at = dict(state), self.journey.at
        return frozenset(vm for vm, nodes in self.journey.goals.items() if now.get(vm, at[vm]) in nodes)

    def _room(self, state: State) -> Room:
        room = self.columns.room()
        for vm, node in state:
            room.take(vm, node)
            if self.journey.at[vm] >= 0:
                room.give_back(vm, self.journey.at[vm])
        return room

    def _at_least(self, state: State) -> int:
        """How many more moves it takes at least: one per VM, and one more when none of them can go straight."""
        waiting = self.journey.goals.keys() - self._arrived(state)
        if not waiting:
            return 0
        room = self._room(state)
        straight = any(room.fits(vm, node) for vm in waiting for node in self.journey.goals[vm])
        return len(waiting) + (0 if straight else 1)

    def _moves(self, state: State) -> Iterator[tuple[int, int]]:
        """Every move that fits now."""
        room, now = self._room(state), dict(state)
        for vm, may in enumerate(self.columns.may):
            here = now.get(vm, self.journey.at[vm])
            for node in may:
                self.effort -= 1
                if room.fits(vm, node) and node != here and not self._vetoed(vm, node, state):
                    yield vm, node

    def _vetoed(self, vm: int, node: int, state: State) -> bool:
        if self.columns.veto is None:
            return False
        come = [other for other, there in state if there == node]
        gone = [other for other, _ in state if self.journey.at[other] == node]
        return self.columns.veto(vm, node, come, gone)

    def _order(self, state: State, proven: bool) -> Order:
        arrived, moves = self._arrived(state), list[tuple[int, int]]()
        while state:
            state, move = self.came_from[state]
            moves.append(move)
        return Order(tuple(reversed(moves)), arrived, proven)


def _moved(state: State, move: tuple[int, int], home: int) -> State:
    now = dict(state)
    now[move[0]] = move[1]
    if move[1] == home:
        del now[move[0]]
    return tuple(sorted(now.items()))
