# SPDX-License-Identifier: Apache-2.0
"""leader_actions: what the leader can decide to do, each with the node that it concerns and a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pvc_core.model import DrainReport, NodeMode
from pvc_core.placement import Decision
from pvc_core.plan_record import StepState
from pvc_core.plugin_types import RecoveryPolicyEntry
from pvc_core.snapshot import NodeView
from pvc_core.vm_states import VmEvent

Policies = Mapping[str, RecoveryPolicyEntry]
EMPTY_DRAIN = DrainReport()


def drain_of(node: NodeView) -> DrainReport:
    """The report of the drain under way."""
    return node.record.value.drain or EMPTY_DRAIN


@dataclass(frozen=True)
class MoveVm:
    """Migrate a VM for the drain or return of `node`."""

    node: str
    uuid: str
    target: str
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """How the target was chosen."""


@dataclass(frozen=True)
class StartVm:
    """Start a VM that belongs to `node`, there; or abort its shutdown."""

    node: str
    uuid: str
    reason: str


@dataclass(frozen=True)
class StartHeld:
    """Start a held VM on `node`, the first that can take it."""

    node: str
    uuid: str
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """How the node was chosen."""


@dataclass(frozen=True)
class RetryVm:
    """Start a VM that has failed elsewhere on `node`."""

    node: str
    uuid: str
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """How the node was chosen."""


@dataclass(frozen=True)
class HoldVm:
    """Shut a VM down and remember that it starts again when `node` is ready."""

    node: str
    uuid: str
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """Why no node can take it."""


@dataclass(frozen=True)
class CancelMove:
    """Break off a migration away from `node`, whose flush was cancelled."""

    node: str
    uuid: str
    reason: str


@dataclass(frozen=True)
class LeaveVm:
    """Note in the report of `node` that a VM could not be helped."""

    node: str
    uuid: str
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """Why no node can take it, if that is why."""


@dataclass(frozen=True)
class FinishDrain:
    """`node` has reached `mode`."""

    node: str
    mode: NodeMode
    reason: str


@dataclass(frozen=True)
class RecoverVm:
    """Start a VM of `node`, which is known to be off, on `target`."""

    node: str
    uuid: str
    target: str
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """How the target was chosen; None where the guest may have arrived."""


@dataclass(frozen=True)
class LoseVm:
    """Write down what the end of `node` means for a VM that is not started on another."""

    node: str
    uuid: str
    event: VmEvent
    reason: str
    decision: Decision | None = field(default=None, compare=False)
    """Why no node can take it, if that is why."""


@dataclass(frozen=True)
class FinishRecovery:
    """All VMs of `node` have been dealt with."""

    node: str
    reason: str


@dataclass(frozen=True)
class BeginStep:
    """Let the VM of a step of the applied plan set out from `node` to `target`."""

    node: str
    uuid: str
    step: int
    target: str
    reason: str


@dataclass(frozen=True)
class EndStep:
    """Note how a step of the applied plan has ended."""

    node: str
    uuid: str
    step: int
    state: StepState
    reason: str


@dataclass(frozen=True)
class FinishPlan:
    """All steps of the applied plan have ended. `node`: none."""

    node: str
    reason: str


PlanAction = BeginStep | EndStep | FinishPlan
VmAction = MoveVm | StartVm | HoldVm | CancelMove | LeaveVm
RecoveryAction = RecoverVm | LoseVm | FinishRecovery
LeaderAction = VmAction | StartHeld | RetryVm | FinishDrain | PlanAction | RecoveryAction
