# SPDX-License-Identifier: Apache-2.0
"""balance_order: in which order moves are made so that each fits at its moment, and which must wait for which.

Where each VM ends is known; a migrating VM counts on both sides until it has arrived, so a move may have to wait
until others have left its target. What waits in a circle cannot be ordered and is left out.
"""

from __future__ import annotations

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
    """Order the moves; where there is a choice, as they are given.

    room_mib, room_vcpus: what each node may still be given now. rivals: per VM those that must have left a node
    before it may come there.
    """
    ordering = _Ordering(list(room_mib), list(room_vcpus), rivals or {}, {move.vm: move for move in moves})
    waiting = list(moves)
    while waiting:
        left = [move for move in waiting if not ordering.take(move)]
        if len(left) == len(waiting):
            break
        waiting = left
    return Ordered(tuple(ordering.order), tuple(ordering.after), tuple(waiting))


@dataclass
class _Ordering:
    """free_*: with everything that has come, and nothing that has gone: what `after` is reckoned from."""

    room_mib: list[int]
    room_vcpus: list[int]
    rivals: Mapping[int, Collection[int]]
    moves: Mapping[int, Move]
    order: list[Move] = field(default_factory=list)
    after: list[tuple[int, ...]] = field(default_factory=list)
    index: dict[int, int] = field(default_factory=dict)
    gone: dict[int, list[int]] = field(default_factory=dict)
    free_mib: list[int] = field(init=False)
    free_vcpus: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.free_mib, self.free_vcpus = list(self.room_mib), list(self.room_vcpus)

    def take(self, move: Move) -> bool:
        """Make the move the next one, if it fits once all before it are done."""
        node = move.target
        ahead = [
            rival for rival in self.rivals.get(move.vm, ()) if rival in self.moves and self.moves[rival].source == node
        ]
        if (
            self.room_mib[node] < move.memory_mib
            or self.room_vcpus[node] < move.vcpus
            or any(rival not in self.index for rival in ahead)
        ):
            return False
        self.room_mib[node] -= move.memory_mib
        self.room_vcpus[node] -= move.vcpus
        self.room_mib[move.source] += move.memory_mib
        self.room_vcpus[move.source] += move.vcpus
        self.free_mib[node] -= move.memory_mib
        self.free_vcpus[node] -= move.vcpus
        self.after.append(tuple(sorted({*self._room_makers(node), *(self.index[rival] for rival in ahead)})))
        self.index[move.vm] = len(self.order)
        self.gone.setdefault(move.source, []).append(len(self.order))
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
