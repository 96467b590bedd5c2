# SPDX-License-Identifier: Apache-2.0
"""leader_recovery: what becomes of the VMs of a node that is known to be off, by the most important first.

Where they go is planned for all at once, as in a drain. What a VM's owner was stopping is off now and stays so. A
migration that was under way is looked for at its other end, where the guest may have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.leader_actions import FinishRecovery, LoseVm, Policies, RecoverVm, RecoveryAction
from pvc_core.leader_flush import EFFORT
from pvc_core.leader_ready import by_importance
from pvc_core.model import FenceStep, VmRecord, VmState, is_being_recovered
from pvc_core.placement import Placer
from pvc_core.planner import arrange
from pvc_core.plugin_types import LossPolicy, PlacementRequest, RecoveryPolicy
from pvc_core.policy_answers import policy_says
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF, VmEvent

OF_ANSWER = {"hold": VmEvent.LOST_HELD, "stop": VmEvent.LOST}
"""What is written of a VM that its policy does not restart."""


def is_known_off(name: str, snapshot: ClusterSnapshot) -> bool:
    """Whether nothing can run on the node: it was confirmed off, and its daemon waits for the recovery to end."""
    node = snapshot.nodes.get(name)
    return node is not None and is_being_recovered(node.record.value)


def recover(node: NodeView, snapshot: ClusterSnapshot, placer: Placer, policies: Policies) -> list[RecoveryAction]:
    """What to do now for the VMs of a node that is known to be off; nothing while its ledger does not parse."""
    if changes.unreadable_ledger(snapshot, node.name):
        return []
    actions: list[RecoveryAction] = [*_settled(node, snapshot)]
    seen = {action.uuid for action in actions if not isinstance(action, FinishRecovery)}
    wanted = [vm.value for vm in snapshot.vms_by_node.get(node.name, ()) if vm.value.state not in OFF]
    actions += _restarts(node.name, [vm for vm in wanted if vm.uuid not in seen], snapshot, placer, policies)
    return actions or [FinishRecovery(node.name, "all VMs that were to run there have been dealt with")]


def _settled(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[RecoverVm | LoseVm]:
    """The VMs for which no place has to be found."""
    off = f"{node.name} is off"
    for uuid, vm in sorted(snapshot.vms.items(), key=lambda item: by_importance(item[1].value)):
        record = vm.value
        if record.target == node.name and record.node != node.name:
            yield LoseVm(node.name, uuid, VmEvent.TARGET_LOST, f"{off}, to which it was migrating")
        elif record.node != node.name:
            continue
        elif record.state is VmState.SHUTTING_DOWN:
            yield LoseVm(node.name, uuid, VmEvent.ENDED, f"{off}, on which it was shutting down")
        elif record.state is VmState.MIGRATING and not is_known_off(record.target, snapshot):
            reason = f"{off}, from which it was migrating: it is on {record.target}, or starts there"
            yield RecoverVm(node.name, uuid, record.target, reason)


def _restarts(
    node: str, due: list[VmRecord], snapshot: ClusterSnapshot, placer: Placer, policies: Policies
) -> Iterator[RecoverVm | LoseVm]:
    restarted = []
    for record in sorted(due, key=by_importance):
        answer, note = after_loss(record, snapshot, placer, policies)
        if answer == "restart":
            restarted.append((record, note))
        else:
            reason = f"{node} is off; recovery policy {record.metadata.recovery_policy}{note}"
            yield LoseVm(node, record.uuid, OF_ANSWER[answer], reason)
    requests = [PlacementRequest.for_vm(record, exclude=frozenset({node})) for record, _ in restarted]
    notes = {record.uuid: note for record, note in restarted}
    for decision in arrange(requests, snapshot, placer, EFFORT).decisions if requests else ():
        reason = f"{node} is off; {decision.reason}{notes[decision.uuid]}"
        if decision.node:
            yield RecoverVm(node, decision.uuid, decision.node, reason, decision)
        else:
            yield LoseVm(node, decision.uuid, VmEvent.LOST_HELD, reason, decision)


def after_loss(record: VmRecord, snapshot: ClusterSnapshot, placer: Placer, policies: Policies) -> tuple[str, str]:
    """What the VM's recovery policy says, and a note; a policy that is missing or fails means "restart"."""
    return policy_says(record, _question, "restart", snapshot, placer, policies)


def _question(policy: RecoveryPolicy) -> Callable[[PlacementRequest], str] | None:
    if not isinstance(policy, LossPolicy):
        return None

    def ask(request: PlacementRequest) -> str:
        answer = policy.after_loss(request)
        if answer not in ("restart", *OF_ANSWER):
            raise ValueError(f'it answered {answer!r}, which is none of "restart", "hold" and "stop"')
        return answer

    return ask


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: RecoveryAction, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """The transaction of an action, valid only while the lost node's record says that it is being recovered.

    Raises `Refused` or `NoCandidate` when the action does not make sense any more on this snapshot.
    """
    node = snapshot.nodes.get(action.node)
    if node is None or not is_known_off(action.node, snapshot):
        raise Refused(action.node, "it is not being recovered any more")
    if snapshot.pause is not None:
        raise Refused(action.node, "the cluster is in maintenance")
    if isinstance(action, FinishRecovery):
        return _finish(action, node, snapshot, now)
    stored = snapshot.vms.get(action.uuid)
    if stored is None:
        raise Refused(action.uuid, "it is gone")
    record = stored.value
    if isinstance(action, LoseVm):
        has_left = record.target != node.name if action.event is VmEvent.TARGET_LOST else record.node != node.name
        if has_left:
            raise Refused(record.name, f"it is {record.state} on {record.node}")
        ledgers = changes.ledgers_of(snapshot, record.node, record.target)
        change = changes.of_event(stored, action.event, action.reason, now, ledgers, decision=action.decision)
        return _while_recovering(change, node)
    if record.node != node.name:
        raise Refused(record.name, f"it is {record.state} on {record.node}")
    ledgers = changes.ledgers_of(snapshot, record.node, record.target, action.target)
    if record.state is VmState.MIGRATING and action.target == record.target:
        change = changes.of_event(stored, VmEvent.RECOVER, action.reason, now, ledgers, target=action.target)
        return _while_recovering(change, node)
    request = PlacementRequest.for_vm(record, exclude=frozenset({node.name}))
    decision = placer.place(request, snapshot, only=action.target)
    decision.raise_if_none()
    change = changes.of_event(
        stored, VmEvent.RECOVER, action.reason, now, ledgers, target=action.target, decision=action.decision
    )
    return changes.on_same_node(_while_recovering(change, node), snapshot, action.target)


def _while_recovering(change: Change, node: NodeView) -> Change:
    return replace(change, ops=(*change.ops, changes.same_node(node)))


def _finish(action: FinishRecovery, node: NodeView, snapshot: ClusterSnapshot, now: str) -> Change:
    """Only if no VM has come since: the ledger is as it was seen."""
    if any(vm.value.state not in OFF for vm in snapshot.vms_by_node.get(node.name, ())):
        raise Refused(node.name, "there is a VM left to recover")
    before = node.record.value
    assert before.fence is not None
    fence = msgspec.structs.replace(before.fence, step=FenceStep.RECOVERED, finished_at=now)
    after = msgspec.structs.replace(before, fence=fence)
    happening = of_node(EventKind.NODE_RECOVERED, before, after, action.reason)
    return Change(
        (changes.write_node(node.record, after), changes.same_ledger(node)), action.reason, happenings=(happening,)
    )
