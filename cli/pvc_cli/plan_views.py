# SPDX-License-Identifier: Apache-2.0
"""plan_views: what the commands read from answers about plans and capacity; as in `views`, a test compares them."""

from __future__ import annotations

from typing import TypedDict

from pvc_cli.views import WaitingVm

PlanStep = TypedDict("PlanStep", {"vm": str, "from": str, "to": str, "action": str, "after": list[int], "reason": str})
"""One VM goes from a node to another."""


class PlanStay(TypedDict):
    """A VM that gets no place, and why."""

    vm: str
    node: str
    reason: str


class PlanView(TypedDict):
    """A plan: its steps and what stays."""

    steps: list[PlanStep]
    stay: list[PlanStay]
    complete: bool
    proven: bool
    kind: str
    subject: str
    reason: str


class BalanceView(PlanView):
    """What a balance would do, and what for."""

    score_before: float
    score_after: float
    repaired: list[str]
    unrepaired: list[str]


class StrandedVm(TypedDict):
    """A VM that would not come back, and why."""

    vm: str
    reason: str


class NodeLoss(TypedDict):
    """What the loss of one node would mean; `proven`: for certain."""

    survivable: bool
    stranded: list[StrandedVm]
    proven: bool


class CapacityView(TypedDict):
    """The loss of each node; how many more VMs fit."""

    nodes: dict[str, NodeLoss]
    fit: int | None


PlanProgressStep = TypedDict(
    "PlanProgressStep",
    {
        "vm": str,
        "from": str,
        "to": str,
        "state": str,
        "after": list[int],
        "reason": str,
        "note": str,
        "progress_pct": int | None,
    },
)
"""One step of the plan that is being carried out."""


class PlanProgress(TypedDict):
    """How far a plan is, or what became of the last one."""

    kind: str
    subject: str
    steps: list[PlanProgressStep]
    left: list[WaitingVm]
    done: int
    total: int
    cancelled: bool
    reason: str
    started_at: str
    finished_at: str
