# SPDX-License-Identifier: Apache-2.0
"""leader: what crosses nodes: draining them and taking them back: `decide(snapshot)` gives actions with reasons.

Everything it needs to go on is in the store (a node's mode and its `DrainReport`), so another leader continues at
any line. A drain has an end: every VM is tried a bounded number of times, and one that cannot be helped is written
into the report and does not stop the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import Stored
from pvc_core.errors import PluginError, Refused
from pvc_core.leader_actions import CancelMove, FinishDrain, HoldVm, LeaderAction, LeaveVm, MoveVm, StartVm, VmAction
from pvc_core.model import DrainReport, NodeMode, VmRecord, VmState
from pvc_core.placement import Decision, Placer
from pvc_core.placement_drivers import request_for
from pvc_core.plugin_types import PlacementRequest, RecoveryPolicyEntry
from pvc_core.ports import Check, Op, Set
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF, VmEvent

__all__ = ["LeaderAction", "Policies", "belongs_to", "change_for", "comes_back", "decide", "drain_of"]

EMPTY_DRAIN = DrainReport()


@dataclass
class _Slots:
    """Migrations under way, per source and per target, against the limit."""

    limit: int
    outgoing: Counter[str] = field(default_factory=Counter)
    incoming: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, snapshot: ClusterSnapshot) -> _Slots:
        slots = cls(snapshot.settings.max_parallel_migrations)
        for stored in snapshot.vms.values():
            if stored.value.state is VmState.MIGRATING:
                slots.outgoing[stored.value.node] += 1
                slots.incoming[stored.value.target] += 1
        return slots

    def take(self, source: str, target: str) -> bool:
        if self.outgoing[source] >= self.limit or self.incoming[target] >= self.limit:
            return False
        self.outgoing[source] += 1
        self.incoming[target] += 1
        return True


Policies = Mapping[str, RecoveryPolicyEntry]


def decide(snapshot: ClusterSnapshot, placer: Placer, policies: Policies) -> tuple[LeaderAction, ...]:
    """What to do now for every node that is being drained or taken back."""
    actions: list[LeaderAction] = []
    slots = _Slots.of(snapshot)
    for name in sorted(snapshot.nodes):
        node = snapshot.nodes[name]
        if node.mode is NodeMode.FLUSHING:
            actions += _flush(node, snapshot, placer, policies, slots)
        elif node.mode is NodeMode.UNFLUSHING:
            actions += _unflush(node, snapshot, placer, slots)
    return tuple(_first_per_vm(actions))


def _first_per_vm(actions: Sequence[LeaderAction]) -> Iterator[LeaderAction]:
    """A VM that leaves one node for another that comes back concerns both drains; the first to act on it will do."""
    seen: set[str] = set()
    for action in actions:
        if isinstance(action, FinishDrain) or action.uuid not in seen:
            yield action
        if not isinstance(action, FinishDrain):
            seen.add(action.uuid)


def drain_of(node: NodeView) -> DrainReport:
    """The report of the drain under way."""
    return node.record.value.drain or EMPTY_DRAIN


# --------------------------------------------------------------------------------------------------- flush


def _flush(
    node: NodeView, snapshot: ClusterSnapshot, placer: Placer, policies: Policies, slots: _Slots
) -> list[LeaderAction]:
    drain, actions = drain_of(node), list[LeaderAction]()
    unreadable = changes.unreadable_ledger(snapshot, node.name)
    movable: list[Stored[VmRecord]] = []
    for vm in snapshot.vms_by_node.get(node.name, ()):
        if vm.value.uuid in drain.stayed or vm.value.state is not VmState.RUNNING:
            continue
        if unreadable:
            actions.append(LeaveVm(node.name, vm.value.uuid, unreadable))
        elif drain.attempts.get(vm.value.uuid, 0) >= snapshot.settings.migration_attempts:
            actions.append(LeaveVm(node.name, vm.value.uuid, vm.value.reason))
        else:
            movable.append(vm)
    for decision in _places_elsewhere(node.name, movable, snapshot, placer):
        if not decision.node:
            if not _will_have_a_place(node.name, decision, snapshot, placer):
                actions.append(_without_candidate(node.name, decision, snapshot, placer, policies))
        elif slots.take(node.name, decision.node):
            reason = f"flush of {node.name}; {decision.reason}"
            actions.append(MoveVm(node.name, decision.uuid, decision.node, reason))
    if not (actions or _left_to_drain(node, snapshot)):
        stayed = f", {len(drain.stayed)} VMs stayed" if drain.stayed else ""
        actions.append(FinishDrain(node.name, NodeMode.FLUSHED, f"no VM is left to move{stayed}"))
    return actions


def _left_to_drain(node: NodeView, snapshot: ClusterSnapshot) -> bool:
    """Whether a VM runs here still, migrates to here, or stands in the ledger and has not been seen here yet.

    Ledgers and VMs are watched apart, so that one may be newer than the other.
    """
    stayed, seen = drain_of(node).stayed, set[str]()
    for vm in (stored.value for stored in snapshot.vms.values()):
        if vm.target == node.name:
            return True
        if vm.node == node.name:
            seen.add(vm.uuid)
            if vm.state not in OFF and vm.uuid not in stayed:
                return True
    return any(uuid not in seen and layout.vm(uuid) not in snapshot.broken for uuid in node.reserved.vms)


def _places_elsewhere(
    node: str, movable: Sequence[Stored[VmRecord]], snapshot: ClusterSnapshot, placer: Placer
) -> tuple[Decision, ...]:
    """All planned at once, so that they spread."""
    requests = [PlacementRequest.for_vm(vm.value, exclude=frozenset({node})) for vm in movable]
    return placer.place_many(requests, snapshot)


def _will_have_a_place(node: str, decision: Decision, snapshot: ClusterSnapshot, placer: Placer) -> bool:
    """Whether a place is about to come free: then the VM waits for that and is not held.

    On a node from which another VM is just migrating, or on one that is coming back into service.
    """
    if _memory_comes_free(node, decision, snapshot):
        return True
    if not any(view.mode is NodeMode.UNFLUSHING for view in snapshot.nodes.values()):
        return False
    record = snapshot.vms[decision.uuid].value
    request = PlacementRequest.for_vm(record, exclude=frozenset({node}), accept_unflushing=True)
    return bool(placer.place(request, snapshot).node)


def _memory_comes_free(node: str, decision: Decision, snapshot: ClusterSnapshot) -> bool:
    """Whether a node that lacks nothing but memory is just losing a VM. It ends with that migration."""
    losing = {vm.value.node for vm in snapshot.vms.values() if vm.value.state is VmState.MIGRATING} - {node}
    problems: dict[str, set[str]] = {}
    for rejection in decision.rejections:
        problems.setdefault(rejection.node, set()).add(rejection.plugin)
    return any(problems.get(name) == {"memory"} for name in losing)


def _without_candidate(
    node: str, decision: Decision, snapshot: ClusterSnapshot, placer: Placer, policies: Policies
) -> LeaderAction:
    """The VM's recovery policy says what becomes of it; a policy that is missing or fails means "hold"."""
    record = snapshot.vms[decision.uuid].value
    name = record.metadata.recovery_policy
    entry = policies.get(name)
    verdict, note = "hold", ""
    if entry is None:
        note = f" (recovery policy {name} is not installed)"
    else:
        try:
            plugin, drivers = entry.plugin or name, placer.drivers
            asked = request_for(plugin, PlacementRequest.for_vm(record), drivers, snapshot.settings)
            verdict = drivers.calls.ask(plugin, entry.policy.without_candidate, asked)
        except PluginError as failure:
            note = f" ({failure.sentence()})"
    if verdict == "stay":
        return LeaveVm(node, record.uuid, f"recovery policy {name}; {decision.reason}")
    return HoldVm(node, record.uuid, f"flush of {node}: held, {decision.reason}{note}")


# ------------------------------------------------------------------------------------------------- unflush


def belongs_to(record: VmRecord, node: str) -> bool:
    """Whether a ready of `node` is about this VM: its home is there, or it was held there."""
    return record.home == node or (record.held and record.node == node)


def comes_back(record: VmRecord, node: str) -> bool:
    """Whether a ready of `node` has something to do for this VM."""
    if not belongs_to(record, node):
        return False
    if record.held or (record.node != node and record.state not in OFF):
        return True
    return record.metadata.node_autostart and record.state is VmState.STOPPED


def _unflush(node: NodeView, snapshot: ClusterSnapshot, placer: Placer, slots: _Slots) -> list[LeaderAction]:
    drain, actions, waiting = drain_of(node), list[LeaderAction](), False
    for uuid in sorted(snapshot.vms, key=lambda u: _order(snapshot.vms[u].value)):
        record = snapshot.vms[uuid].value
        if not belongs_to(record, node.name) or uuid in drain.stayed:
            continue
        step = _bring_back(record, node.name, drain, snapshot, placer, slots)
        if step == "wait":
            waiting = True
        elif not isinstance(step, str):
            actions.append(step)
    if not (actions or waiting):
        stayed = f", {len(drain.stayed)} VMs could not" if drain.stayed else ""
        actions.append(FinishDrain(node.name, NodeMode.READY, f"its VMs are back{stayed}"))
    return actions


def _order(record: VmRecord) -> tuple[int, int, str]:
    return (-record.metadata.priority, -record.memory_mib, record.name)


def _bring_back(
    record: VmRecord, node: str, drain: DrainReport, snapshot: ClusterSnapshot, placer: Placer, slots: _Slots
) -> LeaderAction | str:
    """The next step for one VM whose home becomes ready: an action, "wait", or "done"."""
    attempts = drain.attempts.get(record.uuid, 0)
    if record.state is VmState.MIGRATING:
        if record.node == node and drain.cancels_flush and not (record.cancelling or record.permanent):
            return CancelMove(node, record.uuid, f"{node} is ready again: its flush is cancelled")
        return _wait_for_daemon(record, node, snapshot)
    if record.node == node and record.state is VmState.SHUTTING_DOWN and record.held:
        if not _place_at_home(record, node, snapshot, placer).node:
            return "wait"
        return StartVm(node, record.uuid, f"{node} is ready again: the shutdown is aborted")
    if record.state is VmState.STOPPED:
        wanted = record.held or record.metadata.node_autostart
        if not wanted or attempts:
            return "done"
        return _start_at_home(record, node, snapshot, placer)
    if record.node == node:
        return "wait" if attempts and record.state is VmState.STARTING else "done"
    if record.state in OFF:
        return "done"
    if record.state is not VmState.RUNNING:
        return _wait_for_daemon(record, node, snapshot)
    if attempts >= snapshot.settings.migration_attempts:
        return LeaveVm(node, record.uuid, record.reason)
    return _migrate_home(record, node, snapshot, placer, slots)


def _wait_for_daemon(record: VmRecord, node: str, snapshot: ClusterSnapshot) -> LeaderAction | str:
    """Wait for what the VM's node does; but not for a node whose daemon is away, which may never do it."""
    source = snapshot.nodes.get(record.node)
    if source is None or source.is_alive:
        return "wait"
    return LeaveVm(node, record.uuid, f"it is {record.state} on {record.node}, whose daemon is {source.liveness}")


def _place_at_home(record: VmRecord, node: str, snapshot: ClusterSnapshot, placer: Placer) -> Decision:
    return placer.place(PlacementRequest.for_vm(record, accept_unflushing=True), snapshot, only=node)


def _start_at_home(record: VmRecord, node: str, snapshot: ClusterSnapshot, placer: Placer) -> LeaderAction:
    decision = _place_at_home(record, node, snapshot, placer)
    unreadable = changes.unreadable_ledger(snapshot, record.node)
    if unreadable or not decision.node:
        return LeaveVm(node, record.uuid, unreadable or decision.reason)
    why = "it was held" if record.held else "autostart"
    return StartVm(node, record.uuid, f"{node} is ready: {why}")


def _migrate_home(
    record: VmRecord, node: str, snapshot: ClusterSnapshot, placer: Placer, slots: _Slots
) -> LeaderAction | str:
    decision = _place_at_home(record, node, snapshot, placer)
    unreadable = changes.unreadable_ledger(snapshot, record.node)
    if unreadable or not decision.node:
        return LeaveVm(node, record.uuid, unreadable or decision.reason)
    if not slots.take(record.node, node):
        return "wait"
    return MoveVm(node, record.uuid, node, f"{node} is ready: it goes home from {record.node}")


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: LeaderAction, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """The transaction of an action: the VM with its ledgers, and the node's report, on the snapshot's versions.

    The snapshot may be newer than the one decided on: whether the action still makes sense is looked at again, and a
    place is asked for once more. Raises `Refused` or `NoCandidate` when it does not; then decide again.
    """
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
        stayed = {**drain_of(node).stayed, action.uuid: action.reason}
        return Change((_noted(node, stayed=stayed),), action.reason)
    if isinstance(action, MoveVm):
        _ask_again(action.uuid, action.target, snapshot, placer)
    if isinstance(action, StartVm):
        _ask_again(action.uuid, action.node, snapshot, placer)
    change = _vm_change(action, snapshot, now)
    if isinstance(action, MoveVm | StartVm):
        attempts = dict(drain_of(node).attempts)
        attempts[action.uuid] = attempts.get(action.uuid, 0) + 1
        ops = (*change.ops, _noted(node, attempts=attempts))
        if isinstance(action, MoveVm) and action.target != node.name:
            ops = (*ops, changes.same_node(snapshot.nodes[action.target]))
        return Change(ops, change.reason, change.vm)
    return change


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
        is_over = node.mode is NodeMode.FLUSHING and not _left_to_drain(node, snapshot)
        if not changes.unreadable_ledger(snapshot, node.name):
            ops.append(changes.same_ledger(node))
        concerned = snapshot.vms_by_node.get(node.name, ())
    else:
        is_over = node.mode is NodeMode.UNFLUSHING and _unflush(node, snapshot, placer, _Slots.of(snapshot)) == [action]
        concerned = tuple(vm for vm in snapshot.vms.values() if belongs_to(vm.value, node.name))
    if not is_over:
        raise Refused(node.name, f"it is {node.mode}, and there is something left to do")
    return Change((*ops, *(Check(vm.key, vm.version) for vm in concerned)), action.reason)


def _ask_again(uuid: str, target: str, snapshot: ClusterSnapshot, placer: Placer) -> None:
    record = snapshot.vms[uuid].value
    request = PlacementRequest.for_vm(record, accept_unflushing=target == record.home or record.held)
    placer.place(request, snapshot, only=target).raise_if_none()


def _noted(node: NodeView, **fields: dict[str, str] | dict[str, int]) -> Set:
    drain = msgspec.structs.replace(drain_of(node), **fields)
    return changes.write_node(node.record, msgspec.structs.replace(node.record.value, drain=drain))


def _vm_change(action: MoveVm | StartVm | HoldVm | CancelMove, snapshot: ClusterSnapshot, now: str) -> Change:
    stored = snapshot.vms[action.uuid]
    record = stored.value
    if isinstance(action, MoveVm):
        ledgers = changes.ledgers_of(snapshot, record.node, action.target)
        return changes.of_event(stored, VmEvent.MIGRATE, action.reason, now, ledgers, target=action.target)
    ledgers = changes.ledgers_of(snapshot, record.node, record.target, action.node)
    if isinstance(action, StartVm) and record.state in OFF:
        return changes.start_on(stored, action.node, action.reason, now, ledgers)
    event = VmEvent.HOLD if isinstance(action, HoldVm) else VmEvent.START
    return changes.of_event(stored, event, action.reason, now, ledgers)
