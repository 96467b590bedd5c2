# SPDX-License-Identifier: Apache-2.0
"""leader_recovery: what becomes of the VMs of nodes that are known to be off, by the most important first.

Where they go is planned for all at once, as in a drain, and together with the VMs of nodes that were lost with theirs
and are about to be proven off: a VM that could only have the place of a more important one of these waits. What a VM's
owner was stopping is off now and stays so. A migration that was under way is looked for at its other end, where the
guest may have arrived. A VM waits for storage that is told to shut its node out, whose locks it could not take yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.fence_standing import is_being_recovered
from pvc_core.leader_actions import FinishRecovery, LoseVm, Policies, RecoverVm, RecoveryAction
from pvc_core.leader_flush import EFFORT
from pvc_core.leader_ready import by_importance
from pvc_core.model import FenceStep, VmRecord, VmState
from pvc_core.placement import Decision, Placer
from pvc_core.planner import arrange
from pvc_core.plugin_types import PlacementRequest, RecoveryPolicy
from pvc_core.policy_answers import policy_says
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.storage_evidence import waits_for
from pvc_core.vm_states import OFF, VmEvent

OF_ANSWER = {"hold": VmEvent.LOST_HELD, "stop": VmEvent.LOST}
"""What is written of a VM that its policy does not restart."""


def is_known_off(name: str, snapshot: ClusterSnapshot) -> bool:
    """Whether nothing can run on the node: it was confirmed off, and its daemon waits for the recovery to end."""
    node = snapshot.nodes.get(name)
    return node is not None and is_being_recovered(node.record.value)


@dataclass(frozen=True)
class _Due:
    """A VM of the lost `node` that is to start elsewhere. note: what its policy's answer has to add to the reason."""

    node: str
    request: PlacementRequest
    note: str


def recover(
    snapshot: ClusterSnapshot, placer: Placer, policies: Policies, together: Collection[str] = ()
) -> list[RecoveryAction]:
    """What to do now for the VMs of all nodes that are known to be off; nothing while a node's ledger does not parse.

    together: the nodes that are `lost_together`, whether known to be off or not.
    """
    nodes = _known_off(snapshot)
    settled = [action for node in nodes for action in _settled(node, snapshot) if not _waits(action, snapshot)]
    lost, planned = _by_policy(nodes, snapshot, placer, policies)
    lost = [action for action in lost if not _waits(action, snapshot)]
    due, awaited = list[_Due](), list[_Due]()
    for one in planned:
        (awaited if waits_for(snapshot.vms[one.request.uuid].value, snapshot) else due).append(one)
    awaited += _awaited(snapshot, placer, policies, together) if due else []
    may_wait = [one for one in due if one.node in together]
    actions: list[RecoveryAction] = [*settled, *lost, *_restarts(due, awaited, may_wait, snapshot, placer)]
    busy = {action.node for action in settled}
    for node in nodes:
        if node.name not in busy and not _has_guests(node, snapshot):
            actions.append(FinishRecovery(node.name, "all VMs that were to run there have been dealt with"))
    return actions


def still_to_place(
    snapshot: ClusterSnapshot, placer: Placer, policies: Policies, together: Collection[str]
) -> list[PlacementRequest]:
    """The VMs of lost nodes that are to start elsewhere, now or as soon as their node is known to be off."""
    nodes = _known_off(snapshot)
    due = _by_policy(nodes, snapshot, placer, policies)[1]
    return [one.request for one in (*due, *_awaited(snapshot, placer, policies, together))]


def _known_off(snapshot: ClusterSnapshot) -> list[NodeView]:
    return _readable((name for name in snapshot.nodes if is_known_off(name, snapshot)), snapshot)


def _readable(names: Iterable[str], snapshot: ClusterSnapshot) -> list[NodeView]:
    return [snapshot.nodes[name] for name in sorted(names) if not changes.unreadable_ledger(snapshot, name)]


def _awaited(snapshot: ClusterSnapshot, placer: Placer, policies: Policies, together: Collection[str]) -> list[_Due]:
    """What is to start elsewhere of the nodes that are not known to be off yet."""
    names = (name for name in together if name in snapshot.nodes and not is_known_off(name, snapshot))
    return _by_policy(_readable(names, snapshot), snapshot, placer, policies)[1]


def _waits(action: RecoverVm | LoseVm, snapshot: ClusterSnapshot) -> bool:
    """For storage; but not a VM that goes on where it was, this node having been its target alone."""
    record = snapshot.vms[action.uuid].value
    return record.node == action.node and waits_for(record, snapshot) != ""


def _has_guests(node: NodeView, snapshot: ClusterSnapshot) -> bool:
    return node.name in snapshot.active_by_node


def _settled(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[RecoverVm | LoseVm]:
    """The VMs for which no place has to be found."""
    off = f"{node.name} is off"
    uuids = {vm.value.uuid for vm in snapshot.vms_by_node.get(node.name, ())}
    uuids |= snapshot.arriving.get(node.name, frozenset())
    for record in sorted((snapshot.vms[uuid].value for uuid in uuids), key=by_importance):
        uuid = record.uuid
        if record.target == node.name and record.node != node.name:
            yield LoseVm(node.name, uuid, VmEvent.TARGET_LOST, f"{off}, to which it was migrating")
        elif record.state is VmState.SHUTTING_DOWN:
            yield LoseVm(node.name, uuid, VmEvent.ENDED, f"{off}, on which it was shutting down")
        elif record.state is VmState.MIGRATING and not is_known_off(record.target, snapshot):
            reason = f"{off}, from which it was migrating: it is on {record.target}, or starts there"
            yield RecoverVm(node.name, uuid, record.target, reason)


def _by_policy(
    nodes: Sequence[NodeView], snapshot: ClusterSnapshot, placer: Placer, policies: Policies
) -> tuple[list[LoseVm], list[_Due]]:
    """Of these nodes' VMs those that their policies do not restart, and those that they do."""
    settled = {action.uuid for node in nodes for action in _settled(node, snapshot)}
    left = [vm.value for node in nodes for vm in snapshot.vms_by_node.get(node.name, ())]
    lost, due = list[LoseVm](), list[_Due]()
    for record in sorted(left, key=by_importance):
        if record.state in OFF or record.uuid in settled:
            continue
        answer, note = after_loss(record, snapshot, placer, policies)
        if answer == "restart":
            request = PlacementRequest.for_vm(record, exclude=frozenset({record.node}))
            due.append(_Due(record.node, request, note))
        else:
            reason = f"{record.node} is off; recovery policy {record.metadata.recovery_policy}{note}"
            lost.append(LoseVm(record.node, record.uuid, OF_ANSWER[answer], reason))
    return lost, due


def _restarts(
    due: Sequence[_Due], awaited: Sequence[_Due], may_wait: Sequence[_Due], snapshot: ClusterSnapshot, placer: Placer
) -> Iterator[RecoverVm | LoseVm]:
    """A start for each that has a place; without one it is held, unless it waits for one."""
    by_uuid = {one.request.uuid: one for one in due}
    for decision in _places(due, awaited, may_wait, snapshot, placer):
        one = by_uuid[decision.uuid]
        reason = f"{one.node} is off; {decision.reason}{one.note}"
        if decision.node:
            yield RecoverVm(one.node, decision.uuid, decision.node, reason, decision)
        else:
            yield LoseVm(one.node, decision.uuid, VmEvent.LOST_HELD, reason, decision)


def _places(
    due: Sequence[_Due], awaited: Sequence[_Due], may_wait: Sequence[_Due], snapshot: ClusterSnapshot, placer: Placer
) -> Iterator[Decision]:
    """A decision for each that is due, but for those that wait, lest they take the place of an awaited one."""
    requests = [one.request for one in due]
    least = min((one.request.metadata.priority for one in may_wait), default=None)
    ahead = [one.request for one in awaited if least is not None and one.request.metadata.priority > least]
    if not due:
        return
    if not ahead:
        yield from arrange(requests, snapshot, placer, EFFORT).decisions
        return
    found = _beside(requests, ahead, snapshot, placer)
    patient = {one.request.uuid for one in may_wait}
    without = [decision for decision in found if not decision.node]
    alone = arrange(requests, snapshot, placer, EFFORT, told=()).decisions if without else ()
    waits = {decision.uuid for decision in alone if decision.node and decision.uuid in patient}
    if all(decision.uuid in waits for decision in without):
        yield from (decision for decision in found if decision.node)
        return
    in_full = {decision.uuid: decision for decision in arrange(requests, snapshot, placer, EFFORT).decisions}
    for decision in found:
        if decision.node:
            yield decision
        elif decision.uuid not in waits:
            yield in_full[decision.uuid]


def _beside(
    requests: Sequence[PlacementRequest],
    ahead: Sequence[PlacementRequest],
    snapshot: ClusterSnapshot,
    placer: Placer,
) -> list[Decision]:
    """A decision for each request, told in full where it finds a place beside those of `ahead`."""
    uuids = frozenset(request.uuid for request in ahead)
    told = frozenset(request.uuid for request in requests)
    arrangement = arrange([*requests, *ahead], snapshot, placer, EFFORT, behind=uuids, told=told)
    return [decision for decision in arrangement.decisions if decision.uuid not in uuids]


def after_loss(record: VmRecord, snapshot: ClusterSnapshot, placer: Placer, policies: Policies) -> tuple[str, str]:
    """What the VM's recovery policy says, and a note; a policy that is missing or fails means "restart"."""
    return policy_says(record, _question, "restart", snapshot, placer, policies)


def _question(policy: RecoveryPolicy) -> Callable[[PlacementRequest], str] | None:
    after_loss: Callable[[PlacementRequest], str] | None = getattr(policy, "after_loss", None)  # of a LossPolicy
    if after_loss is None:
        return None

    def ask(request: PlacementRequest) -> str:
        answer = after_loss(request)
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
    if _waits(action, snapshot):
        raise Refused(record.name, f"it waits for the storage {waits_for(record, snapshot)}")
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
    if _has_guests(node, snapshot):
        raise Refused(node.name, "there is a VM left to recover")
    before = node.record.value
    assert before.fence is not None
    fence = msgspec.structs.replace(before.fence, step=FenceStep.RECOVERED, finished_at=now)
    after = msgspec.structs.replace(before, fence=fence)
    happening = of_node(EventKind.NODE_RECOVERED, before, after, action.reason)
    return Change(
        (changes.write_node(node.record, after), changes.same_ledger(node)), action.reason, happenings=(happening,)
    )
