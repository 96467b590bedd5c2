# SPDX-License-Identifier: Apache-2.0
"""placement_room: many VMs that wait for a place are placed, of which most find none, or are not the ones that count.

While a cluster is full, or much of it is away, hundreds of VMs wait, and after every change it is asked whether there
is a place now. That none has room for a VM is seen by a comparison of sizes, as long as nothing but PVC's own filters
decides. Of those that find one, only the decisions that somebody wants are made in full; the others take their place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from pvc_core.empty_nodes import Opening
from pvc_core.model import VmRecord
from pvc_core.placement import Decision, Placer, Planner
from pvc_core.placement_bulk import Bulk
from pvc_core.plan_columns import room_mib
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot


def places_in_short(
    requests: Iterable[PlacementRequest],
    snapshot: ClusterSnapshot,
    placer: Placer,
    planner: Planner,
    told: Collection[str] = (),
    behind: Collection[str] = (),
) -> Iterator[Decision]:
    """As `Planner.place_all`, decisions only: of a VM that finds a node, it is told in full for the UUIDs in `told`.

    That a VM finds none is not told at all. behind: as of `Placer.place_many`.
    """
    bulk = Bulk(snapshot, placer, planner)
    rooms = _Rooms(bulk)
    for request in planner.in_order(requests, behind):
        if rooms.lack(request):
            yield Decision(vm=request.vm, uuid=request.uuid)
            continue
        decision = bulk.in_full(request) if request.uuid in told else bulk.place_in_short(request)
        if not decision.node:
            rooms.measure(request)
        yield decision


def those_with_room(records: Sequence[VmRecord], snapshot: ClusterSnapshot, placer: Placer) -> list[VmRecord]:
    """Those of the VMs, which are off, for which some node that is in service may have room: before much is asked."""
    empty = placer.empty_nodes(snapshot)
    if not records or not empty.is_said_by_numbers:
        return [*records]
    opening = empty.opening_to_any(PlacementRequest.for_vm(records[0]))
    if not opening.is_certain:
        return [*records]
    capacities = placer.capacities(snapshot)
    most_mib = max((room_mib(capacities[name], snapshot.settings) for name in opening.names), default=-1)
    return [record for record in records if record.memory_mib <= most_mib or record.node in opening.names]


class _Rooms:
    """The most room on any node that is open to VMs of one kind: at most that, for it shrinks as VMs are placed."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._most: dict[Opening, tuple[int, int]] = {}

    def lack(self, request: PlacementRequest) -> bool:
        """Whether no node has a place for this VM, for certain."""
        bulk = self._bulk
        if not bulk.has_short_cut(request):
            return False
        return self._is_lacking(bulk.empty.opening_to_any(request), request) or self._is_lacking(
            bulk.empty.opening(request), request
        )

    def measure(self, request: PlacementRequest) -> None:
        """The room that there is by now for such a VM, which found less than it seemed."""
        if self._bulk.has_short_cut(request):
            for opening in (self._bulk.empty.opening_to_any(request), self._bulk.empty.opening(request)):
                self._most[opening] = self._most_of(opening)

    def _is_lacking(self, opening: Opening, request: PlacementRequest) -> bool:
        """On nodes that hold the VM already, it has its own place as well."""
        if not opening.is_certain:
            return False
        most = self._most.get(opening)
        if most is None:
            most = self._most[opening] = self._most_of(opening)
        own = self._bulk.planner.own_nodes(request)
        rooms = [most, *(self._bulk.room(node) for name, node in own.items() if name in opening.names)]
        memory_mib, vcpus = self._bulk.need(request)
        return all(free_mib < memory_mib or free_vcpus < vcpus for free_mib, free_vcpus in rooms)

    def _most_of(self, opening: Opening) -> tuple[int, int]:
        capacities = self._bulk.planner.capacities
        rooms = [self._bulk.room(capacities[name]) for name in opening.names]
        return max((mib for mib, _ in rooms), default=-1), max((vcpus for _, vcpus in rooms), default=-1)
