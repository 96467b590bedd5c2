# SPDX-License-Identifier: Apache-2.0
"""placement_bulk: the decisions of `Placer.place_many` for thousands of VMs, without looking at every node for each.

A decision changes one node. Where a selector promises that a node's score depends on that node only, all others
keep theirs; where nothing but PVC's own filters decides, which nodes may take a VM is asked once for all VMs that are
alike, and what remains is a comparison of sizes. Every VM goes to the very node to which `place_many` would send it. A
VM of which that does not hold (another selector, an expression, a plugin's filter, a rule about it) is placed the
ordinary way, in its turn among the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pvc_core.empty_nodes import Opening
from pvc_core.errors import InvalidInput, PluginError
from pvc_core.placement import Decision, Placer, Planner, is_default_selector
from pvc_core.placement_bulk_pools import Nodes, Pool, Scores
from pvc_core.placement_steps import REQUIRED_FILTERS, default_selector, rank, scores_by
from pvc_core.plan_columns import limits_vcpus, room_mib, room_vcpus
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, SelectorEntry
from pvc_core.selector_expression import parse_selector
from pvc_core.snapshot import ClusterSnapshot


def place_in_bulk(
    requests: Iterable[PlacementRequest], snapshot: ClusterSnapshot, placer: Placer
) -> tuple[Decision, ...]:
    """As `Placer.place_many`, decisions only: one that found a node may come without ranking and rejections."""
    bulk = Bulk(snapshot, placer, placer.planner(snapshot))
    return tuple(bulk.place(request) for request in bulk.planner.in_order(requests))


class Bulk:
    """A cluster while VMs are placed on it one after the other, by nothing but this."""

    def __init__(self, snapshot: ClusterSnapshot, placer: Placer, planner: Planner) -> None:
        drivers = placer.drivers
        self.planner = planner
        self._drivers = drivers
        self._settings = snapshot.settings
        self.empty = placer.empty_nodes(snapshot)
        self._placer = placer
        self._has_short_cut = self.empty.is_said_by_numbers and drivers.filters.keys() >= {*REQUIRED_FILTERS}
        self._counts_vcpus = limits_vcpus(drivers, snapshot.settings)
        self._nodes = Nodes(self.planner.capacities, self.room)
        self._scores: dict[str, Scores | None] = {}
        self._pools: dict[tuple[Opening, Scores, int], Pool] = {}
        self._latest_failure: tuple[object, Decision] | None = None

    def place(self, request: PlacementRequest) -> Decision:
        """The decision for one VM; its place is taken."""
        if not self.has_short_cut(request):
            return self.in_full(request)
        found = self._best(request)
        if found is None:
            return self._as_one_alike(request)
        selector, node = found
        name, before = self._nodes.names[node], self._nodes.capacity(node)
        self.planner.take(name, request)
        if self._nodes.capacity(node) is not before:
            self._nodes.note_change(node)
        reason = f"selector {selector.name}: {name} has {selector.summary}"
        return Decision(vm=request.vm, uuid=request.uuid, node=name, selector=selector.name, reason=reason)

    def place_in_short(self, request: PlacementRequest) -> Decision:
        """The same; why a VM finds no place is not told."""
        if not self.has_short_cut(request) or self._scores_for(request) is not None:
            return self.place(request)
        opening = self.empty.opening(request)
        if not opening.is_certain:
            return self.place(request)
        memory_mib, vcpus = self.need(request)
        candidates = [node for node in self.planner.nodes_for(request) if node.name in opening.names]
        rooms = [self.room(node) for node in candidates]
        candidates = [
            node for node, room in zip(candidates, rooms, strict=True) if room[0] >= memory_mib and room[1] >= vcpus
        ]
        found = ""
        if candidates:
            ranking = rank(self._drivers, self._selector_of(request), request, candidates, self._settings)
            self._placer.tell(ranking.failures)
            found = ranking.ranked[0].node
            self.planner.take(found, request)
            self._nodes.note_change(self._nodes.index[found])
        return Decision(vm=request.vm, uuid=request.uuid, node=found)

    def has_short_cut(self, request: PlacementRequest) -> bool:
        """Whether nothing but sizes decides which of the nodes that are open to it, in `empty`, may take it."""
        return self._has_short_cut and not self.planner.is_under_rules(request)

    def in_full(self, request: PlacementRequest) -> Decision:
        """The same with ranking and rejections, as `Planner.place`."""
        decision = self.planner.place(request)
        if decision.node:
            self._nodes.note_change(self._nodes.index[decision.node])
        return decision

    def _as_one_alike(self, request: PlacementRequest) -> Decision:
        """In full; but why VMs that are alike find no place is said only once, as long as nothing has changed."""
        metadata = msgspec.structs.replace(request.metadata, priority=0)
        size = (request.memory_mib, request.vcpus)
        where = (request.exclude, request.accept_unflushing, request.storage)
        alike = (size, metadata, *where, len(self._nodes.changes))
        repeats = not self.planner.own_nodes(request)
        if repeats and self._latest_failure is not None and self._latest_failure[0] == alike:
            return msgspec.structs.replace(self._latest_failure[1], vm=request.vm, uuid=request.uuid)
        decision = self.in_full(request)
        if repeats and not decision.node:
            self._latest_failure = (alike, decision)
        return decision

    def _best(self, request: PlacementRequest) -> tuple[SelectorEntry, int] | None:
        """The selector and the node it prefers; None when there is no short cut to it, or no such node."""
        scores, opening = self._scores_for(request), self.empty.opening(request)
        if scores is None or not opening.is_certain:
            return None
        try:
            options = self._options(request, scores, opening)
        except PluginError:
            self._scores[self._selector_of(request)] = None
            return None
        return (scores.entry, min(options)[2]) if options else None

    def _options(self, request: PlacementRequest, scores: Scores, opening: Opening) -> list[tuple[float, bool, int]]:
        """The best of all nodes, and those where the VM is already, as a ranking compares them."""
        scores.catch_up(request)
        pool = self._pool(request, scores, opening)
        own = {self._nodes.index[name]: capacity for name, capacity in self.planner.own_nodes(request).items()}
        best = pool.best(request.memory_mib, own)
        options = [] if best is None else [(-scores.by_node[best], True, best)]
        for node, capacity in own.items():
            free_mib, free_vcpus = self.room(capacity)
            if node in pool.members and free_mib >= request.memory_mib and free_vcpus >= pool.vcpus:
                score = scores.of(request, [capacity])[capacity.name]
                options.append((-score, capacity.name != request.current_node, node))
        return options

    def _pool(self, request: PlacementRequest, scores: Scores, opening: Opening) -> Pool:
        _, vcpus = self.need(request)
        key = (opening, scores, vcpus)
        pool = self._pools.get(key)
        if pool is None:
            scores.include(opening.nodes, request)
            pool = self._pools[key] = Pool(self._nodes, scores, opening, vcpus)
        pool.catch_up()
        return pool

    def _scores_for(self, request: PlacementRequest) -> Scores | None:
        """Of the selector that ranks for this VM, where that has a short cut."""
        wanted = self._selector_of(request)
        if wanted not in self._scores:
            entry = self._entry(wanted)
            if entry is None or not entry.depends_on_node_only:
                self._scores[wanted] = None
            else:
                self._scores[wanted] = Scores(entry, self._nodes, self._ask)
        return self._scores[wanted]

    def _selector_of(self, request: PlacementRequest) -> str:
        named = request.metadata.node_selector
        return default_selector(self._settings) if is_default_selector(named) else named

    def _entry(self, wanted: str) -> SelectorEntry | None:
        try:
            expression = parse_selector(wanted)
        except InvalidInput:
            return None
        return self._drivers.selectors.get(expression.names[0]) if expression.is_single else None

    def _ask(
        self, entry: SelectorEntry, request: PlacementRequest, nodes: Sequence[NodeCapacity]
    ) -> Mapping[str, float]:
        return scores_by(entry, self._drivers, request, nodes, self._settings)

    def need(self, request: PlacementRequest) -> tuple[int, int]:
        """What it takes of a node's `room`."""
        return request.memory_mib, request.vcpus if self._counts_vcpus else 0

    def room(self, node: NodeCapacity) -> tuple[int, int]:
        """MiB and vCPUs that are left on it; the latter 0 where nothing limits them."""
        return (room_mib(node, self._settings), room_vcpus(node, self._settings) if self._counts_vcpus else 0)
