# SPDX-License-Identifier: Apache-2.0
"""leader_flush: draining a node: where its VMs go, all planned at once, and what becomes of those without a place.

The same function drains a node and shows beforehand what draining it would do (`pvc node flush --plan`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.leader_actions import FinishDrain, HoldVm, LeaderAction, LeaveVm, MoveVm, Policies, drain_of
from pvc_core.leader_slots import Slots
from pvc_core.model import DrainReport, NodeMode, VmRecord, VmState
from pvc_core.placement import Decision, Placer
from pvc_core.placement_steps import ROOM_FILTERS
from pvc_core.planner import Arrangement, arrange
from pvc_core.plugin_types import PlacementRequest
from pvc_core.policy_answers import policy_says
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF

EFFORT = 20_000
"""How long the search for an arrangement goes on: it is made anew whenever something has changed."""


def refuse_flush(node: NodeView) -> None:
    """Raises `Refused` for a node that cannot be drained."""
    if not node.is_alive:
        raise Refused(node.name, f"its daemon is {node.liveness}; only a node whose daemon runs can be flushed")


def begin_flush(node: NodeView, snapshot: ClusterSnapshot, reason: str, now: str, goes_down: str = "") -> Change:
    """Begin to drain a node. Raises `Refused` for one that cannot be drained.

    goes_down: the session that ends then, if it is drained because its host goes down.
    """
    refuse_flush(node)
    moving = [vm for vm in snapshot.vms_by_node.get(node.name, ()) if vm.value.state not in OFF]
    drain = DrainReport(total=len(moving), started_at=now)
    record = node.record.value
    after = msgspec.structs.replace(
        record, mode=NodeMode.FLUSHING, drain=drain, goes_down=goes_down, reason=reason, changed_at=now
    )
    happening = of_node(EventKind.NODE_FLUSHING, record, after, reason)
    return Change((changes.write_node(node.record, after),), reason, happenings=(happening,))


def flush(
    node: NodeView, snapshot: ClusterSnapshot, placer: Placer, policies: Policies, slots: Slots
) -> list[LeaderAction]:
    """What to do now for a node that is being drained."""
    actions = list(_cannot_move(node, snapshot))
    for decision in places_elsewhere(node, snapshot, placer).decisions:
        if not decision.node:
            if not _will_have_a_place(node.name, decision, snapshot, placer):
                actions.append(_without_candidate(node.name, decision, snapshot, placer, policies))
        elif slots.take(node.name, decision.node):
            reason = f"flush of {node.name}; {decision.reason}"
            actions.append(MoveVm(node.name, decision.uuid, decision.node, reason, decision))
    if not (actions or left_to_drain(node, snapshot)):
        drain = drain_of(node)
        stayed = f", {len(drain.stayed)} VMs stayed" if drain.stayed else ""
        actions.append(FinishDrain(node.name, NodeMode.FLUSHED, f"no VM is left to move{stayed}"))
    return actions


def _due(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[VmRecord]:
    """The VMs that run here and have not been given up."""
    stayed = drain_of(node).stayed
    for vm in snapshot.vms_by_node.get(node.name, ()):
        if vm.value.state is VmState.RUNNING and vm.value.uuid not in stayed:
            yield vm.value


def _is_worn_out(vm: VmRecord, node: NodeView, snapshot: ClusterSnapshot) -> bool:
    """It has been tried as often as it may."""
    return drain_of(node).attempts.get(vm.uuid, 0) >= snapshot.settings.migration_attempts


def _cannot_move(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[LeaderAction]:
    unreadable = changes.unreadable_ledger(snapshot, node.name)
    for vm in _due(node, snapshot):
        if unreadable or _is_worn_out(vm, node, snapshot):
            yield LeaveVm(node.name, vm.uuid, unreadable or vm.reason)


def left_to_drain(node: NodeView, snapshot: ClusterSnapshot) -> bool:
    """Whether a VM runs here still, migrates to here, or stands in the ledger and has not been seen here yet.

    Ledgers and VMs are watched apart, so that one may be newer than the other.
    """
    stayed, own = drain_of(node).stayed, [stored.value for stored in snapshot.vms_by_node.get(node.name, ())]
    if node.name in snapshot.arriving or any(vm.state not in OFF and vm.uuid not in stayed for vm in own):
        return True
    seen = {vm.uuid for vm in own}
    return any(uuid not in seen and layout.vm(uuid) not in snapshot.broken for uuid in node.reserved.vms)


def places_elsewhere(node: NodeView, snapshot: ClusterSnapshot, placer: Placer) -> Arrangement:
    """Where the node's VMs go: all planned at once, so that they spread and leave one another room.

    A move that has begun holds its place in the ledger, so that what is planned for the rest on the next look
    contains it, and an arrangement that has room for all stays one.
    """
    if changes.unreadable_ledger(snapshot, node.name):
        return Arrangement((), True)
    movable = [vm for vm in _due(node, snapshot) if not _is_worn_out(vm, node, snapshot)]
    requests = [PlacementRequest.for_vm(vm, exclude=frozenset({node.name})) for vm in movable]
    planned = drain_of(node).planned
    decisions = _as_planned(requests, planned, snapshot, placer) if planned else ()
    return Arrangement(decisions, True) if decisions else arrange(requests, snapshot, placer, EFFORT)


def _as_planned(
    requests: Sequence[PlacementRequest], planned: Mapping[str, str], snapshot: ClusterSnapshot, placer: Placer
) -> tuple[Decision, ...]:
    """Where the plan that was applied sends them, if the filters still agree to all of it; else nothing."""
    decisions = placer.place_many((_bound(request, planned) for request in requests), snapshot)
    return decisions if all(decision.node for decision in decisions) else ()


def _bound(request: PlacementRequest, planned: Mapping[str, str]) -> PlacementRequest:
    """A request for nothing but the planned node, within the VM's own limit; as it is when there is none."""
    target, limit = planned.get(request.uuid), request.metadata.node_limit
    if target is None or (limit and target not in limit):
        return request
    return replace(request, metadata=msgspec.structs.replace(request.metadata, node_limit=(target,)))


def _will_have_a_place(node: str, decision: Decision, snapshot: ClusterSnapshot, placer: Placer) -> bool:
    """Whether a place is about to come free: then the VM waits for that and is not held.

    On a node from which another VM is just migrating, or on one that is coming back into service.
    """
    if room_comes_free(node, decision, snapshot):
        return True
    if not any(view.mode is NodeMode.UNFLUSHING for view in snapshot.nodes.values()):
        return False
    record = snapshot.vms[decision.uuid].value
    request = PlacementRequest.for_vm(record, exclude=frozenset({node}), accept_unflushing=True)
    return bool(placer.place(request, snapshot).node)


def room_comes_free(node: str, decision: Decision, snapshot: ClusterSnapshot) -> bool:
    """Whether a node that lacks nothing but room is just losing a VM. It ends with that migration."""
    losing = {vm.value.node for vm in snapshot.vms_by_state.get(VmState.MIGRATING, ())} - {node}
    problems: dict[str, set[str]] = {}
    for rejection in decision.rejections:
        problems.setdefault(rejection.node, set()).add(rejection.plugin)
    return any(name in problems and problems[name] <= ROOM_FILTERS for name in losing)


def _without_candidate(
    node: str, decision: Decision, snapshot: ClusterSnapshot, placer: Placer, policies: Policies
) -> LeaderAction:
    """The VM's recovery policy says what becomes of it; a policy that is missing or fails means "hold"."""
    record = snapshot.vms[decision.uuid].value
    answer, note = policy_says(record, lambda policy: policy.without_candidate, "hold", snapshot, placer, policies)
    if answer == "stay":
        name = record.metadata.recovery_policy
        return LeaveVm(node, record.uuid, f"recovery policy {name}; {decision.reason}", decision)
    return HoldVm(node, record.uuid, f"flush of {node}: held, {decision.reason}{note}", decision)
