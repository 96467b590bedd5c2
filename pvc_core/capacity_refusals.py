# SPDX-License-Identifier: Apache-2.0
"""capacity_refusals: why VMs of a lost node find no place, without asking about every node for each of them.

What PVC's own filters say of a node depends on a few numbers. Nodes that agree in those are told together, so they are
counted by their numbers, once for all VMs that have the same ones before them; and when a node is lost, nearly all
others are what they were. Only of the nodes that are named the filters are asked for their words. What comes out is the
very sentence of a placement that looks at every node.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice

from pvc_core.empty_nodes import BY_NUMBERS, emptied
from pvc_core.placement import Placer
from pvc_core.placement_sentences import (
    NODES_IN_A_SENTENCE,
    REASONS_IN_A_SENTENCE,
    Alike,
    no_candidate_sentence,
    reasons_by_node,
)
from pvc_core.placement_steps import REQUIRED_FILTERS, filter_nodes
from pvc_core.plan_columns import limits_vcpus, room_mib, room_vcpus
from pvc_core.plugin_types import NodeCapacity, PlacementRequest
from pvc_core.snapshot import ClusterSnapshot

MOST_REMEMBERED = 256
"""So many groupings of the nodes are kept: some hundred KiB each on a thousand nodes."""

Obstacle = tuple[str, tuple[int, ...], tuple[int, ...]]
"""All that the words about a node depend on: what speaks against it when it is empty; MiB that are free and in all,
where that is too little; vCPUs that are free, and cores, where those are too few."""

NO_OBSTACLE: Obstacle = ("", (), ())


@dataclass(frozen=True, slots=True)
class _Grouping:
    """The nodes of a cluster by what keeps VMs of some kind from them, and the same the other way round.

    smallest_first: how many nodes have it, the first of their names, and what it is.
    """

    obstacles: Mapping[str, Obstacle]
    nodes: Mapping[Obstacle, Sequence[str]]
    smallest_first: Sequence[tuple[int, Sequence[str], Obstacle]]


class Refusals:
    """What keeps VMs from the nodes of a cluster."""

    def __init__(self, snapshot: ClusterSnapshot, placer: Placer) -> None:
        self.snapshot = snapshot
        self.placer = placer
        self._nodes = placer.capacities(snapshot)
        filters = placer.drivers.filters.keys()
        self._is_said_by_numbers = {*REQUIRED_FILTERS} <= filters <= BY_NUMBERS
        self._counts_vcpus = limits_vcpus(placer.drivers, snapshot.settings)
        rooms = [self._room(node) for node in self._nodes.values()]
        self._rooms_mib = sorted({free_mib for free_mib, _ in rooms})
        self._rooms_vcpus = sorted({free_vcpus for _, free_vcpus in rooms})
        self._words: dict[object, Mapping[str, str] | None] = {}
        self._groupings: dict[object, _Grouping] = {}

    def why_none(self, request: PlacementRequest, lost: str, changed: Mapping[str, NodeCapacity]) -> str:
        """Why no node takes a VM that no rule is about; "" when one does, or when every node has to be asked about.

        changed: the nodes that are not what they were in the snapshot, the lost one and those of the VM among them.
        """
        words = self._words_about_empty_nodes(request)
        if words is None:
            return ""
        grouping = self._grouping(request, words)
        now = {name: self._obstacle(node, request, words.get(name, "")) for name, node in changed.items()}
        about_lost = self._words_about_empty(request, [changed[lost]])
        if about_lost is None:
            return ""
        now[lost] = self._obstacle(changed[lost], request, about_lost.get(lost, ""))
        takers = grouping.nodes.get(NO_OBSTACLE, ())
        if NO_OBSTACLE in now.values() or any(name not in now for name in takers):
            return ""
        return self._sentence(request, _smallest(grouping, now), changed)

    def _sentence(
        self,
        request: PlacementRequest,
        groups: Sequence[tuple[int, Sequence[str], Obstacle]],
        changed: Mapping[str, NodeCapacity],
    ) -> str:
        """The groups in the filters' words."""
        named = [changed.get(first[0], self._nodes[first[0]]) for _, first, _ in groups]
        filtered = filter_nodes(self.placer.drivers, request, named, self.snapshot.settings)
        if filtered.failures:
            return ""
        why = reasons_by_node(filtered.rejections)
        told = [Alike(why[first[0]], number, tuple(first)) for number, first, _ in groups]
        return no_candidate_sentence(told, len(self._nodes))

    def _words_about_empty_nodes(self, request: PlacementRequest) -> Mapping[str, str] | None:
        """What speaks against the nodes, whatever is on them; None when the answer for one VM is none for others."""
        if not self._is_said_by_numbers or request.exclude:
            return None
        kind = (request.metadata.node_limit, request.accept_unflushing, request.storage)
        if kind not in self._words:
            self._words[kind] = self._words_about_empty(request, list(self._nodes.values()))
        return self._words[kind]

    def _words_about_empty(self, request: PlacementRequest, nodes: Sequence[NodeCapacity]) -> Mapping[str, str] | None:
        asked = replace(request, memory_mib=0, vcpus=0)
        filtered = filter_nodes(self.placer.drivers, asked, [emptied(node) for node in nodes], self.snapshot.settings)
        return None if filtered.failures else reasons_by_node(filtered.rejections)

    def _grouping(self, request: PlacementRequest, words: Mapping[str, str]) -> _Grouping:
        """Of all nodes. The same for all sizes between which no node stops to have room."""
        limit, vcpus = request.metadata.node_limit, request.vcpus if self._counts_vcpus else 0
        room = (bisect_left(self._rooms_mib, request.memory_mib), bisect_left(self._rooms_vcpus, vcpus))
        kind = (limit, request.accept_unflushing, request.storage, room)
        found = self._groupings.get(kind)
        if found is None:
            if len(self._groupings) >= MOST_REMEMBERED:
                self._groupings.pop(next(iter(self._groupings)))
            obstacles = {name: self._obstacle(node, request, words.get(name, "")) for name, node in self._nodes.items()}
            found = self._groupings[kind] = _grouped(obstacles)
        return found

    def _obstacle(self, node: NodeCapacity, request: PlacementRequest, words: str) -> Obstacle:
        free_mib, free_vcpus = self._room(node)
        too_small = (max(free_mib, 0), node.memory_total_mib) if free_mib < request.memory_mib else ()
        too_few = (max(free_vcpus, 0), node.cores) if self._counts_vcpus and free_vcpus < request.vcpus else ()
        return (words, too_small, too_few)

    def _room(self, node: NodeCapacity) -> tuple[int, int]:
        settings = self.snapshot.settings
        return (room_mib(node, settings), room_vcpus(node, settings) if self._counts_vcpus else 0)


def _grouped(obstacles: Mapping[str, Obstacle]) -> _Grouping:
    nodes: dict[Obstacle, list[str]] = {}
    for name, obstacle in obstacles.items():
        nodes.setdefault(obstacle, []).append(name)
    groups = [(len(names), names[:NODES_IN_A_SENTENCE], obstacle) for obstacle, names in nodes.items()]
    return _Grouping(obstacles, nodes, sorted(groups))


def _smallest(grouping: _Grouping, now: Mapping[str, Obstacle]) -> list[tuple[int, Sequence[str], Obstacle]]:
    """As many of the smallest groups as are told, now that other things keep VMs from some nodes than before."""
    touched = {grouping.obstacles[name] for name in now} | set(now.values())
    groups: list[tuple[int, Sequence[str], Obstacle]] = []
    for obstacle in touched:
        were = grouping.nodes.get(obstacle, ())
        come = sorted(name for name, its in now.items() if its == obstacle)
        number = len(were) - sum(grouping.obstacles[name] == obstacle for name in now) + len(come)
        if number:
            first = islice(merge((name for name in were if name not in now), come), NODES_IN_A_SENTENCE)
            groups.append((number, list(first), obstacle))
    groups += islice((group for group in grouping.smallest_first if group[2] not in touched), REASONS_IN_A_SENTENCE)
    return sorted(groups)[:REASONS_IN_A_SENTENCE]


@dataclass
class Aftermath:
    """A cluster that has lost a node, while that node's VMs are placed one after the other."""

    lost: str
    refusals: Refusals
    _changed: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._planner = self.refusals.placer.planner(self.refusals.snapshot)
        self._planner.lose(self.lost)
        self._changed = {self.lost}

    def take(self, node: str, request: PlacementRequest) -> None:
        """The VM goes to this node, of which it is known that it takes it."""
        self._planner.take(node, request)
        self._changed.add(node)

    def place(self, request: PlacementRequest) -> str:
        """Find a place for the VM and take it: "" when there is one, otherwise why there is none."""
        planner = self._planner
        if not planner.is_under_rules(request):
            changed = {name: planner.capacities[name] for name in self._changed} | planner.own_nodes(request)
            reason = self.refusals.why_none(request, self.lost, changed)
            if reason:
                return reason
        decision = planner.place(request)
        if decision.node:
            self._changed.add(decision.node)
        return "" if decision.node else decision.reason
