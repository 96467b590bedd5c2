# SPDX-License-Identifier: Apache-2.0
"""vm_snapshot_changes: each step of a VM's snapshot as one transaction: its record, the VM's, and the event."""

from __future__ import annotations

from typing import Any

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change, LedgerOf
from pvc_core.codec import Stored, decode, encode
from pvc_core.domain_xml import parse_domain, with_identity
from pvc_core.events import EventKind, Happening, of_vm
from pvc_core.model import VmRecord
from pvc_core.ports import Check, ClusterStore, Create, Delete, Entry, Op, Set
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.vm_snapshots import VmSnapshot, VmSnapshotState

StoredVm = Stored[VmRecord]
StoredSnapshot = Stored[VmSnapshot]


def read_snapshots(store: ClusterStore, record: VmRecord) -> list[StoredSnapshot]:
    """Those of a VM, oldest first, in one request. Raises `BrokenRecord`."""
    keys = [layout.vm_snapshot(record.uuid, name) for name in record.snapshots.names]
    found = store.get_many(keys) if keys else {}
    return [decode(found[key], VmSnapshot) for key in keys if key in found]


def every_snapshot(store: ClusterStore) -> list[StoredSnapshot]:
    """Those of all VMs, also of such as are no more. Raises `BrokenRecord`."""
    keys = [f"{layout.VM_SNAPSHOTS}/{name}" for name in store.children(layout.VM_SNAPSHOTS)]
    return [decode(entry, VmSnapshot) for _, entry in sorted(store.get_many(keys).items())] if keys else []


def read_both(store: ClusterStore, uuid: str, name: str) -> tuple[StoredVm | None, StoredSnapshot | None]:
    """A VM and one of its snapshots as they are now, in one request. Raises `BrokenRecord`."""
    vm_key, key = layout.vm(uuid), layout.vm_snapshot(uuid, name)
    found = store.get_many([vm_key, key])
    vm = decode(found[vm_key], VmRecord) if vm_key in found else None
    return vm, decode(found[key], VmSnapshot) if key in found else None


# ------------------------------------------------------------------------------------------------- taking


def begin(stored: StoredVm, snapshot: VmSnapshot, definition: Entry, *, by_node: bool) -> Change:
    """A snapshot is about to be taken: by the node on which the guest runs, or of a VM that is off, by this process."""
    before = stored.value
    standing = msgspec.structs.replace(
        before.snapshots,
        names=(*before.snapshots.names, snapshot.name),
        taking=snapshot.name if by_node else "",
        kept_off="" if by_node else snapshot.name,
        problem="",
    )
    after = msgspec.structs.replace(before, snapshots=standing)
    reason = f"{snapshot.title} is to be taken{f' on {before.node}, where its guest runs' if by_node else ''}"
    ops = (
        Create(snapshot.key, encode(snapshot)),
        Check(definition.key, definition.version),
        changes.write_vm(stored, after),
    )
    return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_SNAPSHOT_BEGUN, before, after, reason),))


def taken(stored: StoredVm, snapshot: StoredSnapshot, now: str, **fields: Any) -> Change:
    """It is there. fields: of the snapshot, as they have come out."""
    before = stored.value
    ready = msgspec.structs.replace(snapshot.value, state=VmSnapshotState.READY, since=now, halted="", **fields)
    after = _with(before, before.snapshots.at_rest(ready.name))
    reason = f"{ready.title} is taken: {_WORDS[ready.consistency]}"
    ops = (_set(snapshot, ready), changes.write_vm(stored, after))
    return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_SNAPSHOT_TAKEN, before, after, reason),))


_WORDS = {
    "": "",
    "off": "the VM was off",
    "frozen": "the guest had its file systems frozen",
    "crash": "it is what a power cut at that moment would have left",
}


def not_taken(stored: StoredVm | None, snapshot: StoredSnapshot, problem: str) -> Change:
    """It could not be taken, and nothing is left of it."""
    reason = f"{snapshot.value.title} is not taken: {problem}"
    return _forgotten(stored, snapshot, EventKind.VM_SNAPSHOT_FAILED, reason, problem)


def left_over(stored: StoredVm | None, snapshot: StoredSnapshot, now: str, problem: str) -> Change:
    """It could not be taken, and something of it is left, which is to be removed."""
    reason = f"{snapshot.value.title} is not taken: {problem}"
    removing = msgspec.structs.replace(snapshot.value, state=VmSnapshotState.REMOVING, since=now, halted="")
    ops: tuple[Op, ...] = (_set(snapshot, removing),)
    if stored is not None:
        after = _with(stored.value, stored.value.snapshots.at_rest(removing.name, problem))
        ops = (*ops, changes.write_vm(stored, after))
    return Change(ops, reason, happenings=(_told(EventKind.VM_SNAPSHOT_FAILED, snapshot.value, reason),))


# ------------------------------------------------------------------------------------------------ removing


def removing(snapshot: StoredSnapshot, now: str) -> Op:
    """It is to be removed."""
    return _set(snapshot, msgspec.structs.replace(snapshot.value, state=VmSnapshotState.REMOVING, since=now))


def kept(snapshot: StoredSnapshot, now: str) -> Op:
    """It is not removed after all: nothing of it was."""
    return _set(snapshot, msgspec.structs.replace(snapshot.value, state=VmSnapshotState.READY, since=now))


def removed(stored: StoredVm | None, snapshot: StoredSnapshot, why: str = "") -> Change:
    """Nothing is left of it. stored: None when the VM is no more either."""
    reason = f"{snapshot.value.title} is removed{f': {why}' if why else ''}"
    return _forgotten(stored, snapshot, EventKind.VM_SNAPSHOT_REMOVED, reason)


# -------------------------------------------------------------------------------------------- rolling back


def roll_back(stored: StoredVm, snapshot: StoredSnapshot, now: str) -> Change:
    """The VM is about to go back to a snapshot; it does not start before that is over."""
    before, back = stored.value, snapshot.value
    after = _with(before, msgspec.structs.replace(before.snapshots, kept_off=back.name))
    reason = f"{before.name} goes back to its snapshot {back.name}"
    rolling = msgspec.structs.replace(back, state=VmSnapshotState.ROLLING_BACK, since=now)
    ops = (_set(snapshot, rolling), changes.write_vm(stored, after))
    return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_ROLLING_BACK, before, after, reason),))


def as_of(record: VmRecord, snapshot: VmSnapshot) -> VmRecord:
    """The VM's record with what its snapshot says it is."""
    domain = parse_domain(snapshot.definition)
    return msgspec.structs.replace(
        record,
        metadata=snapshot.metadata,
        memory_mib=domain.memory_mib,
        vcpus=domain.vcpus,
        only_volumes=not domain.has_storage,
    )


def rolled_back(stored: StoredVm, snapshot: StoredSnapshot, definition: Entry, ledgers: LedgerOf, now: str) -> Change:
    """All volumes hold what they held: with that definition and metadata are as they were, but for the VM's name."""
    before, back = stored.value, snapshot.value
    after = _with(as_of(before, back), before.snapshots.at_rest(back.name))
    text = with_identity(back.definition, before.uuid, before.name).encode()
    reason = f"{before.name} is what it was at its snapshot {back.name} of {back.at}"
    ready = msgspec.structs.replace(back, state=VmSnapshotState.READY, since=now)
    ops = (
        _set(snapshot, ready),
        Set(definition.key, text, definition.version),
        changes.write_vm(stored, after),
        *changes.ledger_ops(before, after, ledgers),
    )
    return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_ROLLED_BACK, before, after, reason),))


def not_rolled_back(stored: StoredVm, snapshot: StoredSnapshot, problem: str, now: str) -> Change:
    """The storage refuses it, and no volume was changed."""
    before = stored.value
    after = _with(before, before.snapshots.at_rest(snapshot.value.name))
    reason = f"{before.name} does not go back to its snapshot {snapshot.value.name}: {problem}"
    ops = (kept(snapshot, now), changes.write_vm(stored, after))
    return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_SNAPSHOT_FAILED, before, after, reason),))


# --------------------------------------------------------------------------------------------------- parts


def _set(snapshot: StoredSnapshot, after: VmSnapshot) -> Set:
    return Set(snapshot.key, encode(after, snapshot.data), snapshot.version)


def _with(record: VmRecord, standing: SnapshotStanding) -> VmRecord:
    return msgspec.structs.replace(record, snapshots=standing)


def _told(kind: EventKind, snapshot: VmSnapshot, reason: str) -> Happening:
    return Happening(kind, reason, snapshot.vm_name, snapshot.vm)


def _forgotten(
    stored: StoredVm | None, snapshot: StoredSnapshot, kind: EventKind, reason: str, problem: str = ""
) -> Change:
    ops: tuple[Op, ...] = (Delete(snapshot.key, snapshot.version),)
    if stored is None:
        return Change(ops, reason, happenings=(_told(kind, snapshot.value, reason),))
    before = stored.value
    after = _with(before, before.snapshots.without(snapshot.value.name, problem))
    ops = (*ops, changes.write_vm(stored, after))
    return Change(ops, reason, after, happenings=(of_vm(kind, before, after, reason),))
