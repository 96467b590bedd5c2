# SPDX-License-Identifier: Apache-2.0
"""drain_views: how far a flush or ready is, VM by VM, worked out from the snapshot: what moves, waits, stayed.

The store keeps what the leader needs to go on; what a person wants to know follows from it and from the VMs.
"""

from __future__ import annotations

from collections.abc import Iterable

from pvc_api.views import DrainView, MovingVm, WaitingVm
from pvc_api.vm_views import progress_pct
from pvc_core.leader import comes_back
from pvc_core.model import DrainReport, NodeMode, VmRecord, VmState
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF


def drain_view(node: NodeView, snapshot: ClusterSnapshot) -> DrainView | None:
    """The progress of the drain that runs on this node, or the result of the last one; None if there was none."""
    drain = node.record.value.drain
    if drain is None:
        return None
    busy = [vm for vm in _concerned(node, snapshot) if vm.uuid not in drain.stayed]
    moving = [vm for vm in busy if _moves(vm, node, drain)]
    waiting = [vm for vm in busy if vm not in moving]
    return DrainView(
        total=max(drain.total, len(drain.attempts.keys() | drain.stayed.keys() | {vm.uuid for vm in busy})),
        remaining=len(busy),
        moving=tuple(_moving_view(vm, snapshot) for vm in _by_name(moving)),
        waiting=tuple(WaitingVm(vm=vm.name, reason=_waits_for(vm, node, snapshot)) for vm in _by_name(waiting)),
        stayed=tuple(
            WaitingVm(vm=_name_of(uuid, snapshot), reason=reason) for uuid, reason in sorted(drain.stayed.items())
        ),
        started_at=drain.started_at,
        finished_at=drain.finished_at,
    )


def _concerned(node: NodeView, snapshot: ClusterSnapshot) -> Iterable[VmRecord]:
    """The VMs that a running drain still has something to do for."""
    if node.mode is NodeMode.FLUSHING:
        return [vm.value for vm in snapshot.vms_by_node.get(node.name, ()) if vm.value.state not in OFF]
    if node.mode is NodeMode.UNFLUSHING:
        return [vm.value for vm in snapshot.vms.values() if _returns(vm.value, node)]
    return []


def _returns(vm: VmRecord, node: NodeView) -> bool:
    """It comes home, is about to start there, or its way out of there is being broken off."""
    drain = node.record.value.drain or DrainReport()
    here = vm.node == node.name
    starts = here and vm.state is VmState.STARTING and vm.uuid in drain.attempts
    turns_back = here and vm.state is VmState.MIGRATING and drain.cancels_flush
    return starts or turns_back or (comes_back(vm, node.name) and not (vm.state in OFF and vm.uuid in drain.attempts))


def _moves(vm: VmRecord, node: NodeView, drain: DrainReport) -> bool:
    """The drain is busy with it, rather than waiting to be."""
    if vm.state is VmState.MIGRATING:
        return True
    if node.mode is NodeMode.FLUSHING:
        return vm.state is VmState.SHUTTING_DOWN and vm.held
    return vm.state is VmState.STARTING and vm.uuid in drain.attempts


def _waits_for(vm: VmRecord, node: NodeView, snapshot: ClusterSnapshot) -> str:
    """What has to happen before the drain takes care of this VM."""
    if vm.state is VmState.RUNNING:
        limit = snapshot.settings.max_parallel_migrations
        under_way = sum(1 for other in snapshot.vms.values() if _shares_slots(other.value, vm, node))
        if under_way:
            return f"its turn: {under_way} of at most {limit} migrations at a time are under way"
        return "the leader to choose its next step"
    if vm.state in OFF:
        return "the leader to start it"
    return f"it is {vm.state}; its turn comes when that is over"


def _shares_slots(other: VmRecord, vm: VmRecord, node: NodeView) -> bool:
    """A migration that counts against the same limit: from the same source, or to the node that becomes ready."""
    if other.state is not VmState.MIGRATING:
        return False
    return other.node == vm.node or (node.mode is NodeMode.UNFLUSHING and other.target == node.name)


def _moving_view(vm: VmRecord, snapshot: ClusterSnapshot) -> MovingVm:
    progress = progress_pct(vm, snapshot)
    return MovingVm(vm=vm.name, state=vm.state.value, target=vm.target, progress_pct=progress)


def _by_name(vms: Iterable[VmRecord]) -> list[VmRecord]:
    return sorted(vms, key=lambda vm: vm.name)


def _name_of(uuid: str, snapshot: ClusterSnapshot) -> str:
    stored = snapshot.vms.get(uuid)
    return stored.value.name if stored else uuid
