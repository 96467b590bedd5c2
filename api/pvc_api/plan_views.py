# SPDX-License-Identifier: Apache-2.0
"""plan_views: how far the plan that was applied is, step by step, with how far each migration is."""

from __future__ import annotations

from pvc_api.views import PlanProgress, PlanStepView, WaitingVm
from pvc_api.vm_views import progress_pct
from pvc_core.model import VmState
from pvc_core.plan_record import PlannedStep, report
from pvc_core.snapshot import ClusterSnapshot


def plan_progress(snapshot: ClusterSnapshot) -> PlanProgress | None:
    """The plan under way or the last one; None when there never was one."""
    stored = snapshot.plan
    if stored is None:
        return None
    plan = stored.value
    return PlanProgress(
        kind=plan.kind,
        subject=plan.subject,
        steps=tuple(_step_view(step, snapshot) for step in plan.steps),
        left=tuple(WaitingVm(vm=left.vm, reason=left.reason) for left in plan.left),
        done=plan.count("done"),
        total=len(plan.steps),
        cancelled=plan.cancelled,
        reason=report(plan),
        started_at=plan.started_at,
        finished_at=plan.finished_at,
        version=stored.version,
    )


def _step_view(step: PlannedStep, snapshot: ClusterSnapshot) -> PlanStepView:
    stored = snapshot.vms.get(step.uuid)
    moves = step.state == "under-way" and stored is not None and stored.value.state is VmState.MIGRATING
    return PlanStepView(
        vm=step.vm,
        source=step.source,
        target=step.target,
        state=step.state,
        after=step.after,
        attempts=step.attempts,
        reason=step.reason,
        note=step.note,
        progress_pct=progress_pct(stored.value, snapshot) if moves and stored is not None else None,
    )
