# SPDX-License-Identifier: Apache-2.0
"""changes: how a decision becomes one transaction: the record and every ledger it touches, with their versions.

Whoever changes a VM (a command, the leader, an agent) builds the operations here, so that a reservation never
goes without its record and no record without its reservation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored, encode
from pvc_core.errors import BrokenRecord, PvcError
from pvc_core.events import EventKind, Happening, NodeChange, kind_of, of_vm
from pvc_core.model import Ledger, NodeRecord, Reservation, VmRecord
from pvc_core.placement import Decision
from pvc_core.ports import Check, Create, Delete, Op, Set
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import VmEvent, advance

LedgerOf = Mapping[str, Stored[Ledger] | None]


@dataclass(frozen=True)
class Change:
    """A decided change: operations for one transaction, the sentence that says why, and the VM as it will be.

    No operations: everything is as wanted already; `seen` is what that was concluded from, so that a copy which lags
    behind does not answer "it is so already" to a command that is needed. `on_conflict`: keys whose conflict means a
    definite error (a name that is taken) rather than "decide again". `happenings`: what its events say; a change that
    has operations has at least one, which is written with them.
    """

    ops: tuple[Op, ...]
    reason: str
    vm: VmRecord | None = None
    on_conflict: Mapping[str, PvcError] = field(default_factory=dict)
    seen: tuple[Check, ...] = ()
    happenings: tuple[Happening, ...] = ()


def already(stored: Stored[Any], reason: str, vm: VmRecord | None = None) -> Change:
    """Nothing has to be done, as long as this record is the newest."""
    return Change((), reason, vm, seen=(Check(stored.key, stored.version),))


def on_same_node(change: Change, snapshot: ClusterSnapshot, node: str) -> Change:
    """Only while the chosen node's record is as it was seen: a flush that began meanwhile must not miss the VM."""
    return replace(change, ops=(*change.ops, same_node(snapshot.node(node))))


def write_vm(stored: Stored[VmRecord], record: VmRecord) -> Set:
    """Replace a VM's record, keeping fields this version does not know."""
    return Set(stored.key, encode(record, stored.data), stored.version)


def same_node(view: NodeView) -> Check:
    """The change holds only while the node's record, with its mode, is the one that it was decided on."""
    return Check(view.record.key, view.record.version)


def same_ledger(view: NodeView) -> Op:
    """The change holds only while nothing else is assigned to this node than what was seen, which may be nothing."""
    return Check(view.ledger.key, view.ledger.version) if view.ledger else edit_ledger(view.name, None)


def write_node(stored: Stored[NodeRecord], record: NodeRecord) -> Set:
    """Replace a node's record."""
    return Set(stored.key, encode(record, stored.data), stored.version)


def node_after(change: Change, view: NodeView) -> NodeRecord:
    """The node's record once the change is written."""
    about = [happening.change for happening in change.happenings]
    records = [seen.node for seen in about if isinstance(seen, NodeChange) and seen.node.name == view.name]
    return records[-1] if records else view.record.value


def edit_ledger(
    node: str,
    stored: Stored[Ledger] | None,
    put: Mapping[str, Reservation] | None = None,
    drop: tuple[str, ...] = (),
    leftovers: Mapping[str, str] | None = None,
) -> Op:
    """Change a node's ledger: add or replace `put`, remove `drop` (UUIDs); `leftovers` replaces those, if given."""
    before = stored.value if stored else Ledger()
    vms = {uuid: held for uuid, held in before.vms.items() if uuid not in drop}
    vms.update(put or {})
    left = before.leftovers if leftovers is None else dict(leftovers)
    after = msgspec.structs.replace(before, vms=vms, leftovers=left)
    if stored is None:
        return Create(layout.ledger(node), encode(after))
    return Set(stored.key, encode(after, stored.data), stored.version)


def reservation_of(record: VmRecord, incoming: bool = False) -> Reservation:
    """What a VM reserves."""
    return Reservation(memory_mib=record.memory_mib, vcpus=record.vcpus, incoming=incoming)


def ledgers_of(snapshot: ClusterSnapshot, *nodes: str) -> dict[str, Stored[Ledger] | None]:
    """The ledgers of these nodes ("" is passed over), for the functions below; those that do not parse are left out."""
    readable = {name for name in nodes if name and not unreadable_ledger(snapshot, name)}
    return {name: snapshot.nodes[name].ledger for name in readable}


def unreadable_ledger(snapshot: ClusterSnapshot, node: str) -> str:
    """Why nothing can be reserved or given back on this node; "" when it can."""
    if layout.ledger(node) in snapshot.broken:
        return f"the ledger of {node} does not parse"
    return "" if node in snapshot.nodes else f"the record of {node} is missing or does not parse"


def reservations_of(record: VmRecord) -> dict[str, Reservation]:
    """What a VM reserves on each node: the one it is on, and the one it migrates to."""
    wanted = {record.node: reservation_of(record)}
    if record.target and record.target != record.node:
        wanted[record.target] = reservation_of(record, incoming=True)
    return wanted


def ledger_ops(before: VmRecord, after: VmRecord, ledgers: LedgerOf) -> tuple[Op, ...]:
    """Move the reservation along with the record: each node of `after` holds one, every other gives it back.

    `ledgers` holds the current ledger (or None) of every node that either record names. One that could not be read
    may be missing as long as nothing changes in it, so that its VMs can still be stopped; else `BrokenRecord`.
    """
    ops: list[Op] = []
    held, wanted = reservations_of(before), reservations_of(after)
    for node in sorted(held.keys() | wanted.keys()):
        if node not in ledgers:
            if held.get(node) == wanted.get(node):
                continue
            raise BrokenRecord(layout.ledger(node), "it cannot be changed before it is repaired")
        stored = ledgers[node]
        current = stored.value.vms.get(after.uuid) if stored else None
        if current == wanted.get(node) and held.get(node) == wanted.get(node):
            continue
        # Also when the ledger reads as it is to be: it may have been read before or after the record was.
        if node in wanted:
            ops.append(edit_ledger(node, stored, put={after.uuid: wanted[node]}))
        else:
            ops.append(edit_ledger(node, stored, drop=(after.uuid,)))
    return tuple(ops)


def of_event(
    stored: Stored[VmRecord],
    event: VmEvent,
    reason: str,
    now: str,
    ledgers: LedgerOf,
    *,
    target: str = "",
    permanent: bool = False,
    decision: Decision | None = None,
) -> Change:
    """One event of one VM, ledgers included. Raises `Refused` when the VM's state does not allow it.

    decision: how `target` was chosen.
    """
    after = advance(stored.value, event, reason, now, target, permanent)
    if after == stored.value:
        return already(stored, f"{after.name} is {after.state} already", after)
    happening = of_vm(kind_of(event, after.state), stored.value, after, reason, decision)
    ops = (write_vm(stored, after), *ledger_ops(stored.value, after, ledgers))
    return Change(ops, reason, after, happenings=(happening,))


def change_vm(stored: Stored[VmRecord], after: VmRecord, reason: str, kind: EventKind = EventKind.VM_CHANGED) -> Change:
    """Another record for a VM whose reservations stay."""
    return Change((write_vm(stored, after),), reason, after, happenings=(of_vm(kind, stored.value, after, reason),))


def start_on(
    stored: Stored[VmRecord], node: str, reason: str, now: str, ledgers: LedgerOf, decision: Decision | None = None
) -> Change:
    """Start a VM that is off, on `node`, which becomes responsible for it; its home stays.

    decision: how the node was chosen.
    """
    started = advance(stored.value, VmEvent.START, reason, now)
    after = msgspec.structs.replace(started, node=node)
    happening = of_vm(EventKind.VM_STARTING, stored.value, after, reason, decision)
    ops = (write_vm(stored, after), *ledger_ops(stored.value, after, ledgers))
    return Change(ops, reason, after, happenings=(happening,))


def create_vm(
    record: VmRecord,
    xml: str,
    ledger: Stored[Ledger] | None,
    conflicts: Mapping[str, PvcError],
    decision: Decision | None = None,
) -> Change:
    """A new VM: its record, definition, name and reservation at once. `decision`: how its node was chosen."""
    return Change(
        (
            Create(layout.vm_name(record.name), record.uuid.encode()),
            Create(layout.vm(record.uuid), encode(record)),
            Create(layout.definition(record.uuid), xml.encode()),
            edit_ledger(record.node, ledger, put={record.uuid: reservation_of(record)}),
        ),
        record.reason,
        record,
        conflicts,
        happenings=(of_vm(EventKind.VM_DEFINED, None, record, record.reason, decision),),
    )


def remove_vm(stored: Stored[VmRecord], ledgers: LedgerOf, definition_version: int, name_version: int) -> Change:
    """Forget a VM: record, definition, name and reservation."""
    record = stored.value
    if record.node not in ledgers:
        raise BrokenRecord(layout.ledger(record.node), "it cannot be changed before it is repaired")
    return Change(
        (
            *_forgetting(stored, definition_version, name_version),
            edit_ledger(record.node, ledgers[record.node], drop=(record.uuid,)),
        ),
        f"{record.name} is undefined",
        record,
        happenings=(of_vm(EventKind.VM_UNDEFINED, record, None, f"{record.name} is undefined"),),
    )


def abandon_vm(
    stored: Stored[VmRecord], ledgers: LedgerOf, definition_version: int, name_version: int, reason: str
) -> Change:
    """Forget a VM whose guest may still run: its reservation becomes a leftover, which the node's agent ends."""
    record, ops = stored.value, [*_forgetting(stored, definition_version, name_version)]
    for node in sorted(reservations_of(record)):
        if node not in ledgers:
            raise BrokenRecord(layout.ledger(node), "it cannot be changed before it is repaired")
        ledger = ledgers[node]
        leftovers = {**(ledger.value.leftovers if ledger else {}), record.uuid: record.name}
        ops.append(edit_ledger(node, ledger, drop=(record.uuid,), leftovers=leftovers))
    happening = of_vm(EventKind.VM_UNDEFINED_BY_FORCE, record, None, reason)
    return Change(tuple(ops), reason, record, happenings=(happening,))


def _forgetting(stored: Stored[VmRecord], definition_version: int, name_version: int) -> tuple[Op, ...]:
    return (
        Delete(stored.key, stored.version),
        Delete(layout.definition(stored.value.uuid), definition_version),
        Delete(layout.vm_name(stored.value.name), name_version),
    )


def guarded(change: Change, epoch: int) -> Change:
    """The change, valid only while this leader's epoch is the newest."""
    if not change.ops:
        return change
    return replace(change, ops=(Check(layout.LEADER_EPOCH, epoch), *change.ops))
