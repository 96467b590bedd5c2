# SPDX-License-Identifier: Apache-2.0
"""capacity: which VMs would not come back if a node were lost, for each node in turn, and how many more VMs fit.

Adding up free memory is not enough: what is free in many small pieces holds no large VM. So each loss is played
through the filters that a recovery asks, limits included, as an arrangement of all the node's VMs; only where that
leaves one out are the filters asked for their sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from pvc_core.capacity_refusals import Aftermath, Refusals
from pvc_core.capacity_view import with_vm
from pvc_core.model import VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.placement_steps import filter_nodes
from pvc_core.plan_assignment import NOWHERE, assign, cannot_all_fit, weights_of
from pvc_core.plan_columns import Columns, columns_of
from pvc_core.plugin_types import NodeCapacity, PlacementRequest
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF

EFFORT = 20_000
"""Per node: how many (VM, node) pairs the search for an arrangement looks at."""


class Stranded(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that would not come back, and why."""

    vm: str
    reason: str


class NodeLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What the loss of one node would mean.

    proven: the verdict is certain. False: the search for an arrangement in which all VMs come back ended early, and
    those named are what it was left with.
    """

    survivable: bool
    stranded: tuple[Stranded, ...] = ()
    proven: bool = True


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The loss of each node, by name; and how many more VMs of the size asked for fit, None when none was."""

    nodes: dict[str, NodeLoss]
    fit: int | None = None


@dataclass(frozen=True)
class VmSize:
    """What a VM reserves; both at least 1."""

    memory_mib: int
    vcpus: int


def capacity_of(
    snapshot: ClusterSnapshot, placer: Placer, size: VmSize | None = None, nodes: Collection[str] | None = None
) -> Capacity:
    """The loss of every node in turn, or of `nodes`; and with `size` how many more such VMs fit now."""
    return Capacity(nodes=losses(snapshot, placer, nodes), fit=fit(size, snapshot, placer) if size else None)


# ------------------------------------------------------------------------------------------ losing a node


def losses(snapshot: ClusterSnapshot, placer: Placer, nodes: Collection[str] | None = None) -> dict[str, NodeLoss]:
    """What the loss of each node would mean, by name. nodes: only the losses of these.

    Raises `NotFound` when there is no node of such a name.
    """
    wanted = {
        node: [PlacementRequest.for_vm(vm.value) for vm in snapshot.vms_by_node.get(node, ()) if _runs(vm.value)]
        for node in sorted(snapshot.nodes if nodes is None else {snapshot.node(name).name for name in nodes})
    }
    columns = columns_of([request for requests in wanted.values() for request in requests], snapshot, placer)
    refusals = Refusals(snapshot, placer)
    found, first = {}, 0
    for node, requests in wanted.items():
        mine = range(first, first + len(requests))
        first += len(requests)
        found[node] = _loss(node, requests, _without(columns, node, mine), refusals)
    return found


def _runs(vm: VmRecord) -> bool:
    """Whether it would be missed: it runs or is about to, and is not being shut down."""
    return vm.state not in OFF and vm.state is not VmState.SHUTTING_DOWN


def _without(columns: Columns, node: str, vms: range) -> Columns:
    """The columns of these VMs, on a cluster that has lost the node."""
    lost = columns.index(node)
    shortened: dict[int, tuple[int, ...]] = {}
    for may in columns.may[vms.start : vms.stop]:
        if id(may) not in shortened:
            shortened[id(may)] = tuple(other for other in may if other != lost)
    veto = columns.veto
    return replace(
        columns,
        memory_mib=columns.memory_mib[vms.start : vms.stop],
        vcpus=columns.vcpus[vms.start : vms.stop],
        may=tuple(shortened[id(may)] for may in columns.may[vms.start : vms.stop]),
        veto=veto
        and (lambda vm, there, come, gone: veto(vm + vms.start, there, [other + vms.start for other in come], gone)),
    )


def _loss(node: str, requests: list[PlacementRequest], columns: Columns, refusals: Refusals) -> NodeLoss:
    snapshot, placer = refusals.snapshot, refusals.placer
    weights = weights_of([request.metadata.priority for request in requests])
    book = placer.rulebook(snapshot)
    if any(book.concerns(request.vm, request.metadata.tags) for request in requests):
        return _loss_under_rules(node, requests, columns, weights, snapshot, placer)
    found = assign(columns, weights, EFFORT)
    if found.is_complete:
        return NodeLoss(survivable=True)
    aftermath, left_out = Aftermath(node, refusals), []
    for request, place in zip(requests, found.nodes, strict=True):
        if place == NOWHERE:
            left_out.append(request)
        else:
            aftermath.take(columns.nodes[place], request)
    # A VM that the search had no effort left for may find a place after all.
    reasons = [(request.vm, aftermath.place(request)) for request in left_out]
    stranded = tuple(Stranded(vm=vm, reason=reason) for vm, reason in reasons if reason)
    proven = not stranded or found.proven or cannot_all_fit(columns)
    return NodeLoss(survivable=not stranded, stranded=stranded, proven=proven)


def _loss_under_rules(
    node: str,
    requests: list[PlacementRequest],
    columns: Columns,
    weights: Sequence[int],
    snapshot: ClusterSnapshot,
    placer: Placer,
) -> NodeLoss:
    """Where VMs stand in one another's way by rules, columns say too little: the planner decides, or checks them."""
    planner = placer.planner(snapshot)
    planner.lose(node)
    decisions = planner.place_all(requests)
    left_out = [decision for decision in decisions if not decision.node]
    if not left_out:
        return NodeLoss(survivable=True)
    found = assign(columns, weights, EFFORT)
    if found.is_complete:
        checker = placer.planner(snapshot)
        checker.lose(node)
        places = zip(requests, found.nodes, strict=True)
        if all(checker.place(request, only=columns.nodes[place]).node for request, place in places):
            return NodeLoss(survivable=True)
    stranded = tuple(Stranded(vm=decision.vm, reason=decision.reason) for decision in left_out)
    return NodeLoss(survivable=False, stranded=stranded, proven=cannot_all_fit(columns))


# ------------------------------------------------------------------------------------------ how many more


def fit(size: VmSize, snapshot: ClusterSnapshot, placer: Placer) -> int:
    """How many more VMs of this size the filters let in, without limits or tags of their own."""
    request = PlacementRequest(vm="one more", uuid="", memory_mib=size.memory_mib, vcpus=size.vcpus)

    def takes_one(node: NodeCapacity) -> bool:
        return bool(filter_nodes(placer.drivers, request, (node,), snapshot.settings).candidates)

    return sum(_most(node, request, takes_one) for node in placer.capacities(snapshot).values())


def _most(node: NodeCapacity, request: PlacementRequest, takes_one: Callable[[NodeCapacity], bool]) -> int:
    """The largest number that fits on the node: doubled until it is too large, then halved in between."""

    def fits(number: int) -> bool:
        planned = replace(request, memory_mib=request.memory_mib * (number - 1), vcpus=request.vcpus * (number - 1))
        full = with_vm(node, planned) if number > 1 else node
        return takes_one(msgspec.structs.replace(full, assigned_vms=node.assigned_vms + number - 1))

    low, high = 0, 1
    while fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def sentences(capacity: Capacity) -> Iterator[str]:
    """A line per VM that would not come back."""
    for node, loss in capacity.nodes.items():
        for stranded in loss.stranded:
            yield f"without {node}, {stranded.vm} would not come back: {stranded.reason}"
