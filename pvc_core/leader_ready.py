# SPDX-License-Identifier: Apache-2.0
"""leader_ready: taking a node back: which VMs come home, start there again, or are left where they are."""

from __future__ import annotations

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.fence_standing import why_not_admitted
from pvc_core.leader_actions import CancelMove, FinishDrain, LeaderAction, LeaveVm, MoveVm, StartVm, drain_of
from pvc_core.leader_slots import Slots
from pvc_core.model import DrainReport, FenceStep, NodeMode, VmRecord, VmState
from pvc_core.placement import Decision, Placer
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF


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


def take_back(
    node: NodeView, snapshot: ClusterSnapshot, reason: str, now: str, *, leaves_running: bool, by_itself: bool = False
) -> Change:
    """Begin to take a node back into service. leaves_running: VMs that run elsewhere are not brought home.

    by_itself: nobody asked for it. Raises `Refused` for a node whose VMs are being recovered, or are about to be, for
    one in maintenance, which takes no VMs, and for one that is still shut out of storage.
    """
    record = node.record.value
    if record.maintenance:
        raise Refused(node.name, f"it is in maintenance; `pvc node maintenance {node.name} off` ends that")
    if record.fence is not None and record.fence.step is not FenceStep.RECOVERED:
        raise Refused(node.name, "it was lost, and its VMs are still being recovered")
    if why_not := why_not_admitted(record):
        raise Refused(node.name, why_not)
    drain = DrainReport(
        total=sum(1 for vm in snapshot.vms.values() if comes_back(vm.value, node.name)),
        cancels_flush=node.mode is NodeMode.FLUSHING,
        leaves_running=leaves_running,
        by_itself=by_itself,
        started_at=now,
    )
    after = msgspec.structs.replace(
        record, mode=NodeMode.UNFLUSHING, fenced=False, goes_down="", drain=drain, reason=reason, changed_at=now
    )
    happening = of_node(EventKind.NODE_UNFLUSHING, record, after, reason)
    return Change((changes.write_node(node.record, after),), reason, happenings=(happening,))


def unflush(node: NodeView, snapshot: ClusterSnapshot, placer: Placer, slots: Slots) -> list[LeaderAction]:
    """What to do now for a node that is taken back into service."""
    drain, actions, waiting = drain_of(node), list[LeaderAction](), False
    own = (*snapshot.vms_by_home.get(node.name, ()), *snapshot.vms_by_node.get(node.name, ()))
    concerned = {vm.value.uuid: vm.value for vm in own if belongs_to(vm.value, node.name)}
    for record in sorted(concerned.values(), key=by_importance):
        if record.uuid in drain.stayed:
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


def by_importance(record: VmRecord) -> tuple[int, int, str]:
    """Sorts VMs in the order in which they are helped: the most important first, of those the largest."""
    return (-record.metadata.priority, -record.memory_mib, record.name)


def _bring_back(
    record: VmRecord, node: str, drain: DrainReport, snapshot: ClusterSnapshot, placer: Placer, slots: Slots
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
        if record.kept_off:
            return LeaveVm(node, record.uuid, record.kept_off)
        return _start_at_home(record, node, snapshot, placer)
    if record.node == node:
        return "wait" if attempts and record.state is VmState.STARTING else "done"
    if record.state in OFF:
        return "done"
    if drain.leaves_running:
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
        return LeaveVm(node, record.uuid, unreadable or decision.reason, decision)
    why = "it was held" if record.held else "autostart"
    return StartVm(node, record.uuid, f"{node} is ready: {why}")


def _migrate_home(
    record: VmRecord, node: str, snapshot: ClusterSnapshot, placer: Placer, slots: Slots
) -> LeaderAction | str:
    decision = _place_at_home(record, node, snapshot, placer)
    unreadable = changes.unreadable_ledger(snapshot, record.node)
    if unreadable or not decision.node:
        return LeaveVm(node, record.uuid, unreadable or decision.reason, decision)
    if not slots.take(record.node, node):
        return "wait"
    return MoveVm(node, record.uuid, node, f"{node} is ready: it goes home from {record.node}", decision)
