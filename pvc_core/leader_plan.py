# SPDX-License-Identifier: Apache-2.0
"""leader_plan: carrying out an applied plan: which of its steps begins now, and how those under way have ended.

Levels, not edges: each step is judged by where its VM is now. Whatever else moves or stops VMs (a drain, a command, a
guest that ends) wins: the step is dropped with a note, and the others go on. A step begins when those before it are
over, the slots allow and the filters agree once more, in the transaction that reserves the place; it is tried a
bounded number of times, so a plan always ends, with a report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import Stored, encode
from pvc_core.errors import Refused
from pvc_core.events import EventKind, Happening
from pvc_core.leader_actions import BeginStep, EndStep, FinishPlan, PlanAction
from pvc_core.leader_flush import room_comes_free
from pvc_core.leader_slots import Slots
from pvc_core.model import NodeMode, VmRecord, VmState
from pvc_core.placement import Placer, Planner
from pvc_core.plan_record import PlannedStep, PlanRecord, StepState, report
from pvc_core.plugin_types import PlacementRequest
from pvc_core.ports import Check, Op, Set
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF, VmEvent


def decide(snapshot: ClusterSnapshot, placer: Placer, slots: Slots) -> list[PlanAction]:
    """What to do now for the plan that has been applied."""
    if snapshot.plan is None or snapshot.plan.value.is_finished:
        return []
    plan = snapshot.plan.value
    if not any(step.is_open for step in plan.steps):
        return [FinishPlan("", report(plan))]
    look = _Look(snapshot, placer, placer.planner(snapshot), slots, plan)
    found = (look.at(index, step) for index, step in enumerate(plan.steps) if step.is_open)
    return [action for action in found if action is not None]


@dataclass
class _Look:
    """One look at all steps; `planner` and `slots` know what has begun in this look."""

    snapshot: ClusterSnapshot
    placer: Placer
    planner: Planner
    slots: Slots
    plan: PlanRecord

    def at(self, index: int, step: PlannedStep) -> PlanAction | None:
        """The end of the step, its beginning, or nothing while it waits or goes on."""
        if any(self.plan.steps[before].is_open for before in step.after):
            return None  # among them may be the one that brings its VM to where it begins
        ended = _ended(step, self.snapshot)
        if ended is not None:
            return EndStep(step.source, step.uuid, index, *ended)
        vm = self.snapshot.vms.get(step.uuid)
        if vm is None or not _is_startable(step, vm.value):
            return None
        problem = self._problem(step, vm.value)
        if problem:
            return EndStep(step.source, step.uuid, index, "failed", problem)
        if not self._has_its_turn(step):
            return None
        if not self.planner.place(_request(vm.value), only=step.target).node:
            return self._without_place(index, step, vm.value)
        return BeginStep(step.source, step.uuid, index, step.target, step.reason)

    def _problem(self, step: PlannedStep, vm: VmRecord) -> str:
        """Why it cannot be begun at all, or not again; "" when it can."""
        if step.target not in self.snapshot.nodes:
            return f"there is no node {step.target} any more"
        enough = 1 if self.plan.cancelled else self.snapshot.settings.migration_attempts
        if step.attempts >= enough:
            return vm.reason
        return changes.unreadable_ledger(self.snapshot, step.source)

    def _has_its_turn(self, step: PlannedStep) -> bool:
        source = self.snapshot.nodes[step.source]
        if source.mode is NodeMode.FLUSHING and not step.off:
            return False  # the drain moves it, or leaves it: then it is the plan's turn again
        return step.off or self.slots.take(step.source, step.target)

    def _without_place(self, index: int, step: PlannedStep, vm: VmRecord) -> PlanAction | None:
        """The target does not take it: for good, or until something that is on its way has left or begun."""
        decision = self.placer.place(_request(vm), self.snapshot, only=step.target)
        if decision.node or room_comes_free(step.source, decision, self.snapshot):
            return None
        before = [self.plan.steps[other] for other in step.after if self.plan.steps[other].state != "done"]
        undone = f", and {before[0].vm} has not made room: {before[0].note}" if before else ""
        return EndStep(step.source, step.uuid, index, "failed", f"{decision.reason}{undone}")


def _ended(step: PlannedStep, snapshot: ClusterSnapshot) -> tuple[StepState, str] | None:
    """How the step has ended, by where its VM is now; None when it has not."""
    stored = snapshot.vms.get(step.uuid)
    if stored is None:
        return None if layout.vm(step.uuid) in snapshot.broken else ("dropped", "the VM is gone")
    vm = stored.value
    if vm.state is VmState.MIGRATING:
        is_ours = step.state == "under-way" and vm.target == step.target
        return ("dropped", "its migration is being cancelled") if is_ours and vm.cancelling else None
    if vm.node == step.target:
        return "done", "it has arrived" if step.state == "under-way" else "it was there already"
    if vm.node != step.source:
        return "dropped", f"it is on {vm.node} now, not on {step.source}"
    if step.off:
        return None if vm.state in OFF else ("dropped", f"it was off when the plan was applied, and is {vm.state} now")
    if vm.state in OFF or vm.state is VmState.SHUTTING_DOWN:
        return "dropped", f"it is {vm.state}"
    return None


def _is_startable(step: PlannedStep, vm: VmRecord) -> bool:
    """Its state allows it to begin, or to begin again after a failure."""
    return vm.node == step.source and (vm.state in OFF if step.off else vm.state is VmState.RUNNING)


def _request(vm: VmRecord) -> PlacementRequest:
    return PlacementRequest.for_vm(vm, exclude=frozenset({vm.node}))


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: PlanAction, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """The transaction of an action, on the snapshot's versions. Raises `Refused` or `NoCandidate` when outdated."""
    stored = snapshot.plan
    if stored is None or stored.value.is_finished:
        raise Refused("plan", "it has ended")
    plan = stored.value
    if isinstance(action, FinishPlan):
        if any(step.is_open for step in plan.steps):
            raise Refused("plan", "it has steps that have not ended")
        ended = msgspec.structs.replace(plan, finished_at=now, reason=action.reason)
        happening = Happening(EventKind.PLAN_FINISHED, action.reason)
        return Change((write_plan(stored, ended),), action.reason, happenings=(happening,))
    step = plan.steps[action.step] if action.step < len(plan.steps) else None
    if step is None or step.uuid != action.uuid or not step.is_open:
        raise Refused("plan", f"its step {action.step + 1} is another one, or has ended")
    if isinstance(action, EndStep):
        after = plan.with_step(action.step, state=action.state, note=action.reason)
        vm = snapshot.vms.get(action.uuid)
        seen = (Check(vm.key, vm.version),) if vm else ()
        reason = f"{action.state}: {action.reason}"
        happening = Happening(EventKind.PLAN_STEP_ENDED, reason, step.vm, step.uuid, step.source, step.target)
        return Change((write_plan(stored, after), *seen), reason, happenings=(happening,))
    return _beginning(action, step, stored, snapshot, placer, now)


def _beginning(
    action: BeginStep,
    step: PlannedStep,
    stored: Stored[PlanRecord],
    snapshot: ClusterSnapshot,
    placer: Placer,
    now: str,
) -> Change:
    """The VM sets out, its place is reserved, and the plan knows it: at once."""
    vm = snapshot.vms.get(step.uuid)
    if vm is None or not _is_startable(step, vm.value):
        raise Refused(step.vm, f"it does not run on {step.source} any more")
    decision = placer.place(_request(vm.value), snapshot, only=step.target)
    decision.raise_if_none()
    plan = stored.value
    change = changes.of_event(
        vm,
        VmEvent.RELOCATE if step.off else VmEvent.MIGRATE,
        f"{plan.kind} plan: {step.reason}",
        now,
        changes.ledgers_of(snapshot, step.source, step.target),
        target=step.target,
        permanent=plan.permanent,
        decision=decision,
    )
    begun = plan.with_step(action.step, state="under-way", attempts=step.attempts + 1, note="")
    ops: tuple[Op, ...] = (*change.ops, write_plan(stored, begun), changes.same_node(snapshot.nodes[step.target]))
    return replace(change, ops=ops)


def write_plan(stored: Stored[PlanRecord], record: PlanRecord) -> Set:
    """Replace the record of the plan."""
    return Set(layout.PLAN, encode(record, stored.data), stored.version)
