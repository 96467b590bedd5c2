# SPDX-License-Identifier: Apache-2.0
"""host_shutdown: what a node's daemon does for its guests when the host goes down by plan, before it leaves.

Drain the node, or shut its guests down, the least important first, and hold them: they start again when the node is
back, which is taken into service by itself then. It looks at levels: whoever else moves or stops a VM meanwhile wins,
and a daemon that is killed in between leaves a record that says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.leader_flush import begin_flush
from pvc_core.model import NodeMode, NodeRecord, VmRecord, VmState
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF, VmEvent

Policy = Literal["leave", "flush", "shutdown"]
IN_SERVICE = (NodeMode.READY, NodeMode.UNFLUSHING)
STOPPABLE = (VmState.STARTING, VmState.RUNNING, VmState.RESTARTING)


# ------------------------------------------------------------------------------------------------ deciding


@dataclass(frozen=True)
class Drain:
    """Have the leader drain this node."""

    reason: str


@dataclass(frozen=True)
class TakeOut:
    """Take this node out of service: no VM comes here any more, and none is moved away."""

    reason: str


@dataclass(frozen=True)
class Hold:
    """Shut a guest down and hold it."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class Leave:
    """There is nothing left to do, or no time for it."""

    reason: str


HostAction = Drain | TakeOut | Hold | Leave


def decide(
    policy: Policy, node: NodeView, snapshot: ClusterSnapshot, now_s: float, deadline_s: float
) -> tuple[HostAction, ...]:
    """What to do now; nothing: wait for what is under way. deadline_s: when, by the same clock, the time is over."""
    if policy == "leave":
        return (Leave("its guests are left alone"),)
    guests = [vm.value for vm in snapshot.vms_by_node.get(node.name, ()) if vm.value.state not in OFF]
    if now_s >= deadline_s:
        return (Leave(f"the time is over; {len(guests)} of its guests still run"),)
    if policy == "flush":
        return _drained(node, guests)
    if node.mode is not NodeMode.FLUSHED:
        return (TakeOut("its host goes down: it takes no VMs, and its guests are shut down and held"),)
    if not guests:
        return (Leave("its guests are off"),)
    return _next_to_hold(guests)


def _drained(node: NodeView, guests: list[VmRecord]) -> tuple[HostAction, ...]:
    if node.mode in IN_SERVICE:
        return (Drain("its host goes down"),)
    if node.mode is NodeMode.FLUSHING:
        return ()
    return (Leave(f"it is drained; {len(guests)} of its guests stayed" if guests else "it is drained"),)


def _next_to_hold(guests: list[VmRecord]) -> tuple[HostAction, ...]:
    """Those with the lowest priority, once all below are off. What migrates is left out until it has come or gone."""
    here = [vm for vm in guests if vm.state is not VmState.MIGRATING]
    lowest = min((vm.metadata.priority for vm in here), default=0)
    due = [vm for vm in here if vm.metadata.priority == lowest and vm.state in STOPPABLE]
    return tuple(Hold(vm.uuid, f"the host of {vm.node} goes down: held until it is back") for vm in due)


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: Drain | TakeOut | Hold, name: str, session: str, snapshot: ClusterSnapshot, now: str) -> Change:
    """The transaction of an action of the node `name`. Raises `Refused` when it does not make sense any more."""
    node = snapshot.node(name)
    match action:
        case Drain():
            if node.mode not in IN_SERVICE:
                raise Refused(name, f"it is {node.mode}")
            return begin_flush(node, snapshot, action.reason, now, goes_down=session)
        case TakeOut():
            return _take_out(node, session, action.reason, now)
        case Hold():
            return _hold(action, node, snapshot, now)


def _take_out(node: NodeView, session: str, reason: str, now: str) -> Change:
    before = node.record.value
    after = _out_of_service(before, now)
    goes_down = session if before.mode in IN_SERVICE else before.goes_down
    after = msgspec.structs.replace(after, goes_down=goes_down, reason=reason, changed_at=now)
    happening = of_node(EventKind.NODE_FLUSHED, before, after, reason)
    return Change((changes.write_node(node.record, after),), reason, happenings=(happening,))


def _hold(action: Hold, node: NodeView, snapshot: ClusterSnapshot, now: str) -> Change:
    stored = snapshot.vms.get(action.uuid)
    if stored is None or stored.value.node != node.name:
        raise Refused(action.uuid, "it is not here any more")
    ledgers = changes.ledgers_of(snapshot, stored.value.node, stored.value.target)
    return changes.of_event(stored, VmEvent.HOLD, action.reason, now, ledgers)


def _out_of_service(record: NodeRecord, now: str) -> NodeRecord:
    drain = record.drain
    if drain is not None and not drain.finished_at:
        drain = msgspec.structs.replace(drain, finished_at=now)
    return msgspec.structs.replace(record, mode=NodeMode.FLUSHED, drain=drain)


def has_left(record: NodeRecord, session: str, now: str) -> NodeRecord:
    """The record of a node whose daemon leaves: a drain for its host's sake is over, however far it came."""
    if not record.goes_down or record.goes_down != session or record.mode is not NodeMode.FLUSHING:
        return record
    return _out_of_service(record, now)
