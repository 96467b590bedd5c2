# SPDX-License-Identifier: Apache-2.0
"""events: what the cluster remembers of every change and decision: who made it, why, and how a place was chosen.

An event is written in the transaction of the change that it tells of, so that neither is ever without the other. It
never changes afterwards. How long events are kept is the setting `events_kept`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from pvc_core.event_kinds import MEANINGS, SEVERITIES, EventKind, Severity, severity_of
from pvc_core.layout import SCHEMA_VERSION
from pvc_core.model import NodeRecord, VmRecord, VmState
from pvc_core.placement import Decision, Rejection
from pvc_core.vm_states import VmEvent

__all__ = [
    "EventKind",
    "MEANINGS",
    "Severity",
    "SEVERITIES",
    "severity_of",
    "KEPT_RANKED",
    "KEPT_REJECTIONS",
    "LeftOut",
    "Event",
    "VmChange",
    "NodeChange",
    "Happening",
    "of_vm",
    "of_node",
    "stayed",
    "kind_of",
    "event_of",
]

KEPT_RANKED = 5
"""Candidates of a decision that its event keeps, best first."""
KEPT_REJECTIONS = 10
"""Rejections of a decision that its event keeps."""
REASON_CHARACTERS = 2000
REJECTION_CHARACTERS = 300


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a decision its event does not keep."""

    candidates: int = 0
    rejections: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened.

    id: sorts by the time of writing, as far as the hosts' clocks agree. at: wall-clock time, for people. vm: its name
    then. node: where it happened, of a VM that moves where it was; target: where such a VM goes. by: who caused it:
    "api:TOKEN", "local:USER", "leader:NODE" or "agent:NODE". decision: how a place was chosen, its best candidates and
    first rejections; `left_out` counts the others.
    """

    schema: int = SCHEMA_VERSION
    id: str
    at: str
    kind: str
    """One of `EventKind`, or one that a newer PVC knows."""
    vm: str = ""
    uuid: str = ""
    node: str = ""
    target: str = ""
    reason: str = ""
    plugin: str = ""
    by: str = ""
    decision: Decision | None = None
    left_out: LeftOut | None = None

    @property
    def severity(self) -> Severity:
        """How much a person should care; it follows from the kind and is not kept."""
        return severity_of(self.kind)


@dataclass(frozen=True)
class VmChange:
    """A VM's record before and after a change. `previous` None: it is new. `vm` None: it is undefined."""

    previous: VmRecord | None
    vm: VmRecord | None
    reason: str


@dataclass(frozen=True)
class NodeChange:
    """A node's record before and after a change. `previous` None: it is new."""

    previous: NodeRecord | None
    node: NodeRecord
    reason: str


@dataclass(frozen=True)
class Happening:
    """What an event is to say, before it is known when and by whom it is written; and the record that changes."""

    kind: EventKind
    reason: str
    vm: str = ""
    uuid: str = ""
    node: str = ""
    target: str = ""
    plugin: str = ""
    decision: Decision | None = None
    change: VmChange | NodeChange | None = None


def of_vm(
    kind: EventKind, previous: VmRecord | None, vm: VmRecord | None, reason: str, decision: Decision | None = None
) -> Happening:
    """Something happens to a VM, which is new (`previous` None), changed, or gone (`vm` None)."""
    known = vm or previous
    if known is None:
        raise ValueError("something that happens to a VM needs its record")
    node = previous.node if previous else known.node
    target = known.target or (known.node if known.node != node else "")
    change = VmChange(previous, vm, reason)
    return Happening(kind, reason, known.name, known.uuid, node, target, decision=decision, change=change)


def of_node(kind: EventKind, previous: NodeRecord | None, node: NodeRecord, reason: str) -> Happening:
    """Something happens to a node."""
    return Happening(kind, reason, node=node.name, change=NodeChange(previous, node, reason))


def stayed(
    vm: VmRecord, previous: NodeRecord, node: NodeRecord, reason: str, decision: Decision | None = None
) -> Happening:
    """The drain or the return of a node, whose record notes it, cannot help this VM."""
    change = NodeChange(previous, node, reason)
    return Happening(EventKind.VM_STAYED, reason, vm.name, vm.uuid, node.name, decision=decision, change=change)


_KIND_OF_EVENT: Mapping[VmEvent, EventKind] = {
    VmEvent.START: EventKind.VM_STARTING,
    VmEvent.RESTART: EventKind.VM_RESTARTING,
    VmEvent.MIGRATE: EventKind.VM_MIGRATING,
    VmEvent.HOLD: EventKind.VM_HELD,
    VmEvent.RELOCATE: EventKind.VM_MOVED,
    VmEvent.RECOVER: EventKind.VM_RECOVERING,
    VmEvent.RETRY: EventKind.VM_RETRIED,
    VmEvent.SETTLED: EventKind.VM_SETTLED,
    VmEvent.TARGET_LOST: EventKind.VM_MIGRATION_FAILED,
    VmEvent.LOST_HELD: EventKind.VM_HELD,
    VmEvent.STARTED: EventKind.VM_STARTED,
    VmEvent.START_FAILED: EventKind.VM_START_FAILED,
    VmEvent.GAVE_UP: EventKind.VM_FAILED,
    VmEvent.GONE: EventKind.VM_ENDED,
    VmEvent.ARRIVED: EventKind.VM_MIGRATED,
    VmEvent.MOVED_OFF: EventKind.VM_MOVED,
    VmEvent.MIGRATION_FAILED: EventKind.VM_MIGRATION_FAILED,
    VmEvent.MIGRATION_CANCELLED: EventKind.VM_MIGRATION_CANCELLED,
}
_KIND_OF_STATE: Mapping[VmState, EventKind] = {
    VmState.STARTING: EventKind.VM_STARTING,
    VmState.SHUTTING_DOWN: EventKind.VM_SHUTTING_DOWN,
    VmState.STOPPED: EventKind.VM_STOPPED,
    VmState.DISABLED: EventKind.VM_DISABLED,
}


def kind_of(event: VmEvent, after: VmState) -> EventKind:
    """The kind of what the state machine's event makes of a VM."""
    if event is VmEvent.START and after is VmState.MIGRATING:
        return EventKind.VM_MIGRATION_CANCELLED
    return _KIND_OF_EVENT.get(event) or _KIND_OF_STATE[after]


# ----------------------------------------------------------------------------------------------- as they are kept


def event_of(happening: Happening, identity: str, at: str, by: str) -> Event:
    """The event as it is kept: bounded, however large the cluster and whatever a plugin said."""
    decision, left_out = _bounded(happening.decision)
    return Event(
        id=identity,
        at=at,
        kind=happening.kind.value,
        vm=happening.vm,
        uuid=happening.uuid,
        node=happening.node,
        target=happening.target,
        reason=_cut(happening.reason, REASON_CHARACTERS),
        plugin=happening.plugin,
        by=by,
        decision=decision,
        left_out=left_out,
    )


def _bounded(decision: Decision | None) -> tuple[Decision | None, LeftOut | None]:
    if decision is None:
        return None, None
    rejections = tuple(
        Rejection(rejection.node, _cut(rejection.reason, REJECTION_CHARACTERS), rejection.plugin)
        for rejection in decision.rejections[:KEPT_REJECTIONS]
    )
    left_out = LeftOut(
        candidates=len(decision.ranking[KEPT_RANKED:]), rejections=len(decision.rejections[KEPT_REJECTIONS:])
    )
    kept = msgspec.structs.replace(
        decision,
        ranking=decision.ranking[:KEPT_RANKED],
        rejections=rejections,
        degraded=_cut(decision.degraded, REASON_CHARACTERS),
        reason=_cut(decision.reason, REASON_CHARACTERS),
    )
    return kept, left_out if left_out.candidates or left_out.rejections else None


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
