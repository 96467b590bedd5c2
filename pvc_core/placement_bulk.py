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

from pvc_core.errors import InvalidInput, PluginError
from pvc_core.placement import Decision, Placer, is_default_selector
from pvc_core.placement_bulk_pools import Nodes, Pool, Scores
from pvc_core.placement_steps import REQUIRED_FILTERS, default_selector, scores_by
from pvc_core.plan_columns import EmptyNodes, Opening, limits_vcpus, room_mib, room_vcpus
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, SelectorEntry
from pvc_core.selector_expression import parse_selector
from pvc_core.snapshot import ClusterSnapshot


def place_in_bulk(
    requests: Iterable[PlacementRequest], snapshot: ClusterSnapshot, placer: Placer
) -> tuple[Decision, ...]:
    """As `Placer.place_many`, decisions only: one that found a node may come without ranking and rejections."""
    bulk = _Bulk(snapshot, placer)
    return tuple(bulk.place(request) for request in bulk.planner.in_order(requests))


class _Bulk:
    """A cluster while VMs are placed on it one after the other."""

    def __init__(self, snapshot: ClusterSnapshot, placer: Placer) -> None:
        drivers = placer.drivers
        self.planner = placer.planner(snapshot)
        self._drivers = drivers
        self._settings = snapshot.settings
        self._empty = EmptyNodes(snapshot, placer)
        self._has_short_cut = self._empty.is_said_by_numbers and drivers.filters.keys() >= {*REQUIRED_FILTERS}
        self._counts_vcpus = limits_vcpus(drivers, snapshot.settings)
        self._nodes = Nodes(self.planner.capacities, self._room)
        self._scores: dict[str, Scores | None] = {}
        self._pools: dict[tuple[Opening, Scores, int], Pool] = {}
        self._latest_failure: tuple[object, Decision] | None = None

    def place(self, request: PlacementRequest) -> Decision:
        """The decision for one VM; its place is taken."""
        if not self._has_short_cut or self.planner.is_under_rules(request):
            return self._in_full(request)
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

    def _in_full(self, request: PlacementRequest) -> Decision:
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
        decision = self._in_full(request)
        if repeats and not decision.node:
            self._latest_failure = (alike, decision)
        return decision

    def _best(self, request: PlacementRequest) -> tuple[SelectorEntry, int] | None:
        """The selector and the node it prefers; None when there is no short cut to it, or no such node."""
        scores, opening = self._scores_for(request), self._empty.opening(request)
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
            free_mib, free_vcpus = self._room(capacity)
            if node in pool.members and free_mib >= request.memory_mib and free_vcpus >= pool.vcpus:
                score = scores.of(request, [capacity])[capacity.name]
                options.append((-score, capacity.name != request.current_node, node))
        return options

    def _pool(self, request: PlacementRequest, scores: Scores, opening: Opening) -> Pool:
        vcpus = request.vcpus if self._counts_vcpus else 0
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

    def _room(self, node: NodeCapacity) -> tuple[int, int]:
        return (room_mib(node, self._settings), room_vcpus(node, self._settings) if self._counts_vcpus else 0)
