# SPDX-License-Identifier: Apache-2.0
"""placement_bulk_pools: which node is the best one for a VM, when thousands are placed and each changes one node.

A pool holds the nodes that may take the VMs of one kind, best first by one selector. What has changed is entered once
more and the older entry is passed over when it comes up. Nodes that are too small for the VM at hand wait aside until a
smaller one comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pvc_core.empty_nodes import Opening
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, SelectorEntry

Ask = Callable[[SelectorEntry, PlacementRequest, Sequence[NodeCapacity]], Mapping[str, float]]
"""What a selector says of nodes; raises `PluginError`."""


class Nodes:
    """The nodes by index, in the order of their names, as they are by now.

    room: MiB and vCPUs that are left. They only shrink: nothing leaves a node while VMs are placed. version: how often
    each node has changed. changes: the nodes that have changed, one after the other.
    """

    def __init__(
        self, capacities: Mapping[str, NodeCapacity], room_of: Callable[[NodeCapacity], tuple[int, int]]
    ) -> None:
        self._capacities = capacities
        self._room_of = room_of
        self.names = tuple(capacities)
        self.index = {name: node for node, name in enumerate(self.names)}
        self.room = [room_of(capacity) for capacity in capacities.values()]
        self.version = [0] * len(self.names)
        self.changes: list[int] = []

    def capacity(self, node: int) -> NodeCapacity:
        """The node as plugins see it."""
        return self._capacities[self.names[node]]

    def note_change(self, node: int) -> None:
        """The node is not what it was."""
        self.room[node] = self._room_of(self.capacity(node))
        self.version[node] += 1
        self.changes.append(node)

    def changed_since(self, position: int) -> Iterable[int]:
        """Each node that has changed since there were so many changes."""
        return dict.fromkeys(self.changes[position:])


class Scores:
    """What one selector says of the nodes that it was asked about, by index."""

    def __init__(self, entry: SelectorEntry, nodes: Nodes, ask: Ask) -> None:
        self.entry = entry
        self.by_node: dict[int, float] = {}
        self._nodes = nodes
        self._ask = ask
        self._position = 0

    def of(self, request: PlacementRequest, capacities: Sequence[NodeCapacity]) -> Mapping[str, float]:
        """What it says of these, by name. Raises `PluginError`."""
        return self._ask(self.entry, request, capacities)

    def include(self, nodes: Iterable[int], request: PlacementRequest) -> None:
        """Ask about those that were not asked about yet. Raises `PluginError`."""
        self._score([node for node in nodes if node not in self.by_node], request)

    def catch_up(self, request: PlacementRequest) -> None:
        """Ask again about what has changed. Raises `PluginError`."""
        changed = [node for node in self._nodes.changed_since(self._position) if node in self.by_node]
        self._score(changed, request)
        self._position = len(self._nodes.changes)

    def _score(self, nodes: Sequence[int], request: PlacementRequest) -> None:
        if nodes:
            scores = self.of(request, [self._nodes.capacity(node) for node in nodes])
            self.by_node.update((node, scores[self._nodes.names[node]]) for node in nodes)


@dataclass
class Pool:
    """The nodes that may take VMs with the same opening and number of vCPUs (0: no matter), best first."""

    nodes: Nodes
    scores: Scores
    opening: Opening
    vcpus: int
    members: frozenset[int] = field(init=False)
    _best_first: list[tuple[float, int, int]] = field(init=False)
    _too_small: list[tuple[int, int, int]] = field(default_factory=list)
    _position: int = field(init=False)

    def __post_init__(self) -> None:
        self.members = frozenset(self.opening.nodes)
        self._best_first = [self._entry(node) for node in self.opening.nodes]
        heapq.heapify(self._best_first)
        self._position = len(self.nodes.changes)

    def catch_up(self) -> None:
        """Enter what has changed; the scores are up to date."""
        for node in self.nodes.changed_since(self._position):
            if node in self.members:
                heapq.heappush(self._best_first, self._entry(node))
        self._position = len(self.nodes.changes)

    def best(self, memory_mib: int, apart_from: Collection[int]) -> int | None:
        """The best node with room for a VM of this size; equals by name."""
        self._bring_back(memory_mib)
        heap, version, room = self._best_first, self.nodes.version, self.nodes.room
        passed_over, found = [], None
        while heap and found is None:
            _, node, entered = heap[0]
            free_mib, free_vcpus = room[node]
            if entered != version[node] or free_vcpus < self.vcpus:
                heapq.heappop(heap)
            elif free_mib < memory_mib:
                heapq.heappop(heap)
                heapq.heappush(self._too_small, (-free_mib, node, entered))
            elif node in apart_from:
                passed_over.append(heapq.heappop(heap))
            else:
                found = node
        for entry in passed_over:
            heapq.heappush(heap, entry)
        return found

    def _bring_back(self, memory_mib: int) -> None:
        while self._too_small and -self._too_small[0][0] >= memory_mib:
            _, node, entered = heapq.heappop(self._too_small)
            if entered == self.nodes.version[node]:
                heapq.heappush(self._best_first, self._entry(node))

    def _entry(self, node: int) -> tuple[float, int, int]:
        return (-self.scores.by_node[node], node, self.nodes.version[node])
