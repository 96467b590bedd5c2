# SPDX-License-Identifier: Apache-2.0
"""balance_columns: the nodes in service and the VMs on them that may be moved, as columns of numbers.

May be moved: runs, on a node in service, and migrates live. Everything else is part of what its node has to carry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from pvc_core.balance_order import Move
from pvc_core.balance_rules import Bond, bonds_of
from pvc_core.balance_score import Evenness, NodeLoads, by_numbers
from pvc_core.empty_nodes import BY_NUMBERS
from pvc_core.model import VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plan_columns import Columns, Veto, columns_of, limits_vcpus, veto_of
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot

UNLIMITED = 10**9


@dataclass(frozen=True)
class Movables:
    """The VMs that may be moved, by index; nodes are indices into `NodeLoads`.

    at: where each is. may: where it may be, in any order. rivals: VMs, by index, that must not share a node.
    room_mib, room_vcpus: what each node may still be given.
    """

    at: tuple[int, ...]
    memory_mib: tuple[int, ...]
    vcpus: tuple[int, ...]
    may: tuple[tuple[int, ...], ...]
    room_mib: tuple[int, ...]
    room_vcpus: tuple[int, ...]
    rivals: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def move(self, vm: int, node: int) -> Move:
        """The VM going from where it is to the node."""
        return Move(vm, self.at[vm], node, self.memory_mib[vm], self.vcpus[vm])


@dataclass
class Standing:
    """Where the VMs are while moves are tried; what a move changes of it is kept by `put`.

    now: how even it is. where: the node of each VM. room_*: what each node may still be given. here: per node the VMs.
    """

    loads: NodeLoads
    movables: Movables
    now: Evenness = field(init=False)
    where: list[int] = field(init=False)
    room_mib: list[int] = field(init=False)
    room_vcpus: list[int] = field(init=False)
    here: list[set[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.now = Evenness(self.loads)
        self.where = list(self.movables.at)
        self.room_mib, self.room_vcpus = list(self.movables.room_mib), list(self.movables.room_vcpus)
        self.here = [set() for _ in self.loads.nodes]
        for vm, node in enumerate(self.where):
            self.here[node].add(vm)

    def put(self, vm: int, node: int) -> None:
        """The VM goes to the node."""
        source, memory_mib, vcpus = self.where[vm], self.movables.memory_mib[vm], self.movables.vcpus[vm]
        self.now.move(memory_mib, vcpus, source, node)
        self.room_mib[source] += memory_mib
        self.room_vcpus[source] += vcpus
        self.room_mib[node] -= memory_mib
        self.room_vcpus[node] -= vcpus
        self.where[vm] = node
        self.here[source].remove(vm)
        self.here[node].add(vm)


@dataclass(frozen=True)
class BalanceColumns:
    """Of one snapshot. vms: the records in the order of `movables`.

    movables: with the nodes that filters allow, whatever rules say. bonds: the rules. outside: the VMs on nodes
    outside their limits, by index; bound_outside: those that cannot migrate live. veto: None when the columns and
    bonds say everything.
    """

    loads: NodeLoads
    vms: tuple[VmRecord, ...]
    movables: Movables
    bonds: tuple[Bond, ...]
    outside: tuple[int, ...]
    bound_outside: tuple[VmRecord, ...]
    veto: Veto | None

    def after(self, moves: Sequence[Move]) -> BalanceColumns:
        """The same when these moves are done. Limits go where their VMs go; what was moved is not outside any more."""
        loads, movables = self.loads, self.movables
        used_mib, used_vcpus = list(loads.used_mib), list(loads.used_vcpus)
        room_mib, room_vcpus = list(movables.room_mib), list(movables.room_vcpus)
        at = list(movables.at)
        for move in moves:
            for node, sign in ((move.source, -1), (move.target, 1)):
                used_mib[node] += sign * move.memory_mib
                used_vcpus[node] += sign * move.vcpus
                room_mib[node] -= sign * move.memory_mib
                room_vcpus[node] -= sign * move.vcpus
            at[move.vm] = move.target
        return replace(
            self,
            loads=replace(loads, used_mib=tuple(used_mib), used_vcpus=tuple(used_vcpus)),
            movables=replace(movables, room_mib=tuple(room_mib), room_vcpus=tuple(room_vcpus), at=tuple(at)),
            outside=tuple(vm for vm in self.outside if at[vm] == movables.at[vm]),
            veto=self.veto and _later(self.veto, movables.at, at),
        )


def _later(veto: Veto, before: Sequence[int], now: Sequence[int]) -> Veto:
    """A veto that is told who has come and gone since some VMs went from their nodes before to where they are now."""
    arrived, left = defaultdict[int, set[int]](set), defaultdict[int, set[int]](set)
    for vm, node in enumerate(now):
        if node != before[vm]:
            arrived[node].add(vm)
            left[before[vm]].add(vm)

    def also(vm: int, node: int, come: Collection[int], gone: Collection[int]) -> bool:
        there, away, coming, going = arrived[node], left[node], set(come), set(gone)
        return veto(vm, node, sorted((there - going) | (coming - away)), sorted((away - coming) | (going - there)))

    return also


def balance_columns(snapshot: ClusterSnapshot, placer: Placer, loads: NodeLoads) -> BalanceColumns:
    """The columns of the snapshot. Filters of third parties are asked about every VM and node, PVC's own far less."""
    nodes = {name: index for index, name in enumerate(loads.nodes)}
    running = [vm.value for vm in snapshot.vms.values() if vm.value.state is VmState.RUNNING and vm.value.node in nodes]
    vms = tuple(sorted((vm for vm in running if may_be_moved(vm)), key=lambda vm: vm.name))
    bound = tuple(vm for vm in running if not may_be_moved(vm))
    requests = [PlacementRequest.for_vm(vm) for vm in (*vms, *bound)]
    limits = columns_of([_without_rules(request) for request in requests], snapshot, by_numbers(placer))
    within_limits = _in_service(limits, nodes)
    outside = [vm for vm, request in enumerate(requests) if nodes[request.current_node] not in within_limits[vm]]
    requests, within_limits = requests[: len(vms)], within_limits[: len(vms)]
    at = tuple(nodes[vm.node] for vm in vms)
    here = [limits.index(name) for name in loads.nodes]
    has_limit = limits_vcpus(placer.drivers, snapshot.settings)
    may, veto = within_limits, None
    if not placer.drivers.filters.keys() <= BY_NUMBERS:
        may = _in_service(columns_of(requests, snapshot, placer), nodes)
        all_filters = veto_of(requests, snapshot, placer, placer.capacities(snapshot))

        def veto(vm: int, node: int, come: Collection[int], gone: Collection[int]) -> bool:
            return all_filters(vm, here[node], come, gone)

    return BalanceColumns(
        loads=loads,
        vms=vms,
        movables=Movables(
            at=at,
            memory_mib=tuple(vm.memory_mib for vm in vms),
            vcpus=tuple(vm.vcpus for vm in vms),
            may=may,
            room_mib=tuple(limits.free_mib[node] for node in here),
            room_vcpus=tuple(limits.free_vcpus[node] if has_limit else UNLIMITED for node in here),
        ),
        bonds=bonds_of(placer.rulebook(snapshot), vms, nodes),
        outside=tuple(vm for vm in outside if vm < len(vms)),
        bound_outside=tuple(bound[vm - len(vms)] for vm in outside if vm >= len(vms)),
        veto=veto,
    )


def may_be_moved(vm: VmRecord) -> bool:
    """Whether a balance may migrate it when it runs. One that cannot migrate live would have to be restarted."""
    return vm.metadata.migration_method != "shutdown"


def _in_service(columns: Columns, nodes: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
    """Where the VMs may go, as indices of the nodes in service."""
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    for may in columns.may:
        if may not in known:
            known[may] = tuple(nodes[columns.nodes[node]] for node in may if columns.nodes[node] in nodes)
    return tuple(known[may] for may in columns.may)


def _without_rules(request: PlacementRequest) -> PlacementRequest:
    """The request of a VM that no rule is about: rules have columns of their own."""
    return replace(request, vm="", metadata=msgspec.structs.replace(request.metadata, tags=()))
