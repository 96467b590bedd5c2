# SPDX-License-Identifier: Apache-2.0
"""planner: how a set of VMs gets to other places: steps that fit at every moment, as few as possible, or why not.

First one VM after the other by their selectors, each decision seeing the ones before it: that spreads. Only where
a VM is left without a place that way, the set is searched as a whole (`plan_assignment`), and where VMs stand in one
another's way also the order of moves (`plan_order`). What the first search finds is put to the filters once more
before it counts; the moves of the second are checked against limits and memory at every step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from pvc_core.limits import nodes_within
from pvc_core.model import VmState
from pvc_core.placement import Decision, Placer
from pvc_core.placement_room import places_in_short
from pvc_core.plan_assignment import NOWHERE, Assignment, assign, weights_of
from pvc_core.plan_columns import Columns, columns_of
from pvc_core.plan_order import Journey, Order, find_order
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot

EFFORT = 100_000
"""How many (VM, node) pairs a search looks at before it gives up: well under a second."""
MOST_VMS = 200
"""Larger sets are placed one by one only."""
NAMED_IN_A_REASON = 3

Action = Literal["migrate", "shutdown", "start"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One VM goes from a node to another. `after`: the steps, by index, that must be done before this one begins."""

    vm: str
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    action: Action = "migrate"
    after: tuple[int, ...] = ()
    reason: str = ""


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """A VM that gets no place, where it is, and why."""

    vm: str
    node: str
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps that fit at every moment, in any order that respects `after`.

    complete: every VM asked for gets a place. proven: there is no better plan; False when a search ended early.
    """

    steps: tuple[Step, ...] = ()
    stay: tuple[Stay, ...] = ()
    complete: bool = True
    proven: bool = True


@dataclass(frozen=True)
class Wish:
    """A VM that is to get another place: any that the filters allow, or the node `to`."""

    request: PlacementRequest
    to: str = ""
    action: Action = "migrate"


@dataclass(frozen=True)
class Arrangement:
    """A decision per request, most urgent first; proven: as many have a place as possible, by priority."""

    decisions: tuple[Decision, ...]
    proven: bool


def arrange(
    requests: Iterable[PlacementRequest],
    snapshot: ClusterSnapshot,
    placer: Placer,
    effort: int = EFFORT,
    behind: Collection[str] = (),
    told: Collection[str] | None = None,
) -> Arrangement:
    """A place for each VM, where the order of moves does not matter: of a drained or lost node.

    By their selectors one by one; if that leaves one out, in the arrangement that leaves out as few as possible.
    behind: the UUIDs of VMs that come after all others of the same priority. told: the UUIDs of those whose decision
    is told in full if it finds a node, all others come in short, as of `places_in_short`; None: all are told in full.
    """
    by_uuid = {request.uuid: request for request in requests}
    if told is None:
        decisions = placer.place_many(by_uuid.values(), snapshot, behind)
    else:
        planner = placer.planner(snapshot)
        decisions = tuple(places_in_short(by_uuid.values(), snapshot, placer, planner, told, behind))
    left_out = [decision for decision in decisions if not decision.node]
    if not left_out:
        return Arrangement(decisions, True)
    if len(decisions) > MOST_VMS:
        return Arrangement(decisions, False)
    ordered = [by_uuid[decision.uuid] for decision in decisions]
    columns = columns_of(ordered, snapshot, placer)
    weights = weights_of([2 * request.metadata.priority - (request.uuid in behind) for request in ordered])
    found = assign(columns, weights, effort)
    gained = sum(weights[vm] for vm, node in enumerate(found.nodes) if node != NOWHERE)
    if gained <= sum(weight for weight, decision in zip(weights, decisions, strict=True) if decision.node):
        return Arrangement(decisions, found.proven)
    checked = _checked(ordered, columns, found, snapshot, placer, _listed([one.vm for one in left_out]))
    return Arrangement(checked or decisions, found.proven and bool(checked))


def _checked(
    requests: Sequence[PlacementRequest],
    columns: Columns,
    found: Assignment,
    snapshot: ClusterSnapshot,
    placer: Placer,
    left_out: str,
) -> tuple[Decision, ...]:
    """The arrangement as decisions of the filters; empty when one of them disagrees."""
    planner, decisions = placer.planner(snapshot), dict[int, Decision]()
    for vm, node in sorted(enumerate(found.nodes), key=lambda pair: pair[1] == NOWHERE):
        name = columns.nodes[node] if node != NOWHERE else ""
        decision = planner.place(requests[vm], only=name)
        if decision.node != name:
            return ()
        if name:
            reason = f"{name}, in an arrangement of all: placed one by one, {left_out} would find no place"
            decision = msgspec.structs.replace(decision, reason=reason)
        decisions[vm] = decision
    return tuple(decisions[vm] for vm in range(len(requests)))


def plan(
    wishes: Sequence[Wish],
    snapshot: ClusterSnapshot,
    placer: Placer,
    *,
    may_move_others: bool = False,
    effort: int = EFFORT,
) -> Plan:
    """The fewest steps that bring the VMs to their places.

    may_move_others: running VMs that were not asked for may be migrated to make room.
    """
    wishes = [wish for wish in wishes if not wish.to or wish.to != wish.request.current_node]
    requests = [_bound(wish, snapshot) for wish in wishes]
    arrangement = arrange(requests, snapshot, placer, effort)
    places = {decision.uuid: decision for decision in arrangement.decisions}
    if all(decision.node for decision in places.values()):
        return _plan_of_places(wishes, arrangement, snapshot, placer, proven=True)
    crowded = may_move_others or _stand_in_the_way(wishes)
    if not crowded or len(wishes) > MOST_VMS:
        return _plan_of_places(wishes, arrangement, snapshot, placer, proven=arrangement.proven and not crowded)
    return _plan_of_order(wishes, snapshot, placer, arrangement, may_move_others, effort)


def _bound(wish: Wish, snapshot: ClusterSnapshot) -> PlacementRequest:
    """The request for the place that counts: a wish for one node is a limit to it, within the VM's own."""
    limit = wish.request.metadata.node_limit
    if not wish.to:
        return wish.request
    within = nodes_within(limit, snapshot)
    narrowed = (wish.to,) if wish.to in within or not limit else limit
    exclude = wish.request.exclude if narrowed == (wish.to,) else wish.request.exclude | within
    metadata = msgspec.structs.replace(wish.request.metadata, node_limit=narrowed)
    return replace(wish.request, metadata=metadata, exclude=exclude)


def _stand_in_the_way(wishes: Sequence[Wish]) -> bool:
    """Whether the place that one of them leaves may be what another waits for."""
    sources = {wish.request.current_node for wish in wishes if wish.action == "migrate"}
    excluded = [wish.request.exclude for wish in wishes]
    return any(wish.to in sources for wish in wishes) or any(not sources <= nodes for nodes in excluded)


def _plan_of_places(
    wishes: Sequence[Wish], arrangement: Arrangement, snapshot: ClusterSnapshot, placer: Placer, *, proven: bool
) -> Plan:
    by_uuid = {wish.request.uuid: wish for wish in wishes}
    steps, stay = [], []
    for decision in arrangement.decisions:
        wish = by_uuid[decision.uuid]
        source = wish.request.current_node
        if decision.node:
            steps.append(
                Step(vm=decision.vm, source=source, target=decision.node, action=wish.action, reason=decision.reason)
            )
        else:
            stay.append(Stay(vm=decision.vm, node=source, reason=_why_no_place(wish, decision, snapshot, placer)))
    return Plan(steps=tuple(steps), stay=tuple(stay), complete=not stay, proven=proven)


def _why_no_place(wish: Wish, decision: Decision, snapshot: ClusterSnapshot, placer: Placer) -> str:
    """Why the VM's own filters refuse it; of a wish for one node, what that node says."""
    if not wish.to:
        return decision.reason
    return placer.place(wish.request, snapshot, only=wish.to).reason


# ---------------------------------------------------------------------------------------- where order matters


def _plan_of_order(
    wishes: Sequence[Wish],
    snapshot: ClusterSnapshot,
    placer: Placer,
    arrangement: Arrangement,
    may_move_others: bool,
    effort: int,
) -> Plan:
    asked = {wish.request.uuid for wish in wishes}
    requests = [wish.request for wish in wishes]
    if may_move_others:
        requests += [
            PlacementRequest.for_vm(vm.value)
            for vm in snapshot.vms.values()
            if vm.value.state is VmState.RUNNING and vm.value.uuid not in asked
        ]
    columns = columns_of(requests, snapshot, placer)
    at = [columns.index(request.current_node) for request in requests]
    goals = {
        vm: frozenset(node for node in columns.may[vm] if node != at[vm] and wish.to in ("", columns.nodes[node]))
        for vm, wish in enumerate(wishes)
    }
    # Whoever has no goal at all cannot be helped, and must not keep the search from ending with the others' arrival.
    goals = {vm: nodes for vm, nodes in goals.items() if nodes}
    priorities = [wish.request.metadata.priority for wish in wishes]
    weights = {vm: weight for vm, weight in enumerate(weights_of(priorities)) if vm in goals}
    order = find_order(columns, Journey(at, goals, weights), effort)
    placed = sum(1 for decision in arrangement.decisions if decision.node)
    if len(order.arrived) < placed and not order.proven:
        return _plan_of_places(wishes, arrangement, snapshot, placer, proven=False)
    steps = tuple(_steps(wishes, requests, columns, at, goals, order))
    why = "no order of moves makes room for it" if order.proven else "no order of moves was found that makes room"
    by_uuid = {decision.uuid: decision for decision in arrangement.decisions}
    stay = []
    for vm, wish in enumerate(wishes):
        if vm not in order.arrived:
            decision = by_uuid[wish.request.uuid]
            reason = "no candidate" if decision.node else _why_no_place(wish, decision, snapshot, placer)
            stay.append(Stay(vm=wish.request.vm, node=wish.request.current_node, reason=f"{reason}; {why}"))
    return Plan(steps=steps, stay=tuple(stay), complete=not stay, proven=order.proven)


def _steps(
    wishes: Sequence[Wish],
    requests: Sequence[PlacementRequest],
    columns: Columns,
    at: Sequence[int],
    goals: dict[int, frozenset[int]],
    order: Order,
) -> Iterable[Step]:
    """The moves as steps. A step waits for the VMs whose leaving makes its room, and for its own VM's last step."""
    where, room = list(at), columns.room()
    left: dict[int, list[tuple[int, int]]] = {}
    last: dict[int, int] = {}
    for index, (vm, node) in enumerate(order.moves):
        source = where[vm]
        room.take(vm, node)
        after = {last[vm]} if vm in last else set()
        free_mib, free_vcpus = room.free_mib[node], room.free_vcpus[node]
        for step, other in left.get(node, ()):
            if free_mib >= 0 and free_vcpus >= 0 and columns.veto is None:
                break
            after.add(step)
            free_mib, free_vcpus = free_mib + columns.memory_mib[other], free_vcpus + columns.vcpus[other]
        left.setdefault(source, []).append((index, vm))
        where[vm], last[vm] = node, index
        yield Step(
            vm=requests[vm].vm,
            source=columns.nodes[source] if source >= 0 else requests[vm].current_node,
            target=columns.nodes[node],
            action=wishes[vm].action if vm < len(wishes) else "migrate",
            after=tuple(sorted(after)),
            reason=_why(vm, node, source, index, order, goals, requests, columns),
        )


def _why(
    vm: int,
    node: int,
    source: int,
    index: int,
    order: Order,
    goals: dict[int, frozenset[int]],
    requests: Sequence[PlacementRequest],
    columns: Columns,
) -> str:
    if node in goals.get(vm, ()) and all(later != vm for later, _ in order.moves[index + 1 :]):
        return f"{columns.nodes[node]} has room for it then"
    follower = next((later for later, there in order.moves[index + 1 :] if there == source), None)
    what = "steps aside" if vm not in goals else "is parked"
    made = f" and makes room on {columns.nodes[source]} for {requests[follower].vm}" if follower is not None else ""
    return f"{what} on {columns.nodes[node]}{made}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_IN_A_REASON
    return ", ".join(names[:NAMED_IN_A_REASON]) + (f" and {more} more" if more > 0 else "")
