# SPDX-License-Identifier: Apache-2.0
"""capacity_view: how much room each node has, from its ledger and its report, summed once and remembered.

A ledger changes with every assignment and a report every few seconds, but a placement asks for all nodes. So
the sums are kept per node for as long as the snapshot holds the very same ledger, report and member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.fence_standing import why_not_admitted
from pvc_core.model import Ledger, Member, NodeReport, Reservation, VmState
from pvc_core.plugin_types import NO_LABELS, NO_STORAGE, NodeCapacity, PlacementRequest
from pvc_core.snapshot import ClusterSnapshot, NodeView

WILL_RUN = frozenset({VmState.STARTING, VmState.RUNNING, VmState.RESTARTING})
"""States of a VM that has no domain yet but is about to have one."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """The sums over one node's ledger, and the reservations behind which no running domain stands."""

    ledger: Stored[Ledger] | None
    report: Stored[NodeReport] | None
    member: Stored[Member] | None
    assigned_mib: int
    running_mib: int
    assigned_vcpus: int
    idle: Mapping[str, Reservation]
    storage: Mapping[str, str]


class CapacityView:
    """Capacities per snapshot. Thread-safe: what two threads compute at once is equal, and either may be kept."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._latest: tuple[ClusterSnapshot, Mapping[str, NodeCapacity]] | None = None
        self._known: dict[str, tuple[NodeView, NodeCapacity]] = {}
        """What was given of each node last, and of what; it is given again as long as it is the same."""

    def of(self, snapshot: ClusterSnapshot) -> Mapping[str, NodeCapacity]:
        """Every node's capacity, by name, in the order of the names."""
        latest = self._latest
        if latest is not None and latest[0] is snapshot:
            return latest[1]
        sums = {name: self._sums_of(view) for name, view in snapshot.nodes.items()}
        capacities = {name: self._capacity_of(snapshot.nodes[name], sums[name], snapshot) for name in sorted(sums)}
        self._sums = sums
        self._known = {} if snapshot.broken else {name: (snapshot.nodes[name], capacities[name]) for name in capacities}
        self._latest = (snapshot, MappingProxyType(capacities))
        return self._latest[1]

    def _capacity_of(self, view: NodeView, sums: _Sums, snapshot: ClusterSnapshot) -> NodeCapacity:
        coming_vcpus = sum(held.vcpus for uuid, held in sums.idle.items() if _is_coming(snapshot, uuid, held))
        known = self._known.get(view.name)
        if known is not None and known[0] is view and known[1].coming_vcpus == coming_vcpus and not snapshot.broken:
            return known[1]
        return _capacity(view, sums, coming_vcpus, snapshot)

    def _sums_of(self, view: NodeView) -> _Sums:
        known = self._sums.get(view.name)
        if (
            known is not None
            and known.ledger is view.ledger
            and known.report is view.report
            and known.member is view.member
        ):
            return known
        reservations = view.reserved.vms
        idle = {uuid: held for uuid, held in reservations.items() if not _runs(view, uuid, held)}
        assigned_mib = view.reserved.memory_mib
        return _Sums(
            ledger=view.ledger,
            report=view.report,
            member=view.member,
            assigned_mib=assigned_mib,
            running_mib=assigned_mib - sum(held.memory_mib for held in idle.values()),
            assigned_vcpus=view.reserved.vcpus,
            idle=idle,
            storage=_storage(view),
        )


def _runs(view: NodeView, uuid: str, reservation: Reservation) -> bool:
    """The node's report shows the domain; a paused one that is arriving has not taken its memory yet."""
    domain = view.report.value.domains.get(uuid) if view.report else None
    return domain is not None and not (reservation.incoming and domain.state == "paused")


def _is_coming(snapshot: ClusterSnapshot, uuid: str, reservation: Reservation) -> bool:
    """A reservation without a running domain that will have one soon, so that its load is still to come."""
    if reservation.incoming:
        return True
    vm = snapshot.vms.get(uuid)
    return vm is not None and vm.value.state in WILL_RUN


def _capacity(view: NodeView, sums: _Sums, coming_vcpus: int, snapshot: ClusterSnapshot) -> NodeCapacity:
    record = view.record.value
    report = view.report.value if view.report else None
    return NodeCapacity(
        name=record.name,
        mode=record.mode,
        alive=view.is_alive,
        left=record.left,
        fenced=record.fenced,
        maintenance=record.maintenance,
        memory_total_mib=report.memory_total_mib if report else 0,
        memory_available_mib=report.memory_available_mib if report else 0,
        cores=report.cores if report else 0,
        load_1m=report.load_1m if report else 0.0,
        assigned_mib=sums.assigned_mib,
        running_mib=sums.running_mib,
        assigned_vcpus=sums.assigned_vcpus,
        assigned_vms=len(view.reserved.vms),
        report_age_s=view.report_age_s if report else None,
        hypervisor_connected=report is not None and report.hypervisor_connected,
        labels=MappingProxyType(record.labels) if record.labels else NO_LABELS,
        coming_vcpus=coming_vcpus,
        problem=_problem(view, snapshot),
        storage=sums.storage,
    )


def _storage(view: NodeView) -> Mapping[str, str]:
    """The backends of the node's daemon, with what it said of each; nothing bad of one it has not looked at yet."""
    installed = view.member.value.drivers.get("storage_backends", ()) if view.member else ()
    reports = view.report.value.storage if view.report else {}
    if not (installed or reports):
        return NO_STORAGE
    said = {name: "" if each.usable else each.detail or "it cannot be used" for name, each in reports.items()}
    return MappingProxyType({**dict.fromkeys(installed, ""), **said})


def _problem(view: NodeView, snapshot: ClusterSnapshot) -> str:
    """Why nothing may be placed by the ledger: it does not parse and reads as empty, or guests may run beside it."""
    if snapshot.broken and view.ledger is None and layout.ledger(view.name) in snapshot.broken:
        return "its ledger does not parse"
    return view.reserved.leftover_sentence or why_not_admitted(view.record.value)


def with_vm(capacity: NodeCapacity, request: PlacementRequest) -> NodeCapacity:
    """The node with the requested VM planned onto it."""
    return msgspec.structs.replace(
        capacity,
        assigned_mib=capacity.assigned_mib + request.memory_mib,
        assigned_vcpus=capacity.assigned_vcpus + request.vcpus,
        assigned_vms=capacity.assigned_vms + 1,
        coming_vcpus=capacity.coming_vcpus + request.vcpus,
    )


def without_vm(capacity: NodeCapacity, snapshot: ClusterSnapshot, uuid: str) -> NodeCapacity:
    """The node as if the VM did not stand in its ledger, so that the VM does not compete with itself.

    A running guest gives back what it uses, at most its memory; its share of the load is not known and stays.
    """
    view = snapshot.nodes[capacity.name]
    reservation = view.reserved.vms.get(uuid)
    if reservation is None:
        return capacity
    memory_mib, vcpus = reservation.memory_mib, reservation.vcpus
    runs = _runs(view, uuid, reservation)
    available_mib = min(capacity.memory_total_mib, capacity.memory_available_mib + (memory_mib if runs else 0))
    comes = not runs and _is_coming(snapshot, uuid, reservation)
    return msgspec.structs.replace(
        capacity,
        assigned_mib=capacity.assigned_mib - memory_mib,
        running_mib=capacity.running_mib - (memory_mib if runs else 0),
        memory_available_mib=available_mib,
        assigned_vcpus=capacity.assigned_vcpus - vcpus,
        assigned_vms=capacity.assigned_vms - 1,
        coming_vcpus=capacity.coming_vcpus - (vcpus if comes else 0),
    )
