# SPDX-License-Identifier: Apache-2.0
"""empty_nodes: which nodes are open to a VM, their sizes and what is on them left aside.

A search over many VMs asks this of each, but filters answer it alike for most of them. So they are asked once for all
VMs of which they know no difference, and about no node that takes no VM at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from pvc_core.model import Settings
from pvc_core.placement_drivers import PlacementDrivers
from pvc_core.placement_steps import filter_nodes
from pvc_core.plugin_types import NodeCapacity, PlacementRequest

BY_NUMBERS = frozenset({"limit", "ready", "memory", "vcpus", "exclude", "rules", "storage"})
"""Filters whose whole verdict is in the columns, as long as no rule of the cluster is about the VMs."""


class EmptyNodes:
    """Which nodes would take a VM if nothing were on them: by PVC's own filters, rules and sizes left aside.

    The filters are asked once for all VMs of which they know no difference.
    """

    def __init__(self, drivers: PlacementDrivers, capacities: Mapping[str, NodeCapacity], settings: Settings) -> None:
        self._drivers = drivers
        self._settings = settings
        self._nodes = [emptied(node) for node in capacities.values()]
        self._index = {name: index for index, name in enumerate(capacities)}
        self._known: dict[object, Opening] = {}

    def opening(self, request: PlacementRequest) -> Opening:
        """The nodes that would take it."""
        if not self.is_said_by_numbers:
            return self._asked(request.uuid, request, self._nodes)
        to_any = self.opening_to_any(request)
        limit, storage = request.metadata.node_limit, request.storage
        exclude = request.exclude & to_any.names
        if not (limit or exclude or storage):
            return to_any
        asked = replace(request, memory_mib=0, vcpus=0, exclude=exclude)
        key = (limit, exclude, request.accept_unflushing, storage)
        return self._asked(key, asked, [self._nodes[node] for node in to_any.nodes])

    def opening_to_any(self, request: PlacementRequest) -> Opening:
        """The nodes that would take it if it might go anywhere and had no volumes; `is_said_by_numbers` only."""
        accepts = request.accept_unflushing
        found = self._known.get(accepts)
        if found is None:
            metadata = msgspec.structs.replace(request.metadata, node_limit=())
            unbound = replace(request, memory_mib=0, vcpus=0, metadata=metadata, exclude=frozenset(), storage=())
            found = self._asked(accepts, unbound, self._nodes)
        return found

    def _asked(self, key: object, request: PlacementRequest, nodes: Sequence[NodeCapacity]) -> Opening:
        found = self._known.get(key)
        if found is None:
            filtered = filter_nodes(self._drivers, request, nodes, self._settings)
            names = frozenset(node.name for node in filtered.candidates)
            open_nodes = tuple(self._index[node.name] for node in filtered.candidates)
            found = self._known[key] = Opening(open_nodes, names, not filtered.failures)
        return found

    @cached_property
    def is_said_by_numbers(self) -> bool:
        """Whether nothing but the room on them keeps these nodes from taking a VM that no rule is about."""
        return self._drivers.filters.keys() <= BY_NUMBERS


@dataclass(frozen=True, eq=False, slots=True)
class Opening:
    """Nodes by index, in the order of names; whether every filter has answered. Equal only to itself."""

    nodes: tuple[int, ...]
    names: frozenset[str]
    is_certain: bool


def emptied(node: NodeCapacity) -> NodeCapacity:
    """The node as if nothing were assigned to it and nothing ran there."""
    return msgspec.structs.replace(
        node,
        assigned_mib=0,
        running_mib=0,
        memory_available_mib=node.memory_total_mib,
        assigned_vcpus=0,
        assigned_vms=0,
        coming_vcpus=0,
    )
