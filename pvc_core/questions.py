# SPDX-License-Identifier: Apache-2.0
"""questions: what can be asked of a cluster without changing it: why there, what if, what would it do, what is left.

Each answer is made by the code that would act: the placement of a start, the leader's decisions of a flush. The API
asks the cluster as it is now, `pvc ... --snapshot FILE` the cluster of a file; both ask here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from pvc_core import changes, layout
from pvc_core.balance import recommend
from pvc_core.capacity import Capacity, VmSize, capacity_of
from pvc_core.codec import Stored
from pvc_core.errors import BrokenRecord, Refused
from pvc_core.leader_actions import HoldVm, LeaderAction, LeaveVm, MoveVm, Policies, drain_of
from pvc_core.leader_flush import flush, places_elsewhere, refuse_flush
from pvc_core.leader_slots import Slots
from pvc_core.limits import limit_words
from pvc_core.metadata import check_metadata
from pvc_core.model import DrainReport, NodeMode, VmMetadata, VmRecord, VmState
from pvc_core.placement import Decision, Placer
from pvc_core.plan_document import (
    BalanceDocument,
    PlanDocument,
    PlanKind,
    balance_document_of,
    document_of,
    summary_of,
)
from pvc_core.planner import Plan, Stay, Step, Wish, plan
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF, VmEvent, rule_for

WILL_MOVE = frozenset({VmState.RUNNING, VmState.STARTING, VmState.RESTARTING})
"""States from which a VM is running by the time a flush comes to it."""
NEW_VM = "new"


@dataclass(frozen=True)
class Questions:
    """Questions about one snapshot, answered with the drivers of one registry."""

    snapshot: ClusterSnapshot
    placer: Placer
    policies: Policies

    def explain(self, vm: str) -> Decision:
        """Where the VM would be placed now, and why."""
        return self.placer.place(PlacementRequest.for_vm(self.snapshot.vm(vm).value), self.snapshot)

    def explain_new(self, size: VmSize, metadata: VmMetadata, name: str = NEW_VM) -> Decision:
        """Where a VM that does not exist would be placed. Raises `InvalidInput` for names nobody knows."""
        checked = check_metadata(metadata, limit_words(self.snapshot), self.placer.drivers.selectors, self.policies)
        request = PlacementRequest(
            vm=name, uuid="", memory_mib=size.memory_mib, vcpus=size.vcpus, metadata=checked, current_node=""
        )
        return self.placer.place(request, self.snapshot)

    def capacity(self, size: VmSize | None = None, node: str = "") -> Capacity:
        """What the loss of each node would mean, or of `node` alone; with `size`, how many more such VMs fit."""
        return capacity_of(self.snapshot, self.placer, size, nodes=[node] if node else None)

    # ------------------------------------------------------------------------------------------- plans

    def flush(self, node: str) -> PlanDocument:
        """What draining the node would do, or what is left of a flush that is under way. Raises as the command does."""
        view = self.snapshot.node(node)
        if view.mode is NodeMode.FLUSHED:
            return document_of(Plan(), "flush", node, f"{node} is flushed already", self.snapshot)
        refuse_flush(view)
        draining = _draining(view, self.snapshot)
        view = draining.nodes[node]
        actions = flush(view, draining, self.placer, self.policies, Slots.unlimited())
        steps = tuple(_flush_steps(node, actions, self.snapshot))
        stay = tuple(_flush_stays(view, actions, draining))
        complete = not stay and all(step.action == "migrate" for step in steps)
        proven = complete or places_elsewhere(view, draining, self.placer).proven
        found = Plan(steps=steps, stay=stay, complete=complete, proven=proven)
        return document_of(found, "flush", node, f"flush of {node}: {summary_of(found)}", self.snapshot)

    def migrate(self, vm: str, target: str = "", *, permanent: bool = False, make_room: bool = False) -> PlanDocument:
        """What migrating the VM (moving it for good, with `permanent`) would do. Raises as the command does.

        make_room: other running VMs may move so that this one fits.
        """
        record = self.snapshot.vm(vm).value
        kind: PlanKind = "move" if permanent else "migrate"
        if target:
            self.snapshot.node(target)
        if target == record.node and record.state is not VmState.MIGRATING:
            return document_of(Plan(), kind, record.name, f"{record.name} is on {target} already", self.snapshot)
        refusal = rule_for(record.state, VmEvent.RELOCATE if permanent and record.state in OFF else VmEvent.MIGRATE)
        if isinstance(refusal, str):
            raise Refused(record.name, refusal)
        if changes.unreadable_ledger(self.snapshot, record.node):
            raise BrokenRecord(layout.ledger(record.node), "on arrival it would have to be changed")
        request = PlacementRequest.for_vm(record, exclude=frozenset({record.node}))
        found = plan([Wish(request, to=target)], self.snapshot, self.placer, may_move_others=make_room)
        return document_of(found, kind, record.name, f"{kind} of {record.name}: {summary_of(found)}", self.snapshot)

    def balance(self) -> BalanceDocument:
        """Which migrations would repair violated rules and limits and spread the VMs evenly, if it is worth doing."""
        return balance_document_of(recommend(self.snapshot, self.placer), self.snapshot)


# ------------------------------------------------------------------------------------------------- a flush


def _draining(view: NodeView, snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """The cluster as it is when the leader looks at a flush of the node, all that starts there running by then."""
    record = view.record.value
    if view.mode is not NodeMode.FLUSHING:
        record = msgspec.structs.replace(record, mode=NodeMode.FLUSHING, drain=DrainReport())
    flushing = replace(view, record=replace(view.record, value=record))
    starting = {
        uuid: replace(stored, value=msgspec.structs.replace(stored.value, state=VmState.RUNNING))
        for uuid, stored in snapshot.vms.items()
        if stored.value.node == view.name and stored.value.state in WILL_MOVE - {VmState.RUNNING}
    }
    vms: Mapping[str, Stored[VmRecord]] = {**snapshot.vms, **starting} if starting else snapshot.vms
    return replace(snapshot, nodes={**snapshot.nodes, view.name: flushing}, vms=vms)


def _flush_steps(node: str, actions: list[LeaderAction], snapshot: ClusterSnapshot) -> Iterator[Step]:
    for action in actions:
        if isinstance(action, MoveVm):
            vm = snapshot.vms[action.uuid].value.name
            yield Step(vm=vm, source=node, target=action.target, reason=action.reason)
        elif isinstance(action, HoldVm):
            vm = snapshot.vms[action.uuid].value.name
            yield Step(vm=vm, source=node, target=node, action="shutdown", reason=action.reason)


def _flush_stays(view: NodeView, actions: list[LeaderAction], draining: ClusterSnapshot) -> Iterator[Stay]:
    """VMs that the flush leaves where they are, has left there already, or would first wait with."""
    stayed = dict(drain_of(view).stayed)
    acted = set()
    for action in actions:
        if isinstance(action, LeaveVm):
            stayed[action.uuid] = action.reason
        elif isinstance(action, MoveVm | HoldVm):
            acted.add(action.uuid)
    for stored in draining.vms_by_node.get(view.name, ()):
        vm = stored.value
        if vm.uuid in stayed:
            yield Stay(vm=vm.name, node=view.name, reason=stayed[vm.uuid])
        elif vm.state is VmState.RUNNING and vm.uuid not in acted:
            yield Stay(vm=vm.name, node=view.name, reason="it waits for a place that is about to come free")
