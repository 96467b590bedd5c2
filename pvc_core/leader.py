# SPDX-License-Identifier: Apache-2.0
"""leader: what crosses nodes: recovering, draining and taking them back: `decide(snapshot)` gives actions with reasons.

Everything it needs to go on is in the store (a node's mode and its `DrainReport`), so another leader continues at
any line. A drain has an end: every VM is tried a bounded number of times, and one that cannot be helped is written
into the report and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import msgspec

from pvc_core import changes, leader_held, leader_plan, leader_recovery, leader_retry
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node, stayed
from pvc_core.fence_standing import is_being_shut_out
from pvc_core.leader_actions import (
    CancelMove,
    FinishDrain,
    FinishPlan,
    FinishRecovery,
    HoldVm,
    LeaderAction,
    LeaveVm,
    LoseVm,
    MoveVm,
    PlanAction,
    Policies,
    RecoverVm,
    RetryVm,
    StartHeld,
    StartVm,
    VmAction,
    drain_of,
)
from pvc_core.leader_fence import is_lost, why_paused
from pvc_core.leader_flush import flush, left_to_drain
from pvc_core.leader_ready import belongs_to, comes_back, unflush
from pvc_core.leader_slots import Slots
from pvc_core.model import NodeMode, NodeRecord, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest
from pvc_core.ports import Check, Op
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF, VmEvent

__all__ = ["LeaderAction", "Policies", "belongs_to", "change_for", "comes_back", "decide", "drain_of"]


def decide(
    snapshot: ClusterSnapshot, placer: Placer, policies: Policies, together: Collection[str] = ()
) -> tuple[LeaderAction, ...]:
    """What to do now for nodes that are recovered, drained or taken back, for the applied plan, held and failed VMs.

    together: the nodes that are `lost_together`.
    """
    actions: list[LeaderAction] = []
    slots = Slots.of(snapshot)
    if snapshot.pause is None:
        actions += leader_recovery.recover(snapshot, placer, policies, together)
    for name in sorted(snapshot.nodes):
        node = snapshot.nodes[name]
        if is_lost(node, snapshot) or is_being_shut_out(node.record.value):
            continue  # it is fenced first, which ends the drain
        if _rests(node, snapshot):
            continue
        if node.mode is NodeMode.FLUSHING:
            actions += flush(node, snapshot, placer, policies, slots)
        elif node.mode is NodeMode.UNFLUSHING:
            actions += unflush(node, snapshot, placer, slots)
    actions += leader_plan.decide(snapshot, placer, slots)
    if snapshot.pause is None:
        actions += leader_held.start_held(snapshot, placer, policies, together)
    actions += leader_retry.retry_failed(snapshot, placer, policies)
    return tuple(_first_per_vm(actions))


def _rests(node: NodeView, snapshot: ClusterSnapshot) -> bool:
    """Whether its drain waits for the end of a maintenance: nothing moves by itself, or for a daemon that is away."""
    if node.mode is NodeMode.UNFLUSHING and (node.record.value.maintenance or drain_of(node).by_itself):
        return why_paused(node, snapshot) != ""
    return not node.is_alive and why_paused(node, snapshot) != ""


def _first_per_vm(actions: Sequence[LeaderAction]) -> Iterator[LeaderAction]:
    """A VM that leaves one node for another that comes back concerns both drains, or a plan as well; one will do."""
    seen: set[str] = set()
    for action in actions:
        if isinstance(action, FinishDrain | FinishPlan | FinishRecovery):
            yield action
        elif action.uuid not in seen:
            seen.add(action.uuid)
            yield action


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: LeaderAction, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """The transaction of an action: the VM with its ledgers, and the node's report, on the snapshot's versions.

    The snapshot may be newer than the one decided on: whether the action still makes sense is looked at again, and a
    place is asked for once more. Raises `Refused` or `NoCandidate` when it does not; then decide again.
    """
    if isinstance(action, PlanAction):
        return leader_plan.change_for(action, snapshot, placer, now)
    if isinstance(action, RecoverVm | LoseVm | FinishRecovery):
        return leader_recovery.change_for(action, snapshot, placer, now)
    if isinstance(action, StartHeld | RetryVm):
        return _start_elsewhere(action, snapshot, placer, now)
    node = snapshot.nodes.get(action.node)
    if node is None:
        raise Refused(action.node, "it is gone")
    if isinstance(action, FinishDrain):
        return _finish(action, node, snapshot, placer, now)
    if action.uuid not in snapshot.vms:
        raise Refused(action.uuid, "it is gone")
    record = snapshot.vms[action.uuid].value
    if not _still_makes_sense(action, node, record):
        raise Refused(record.name, f"it is {record.state} on {record.node}, and {node.name} is {node.mode}")
    if isinstance(action, LeaveVm):
        after = _with_drain(node, stayed={**drain_of(node).stayed, action.uuid: action.reason})
        happening = stayed(record, node.record.value, after, action.reason, action.decision)
        return Change((changes.write_node(node.record, after),), action.reason, happenings=(happening,))
    if isinstance(action, MoveVm):
        _ask_again(action.uuid, action.target, snapshot, placer)
    if isinstance(action, StartVm):
        _ask_again(action.uuid, action.node, snapshot, placer)
    change = _vm_change(action, snapshot, now)
    if isinstance(action, MoveVm | StartVm):
        attempts = dict(drain_of(node).attempts)
        attempts[action.uuid] = attempts.get(action.uuid, 0) + 1
        ops = (*change.ops, changes.write_node(node.record, _with_drain(node, attempts=attempts)))
        if isinstance(action, MoveVm) and action.target != node.name:
            ops = (*ops, changes.same_node(snapshot.nodes[action.target]))
        return replace(change, ops=ops)
    return change


def _start_elsewhere(action: StartHeld | RetryVm, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    if isinstance(action, RetryVm):
        return leader_retry.change_for(action, snapshot, placer, now)
    return leader_held.change_for(action, snapshot, placer, now)


def _still_makes_sense(action: VmAction, node: NodeView, record: VmRecord) -> bool:
    """Whether what the action was decided for still holds: an operator may have been faster."""
    flushing, unflushing = node.mode is NodeMode.FLUSHING, node.mode is NodeMode.UNFLUSHING
    is_here = record.node == node.name
    match action:
        case MoveVm(target=target):
            is_due = unflushing and not is_here if target == node.name else flushing and is_here
            return is_due and record.state is VmState.RUNNING
        case HoldVm():
            return flushing and is_here and record.state is VmState.RUNNING
        case StartVm():
            return unflushing and (record.held or (record.state is VmState.STOPPED and record.metadata.node_autostart))
        case CancelMove():
            return unflushing and is_here and record.state is VmState.MIGRATING
        case LeaveVm():
            return flushing or unflushing


def _finish(action: FinishDrain, node: NodeView, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """A drain ends only if no VM has come, gone or been started since: ledger and VMs are as they were seen."""
    drain = msgspec.structs.replace(drain_of(node), finished_at=now)
    record = msgspec.structs.replace(
        node.record.value, mode=action.mode, drain=drain, reason=action.reason, changed_at=now
    )
    ops: list[Op] = [changes.write_node(node.record, record)]
    if action.mode is NodeMode.FLUSHED:
        is_over = node.mode is NodeMode.FLUSHING and not left_to_drain(node, snapshot)
        if not changes.unreadable_ledger(snapshot, node.name):
            ops.append(changes.same_ledger(node))
        concerned = snapshot.vms_by_node.get(node.name, ())
    else:
        is_over = node.mode is NodeMode.UNFLUSHING and unflush(node, snapshot, placer, Slots.of(snapshot)) == [action]
        concerned = tuple(vm for vm in snapshot.vms.values() if belongs_to(vm.value, node.name))
    if not is_over:
        raise Refused(node.name, f"it is {node.mode}, and there is something left to do")
    kind = EventKind.NODE_FLUSHED if action.mode is NodeMode.FLUSHED else EventKind.NODE_READY
    happening = of_node(kind, node.record.value, record, action.reason)
    checks = (Check(vm.key, vm.version) for vm in concerned)
    return Change((*ops, *checks), action.reason, happenings=(happening,))


def _ask_again(uuid: str, target: str, snapshot: ClusterSnapshot, placer: Placer) -> None:
    record = snapshot.vms[uuid].value
    request = PlacementRequest.for_vm(record, accept_unflushing=target == record.home or record.held)
    placer.place(request, snapshot, only=target).raise_if_none()


def _with_drain(node: NodeView, **fields: dict[str, str] | dict[str, int]) -> NodeRecord:
    drain = msgspec.structs.replace(drain_of(node), **fields)
    return msgspec.structs.replace(node.record.value, drain=drain)


def _vm_change(action: MoveVm | StartVm | HoldVm | CancelMove, snapshot: ClusterSnapshot, now: str) -> Change:
    stored = snapshot.vms[action.uuid]
    record = stored.value
    if isinstance(action, MoveVm):
        ledgers = changes.ledgers_of(snapshot, record.node, action.target)
        return changes.of_event(
            stored, VmEvent.MIGRATE, action.reason, now, ledgers, target=action.target, decision=action.decision
        )
    ledgers = changes.ledgers_of(snapshot, record.node, record.target, action.node)
    if isinstance(action, StartVm) and record.state in OFF:
        return changes.start_on(stored, action.node, action.reason, now, ledgers)
    event = VmEvent.HOLD if isinstance(action, HoldVm) else VmEvent.START
    decision = action.decision if isinstance(action, HoldVm) else None
    return changes.of_event(stored, event, action.reason, now, ledgers, decision=decision)
