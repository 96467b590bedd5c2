# SPDX-License-Identifier: Apache-2.0
"""plan_columns: what a search over many arrangements needs to know of a cluster, as columns of numbers.

A filter is asked thousands of times in such a search, so its answer is taken apart once: which nodes would take
the VM if they were empty (limit, mode, whatever a plugin rejects), and how much memory and how many vCPUs each node
has left. Filters beyond PVC's own may look at more than that; they are asked again about every step, as
`Columns.veto`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pvc_core.capacity_view import with_vm, without_vm
from pvc_core.empty_nodes import BY_NUMBERS
from pvc_core.model import Settings
from pvc_core.placement import Placer
from pvc_core.placement_drivers import PlacementDrivers
from pvc_core.placement_steps import filter_nodes
from pvc_core.plugin_types import NodeCapacity, PlacementRequest
from pvc_core.rule_verdicts import Course, verdict
from pvc_core.snapshot import ClusterSnapshot


class Veto(Protocol):
    """Whether a plugin's filter refuses a VM on a node to which some VMs have come and from which some have gone."""

    def __call__(self, vm: int, node: int, come: Collection[int], gone: Collection[int]) -> bool: ...


@dataclass(frozen=True)
class Columns:
    """VMs and nodes by index. may: per VM the nodes that would take it if they were empty, in the order of names.

    free_*: what each node may still be given, everything in its ledger subtracted; below 0 when it holds too much.
    vcpus, free_vcpus: all 0 where the cluster sets them no limit. veto: None when the columns say everything.
    VMs that may go to the same nodes share one tuple of them.
    """

    nodes: tuple[str, ...]
    free_mib: tuple[int, ...]
    free_vcpus: tuple[int, ...]
    memory_mib: tuple[int, ...]
    vcpus: tuple[int, ...]
    may: tuple[tuple[int, ...], ...]
    veto: Veto | None = None

    def room(self) -> Room:
        """All the room there is at first, to be taken."""
        return Room(self, list(self.free_mib), list(self.free_vcpus))

    def index(self, node: str) -> int:
        """The node's index; -1 when there is none of that name."""
        try:
            return self.nodes.index(node)
        except ValueError:
            return -1


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on the nodes while VMs come and go."""

    columns: Columns
    free_mib: list[int]
    free_vcpus: list[int]

    def fits(self, vm: int, node: int) -> bool:
        """Whether the node has room for the VM now."""
        columns = self.columns
        return self.free_mib[node] >= columns.memory_mib[vm] and self.free_vcpus[node] >= columns.vcpus[vm]

    def take(self, vm: int, node: int) -> None:
        """The VM comes to the node."""
        self.free_mib[node] -= self.columns.memory_mib[vm]
        self.free_vcpus[node] -= self.columns.vcpus[vm]

    def give_back(self, vm: int, node: int) -> None:
        """The VM leaves the node."""
        self.free_mib[node] += self.columns.memory_mib[vm]
        self.free_vcpus[node] += self.columns.vcpus[vm]


def room_mib(node: NodeCapacity, settings: Settings) -> int:
    """What the node may still be given by the rules of the filter `memory`; negative when it holds too much."""
    return int((node.memory_total_mib - settings.memory_reserve_mib) * settings.memory_overcommit) - node.assigned_mib


def room_vcpus(node: NodeCapacity, settings: Settings) -> int:
    """As many vCPUs as the node may still be given by the rules of the filter `vcpus`, where there is a limit."""
    return int(node.cores * settings.vcpu_overcommit) - node.assigned_vcpus


def limits_vcpus(drivers: PlacementDrivers, settings: Settings) -> bool:
    """Whether vCPUs decide about places at all."""
    return settings.vcpu_overcommit > 0 and "vcpus" in drivers.filters


def columns_of(requests: Sequence[PlacementRequest], snapshot: ClusterSnapshot, placer: Placer) -> Columns:
    """The columns of these VMs on all nodes of the snapshot."""
    capacities, settings = placer.capacities(snapshot), snapshot.settings
    empty = placer.empty_nodes(snapshot)
    counts_vcpus = limits_vcpus(placer.drivers, settings)
    return Columns(
        nodes=tuple(capacities),
        free_mib=tuple(room_mib(node, settings) for node in capacities.values()),
        free_vcpus=tuple(room_vcpus(node, settings) if counts_vcpus else 0 for node in capacities.values()),
        memory_mib=tuple(request.memory_mib for request in requests),
        vcpus=tuple(request.vcpus if counts_vcpus else 0 for request in requests),
        may=tuple(empty.opening(request).nodes for request in requests),
        veto=veto_where_needed(requests, snapshot, placer),
    )


def veto_where_needed(requests: Sequence[PlacementRequest], snapshot: ClusterSnapshot, placer: Placer) -> Veto | None:
    """What all filters say, of the VMs of which columns do not say everything; None when there are none."""
    book, certain = placer.rulebook(snapshot), placer.drivers.filters.keys() <= BY_NUMBERS
    doubtful = {
        vm for vm, request in enumerate(requests) if not certain or book.concerns(request.vm, request.metadata.tags)
    }
    if not doubtful:
        return None
    asked = veto_of(requests, snapshot, placer, placer.capacities(snapshot))

    def veto(vm: int, node: int, come: Collection[int], gone: Collection[int]) -> bool:
        return vm in doubtful and asked(vm, node, come, gone)

    return veto


def veto_of(
    requests: Sequence[PlacementRequest],
    snapshot: ClusterSnapshot,
    placer: Placer,
    capacities: Mapping[str, NodeCapacity],
) -> Veto:
    """What all filters say of one of these VMs on a node after some have come there and some have gone."""
    names = tuple(capacities)
    book = placer.rulebook(snapshot)
    leaving = {request.uuid for request in requests if request.current_node in request.exclude}

    def ruled(request: PlacementRequest, node: str, come: Collection[int], gone: Collection[int]) -> PlacementRequest:
        """With what the rules say. Others that have to leave as well may go anywhere, so nobody is bound to them."""
        if not book.concerns(request.vm, request.metadata.tags):
            return request
        placed = {requests[other].uuid: node for other in come}
        course = Course(placed, leaving - placed.keys(), {requests[other].uuid for other in gone})
        return replace(request, rules=verdict(request, book, snapshot, (node,), course))

    def veto(vm: int, node: int, come: Collection[int], gone: Collection[int]) -> bool:
        capacity = without_vm(capacities[names[node]], snapshot, requests[vm].uuid)
        for other in gone:
            capacity = without_vm(capacity, snapshot, requests[other].uuid)
        for other in come:
            capacity = with_vm(capacity, requests[other])
        asked = ruled(requests[vm], names[node], come, gone)
        return not filter_nodes(placer.drivers, asked, (capacity,), snapshot.settings).candidates

    return veto
