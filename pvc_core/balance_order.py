# SPDX-License-Identifier: Apache-2.0
"""balance_order: in which order moves are made so that each fits at its moment, and which must wait for which.

Where each VM ends is known; a migrating VM counts on both sides until it has arrived, so a move may have to wait
until others have left its target. What waits in a circle cannot be ordered and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Move:
    """A VM, by whatever index its caller uses, goes from a node to another, by index."""

    vm: int
    source: int
    target: int
    memory_mib: int
    vcpus: int


@dataclass(frozen=True)
class Ordered:
    """Moves in an order in which they fit, per move the ones that must be done first, and those with no such order."""

    moves: tuple[Move, ...]
    after: tuple[tuple[int, ...], ...]
    stuck: tuple[Move, ...] = ()


def in_order(
    moves: Sequence[Move],
    room_mib: Sequence[int],
    room_vcpus: Sequence[int],
    rivals: Mapping[int, Collection[int]] | None = None,
) -> Ordered:
    """Order the moves; where there is a choice, as they are given. A VM's own moves stay in their order.

    room_mib, room_vcpus: what each node may still be given now. rivals: per VM those that must have left a node
    before it may come there.
    """
    ordering = _Ordering(list(room_mib), list(room_vcpus), rivals or {}, Counter((one.vm, one.source) for one in moves))
    waiting = list(moves)
    while waiting:
        left: dict[Move, None] = {}
        held_up: set[int] = set()
        for move in waiting:
            if move.vm in held_up or not ordering.take(move):
                left[move] = None
                held_up.add(move.vm)
        if len(left) == len(waiting):
            break
        waiting = list(left)
    return Ordered(tuple(ordering.order), tuple(ordering.after), tuple(waiting))


@dataclass
class _Ordering:
    """What is ordered so far. leaving: who is still to leave which node, by (VM, node)."""

    room_mib: list[int]
    room_vcpus: list[int]
    rivals: Mapping[int, Collection[int]]
    leaving: Counter[tuple[int, int]]
    order: list[Move] = field(default_factory=list)
    after: list[tuple[int, ...]] = field(default_factory=list)
    left: dict[tuple[int, int], int] = field(default_factory=dict)
    """The move by which a VM left a node."""
    latest: dict[int, int] = field(default_factory=dict)
    """Each VM's latest move."""
    gone: dict[int, list[int]] = field(default_factory=dict)
    """Per node the moves away from it."""

    def __post_init__(self) -> None:
        # With everything that has come and nothing that has gone: what `after` is reckoned from.
        self.free_mib, self.free_vcpus = list(self.room_mib), list(self.room_vcpus)

    def take(self, move: Move) -> bool:
        """Make the move the next one, if it fits once all before it are done."""
        node, index = move.target, len(self.order)
        rivals = self.rivals.get(move.vm, ())
        if (
            self.room_mib[node] < move.memory_mib
            or self.room_vcpus[node] < move.vcpus
            or any(self.leaving[rival, node] for rival in rivals)
        ):
            return False
        self.leaving[move.vm, move.source] -= 1
        self.room_mib[node] -= move.memory_mib
        self.room_vcpus[node] -= move.vcpus
        self.room_mib[move.source] += move.memory_mib
        self.room_vcpus[move.source] += move.vcpus
        self.free_mib[node] -= move.memory_mib
        self.free_vcpus[node] -= move.vcpus
        ahead = {self.left[rival, node] for rival in rivals if (rival, node) in self.left}
        ahead |= {self.latest[move.vm]} if move.vm in self.latest else set()
        self.after.append(tuple(sorted({*self._room_makers(node), *ahead})))
        self.left[move.vm, move.source] = self.latest[move.vm] = index
        self.gone.setdefault(move.source, []).append(index)
        self.order.append(move)
        return True

    def _room_makers(self, node: int) -> list[int]:
        """The first moves away from the node that together make the room for all that have come by now.

        Those that came before and need less wait for fewer of the same moves, so whichever come at one time fit.
        """
        free_mib, free_vcpus, makers = self.free_mib[node], self.free_vcpus[node], list[int]()
        for index in self.gone.get(node, ()):
            if free_mib >= 0 and free_vcpus >= 0:
                break
            makers.append(index)
            free_mib += self.order[index].memory_mib
            free_vcpus += self.order[index].vcpus
        return makers
