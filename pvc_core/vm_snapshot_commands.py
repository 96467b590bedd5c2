# SPDX-License-Identifier: Apache-2.0
"""vm_snapshot_commands: snapshots of a VM are taken, shown and removed.

What is about to be done is written before the storage is asked, so that a death in between leaves a trace, which
`pvc_core.vm_snapshot_repair` brings to an end. A VM that is off has its snapshot taken here; of a guest that runs, its
node takes it, which alone can make it hold still.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.domain_xml import parse_domain
from pvc_core.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PvcError, Refused, StoreUnavailable
from pvc_core.model import VmRecord, VmState
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_snapshot_changes import (
    StoredSnapshot,
    StoredVm,
    begin,
    kept,
    read_both,
    read_snapshots,
    removing,
)
from pvc_core.vm_snapshot_work import TAKE_S, SnapshotWork
from pvc_core.vm_snapshots import (
    MAX_SNAPSHOTS,
    VmSnapshot,
    VmSnapshotState,
    check_snapshot_name,
    new_snapshot,
    refuse_busy,
)
from pvc_core.vm_states import OFF
from pvc_core.volume_claims import REPAIR
from pvc_core.volume_commands import VolumeCommands

ID_BYTES = 4
ATTEMPTS = 20


@dataclass(frozen=True)
class SnapshotOutcome:
    """What a command on a snapshot did. snapshot: as it is now, None when it is no more. warnings: sentences."""

    reason: str
    vm: VmRecord
    snapshot: VmSnapshot | None
    warnings: tuple[str, ...] = ()


class VmSnapshotCommands(VolumeCommands):
    """Commands on the snapshots of VMs."""

    @cached_property
    def _snapshot_work(self) -> SnapshotWork:
        return SnapshotWork(self._store, self.storage, self._clock, self._settle)

    def _settle(self, decide: Callable[[], Change | None]) -> Change | None:
        """Not as a commit of the command, which may hold for one version of the VM."""
        for _ in range(ATTEMPTS):
            change = decide()
            if change is None or self._view.try_commit(change, self._view.snapshot()):
                return change
        raise Conflict(layout.VM_SNAPSHOTS, "keeps changing")

    # ----------------------------------------------------------------------------------------------- showing

    def snapshots(self, vm: str) -> tuple[VmSnapshot, ...]:
        """Those of a VM, oldest first. Raises `NotFound` (VM), `BrokenRecord`."""
        record = self._view.snapshot().vm(vm).value
        return tuple(each.value for each in read_snapshots(self._store, record))

    def vm_snapshot(self, vm: str, name: str) -> VmSnapshot:
        """One of them. Raises `NotFound` (VM, snapshot), `BrokenRecord`."""
        return self._stored_snapshot(self._view.snapshot().vm(vm), name).value

    def _stored_snapshot(self, stored: StoredVm, name: str) -> StoredSnapshot:
        record = stored.value
        snapshot = read_both(self._store, record.uuid, name)[1] if name in record.snapshots.names else None
        if snapshot is None:
            raise NotFound(f"snapshot of {record.name}", name, record.snapshots.names)
        return snapshot

    # ------------------------------------------------------------------------------------------------ taking

    def take_snapshot(self, vm: str, name: str = "", *, keep: int = 0) -> SnapshotOutcome:
        """Remember what a VM is now, with all its volumes at one moment. Of a guest that runs its node will take it.

        name: "" for one made of the time. keep: it is automatic, and of those no more than so many stay; 0: it is not.
        Raises `NotFound`, `InvalidInput`, `AlreadyExists`, `Refused`.
        """
        name = name or self._clock.utc_iso().replace(":", "").replace("-", "")
        check_snapshot_name(name)
        if keep < 0 or keep > MAX_SNAPSHOTS:
            raise InvalidInput("keep", "cannot be kept", str(keep), (f"1 to {MAX_SNAPSHOTS}; 0: it is not automatic",))
        identity, warnings = secrets.token_hex(ID_BYTES), list[str]()
        written: list[VmSnapshot] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            record = stored.value
            self._refuse_snapshot(record, name, snapshot)
            self._snapshot_work.check(record.volumes)
            definition = self._definition_entry(record)
            text, now = definition.data.decode(), self._clock.utc_iso()
            taken = new_snapshot(record, name, identity, text, now, keep=keep)
            warnings[:] = _left_out(record, text)
            written[:] = [taken]
            return begin(stored, taken, definition, by_node=record.state not in OFF)

        change = self._view.commit(decide)
        assert change.vm is not None
        if change.vm.snapshots.taking:
            return SnapshotOutcome(change.reason, change.vm, written[0], tuple(warnings))
        return self._take(change.vm, written[0], tuple(warnings))

    def _refuse_snapshot(self, record: VmRecord, name: str, snapshot: ClusterSnapshot) -> None:
        """Raises `Refused` and `AlreadyExists`."""
        if name in record.snapshots.names:
            raise AlreadyExists(f"snapshot of {record.name}", name)
        refuse_busy(record)
        self._refuse_in_between(record)
        if record.state not in (*OFF, VmState.RUNNING):
            raise Refused(record.name, f"is {record.state}; a snapshot is taken of a VM that runs or is off")
        if leaving := next((each for each in record.volumes if each.leaving), None):
            raise Refused(record.name, f"its guest has not let go of {leaving.title} yet")
        if len(record.snapshots.names) >= MAX_SNAPSHOTS:
            raise Refused(record.name, f"has {MAX_SNAPSHOTS} snapshots, and no VM has more")
        if record.state is VmState.RUNNING:
            self._refuse_running(record, snapshot)

    @staticmethod
    def _refuse_running(record: VmRecord, snapshot: ClusterSnapshot) -> None:
        """Raises `Refused` where nobody could make its guest hold still."""
        node = snapshot.nodes.get(record.node)
        if node is None or not node.is_alive:
            liveness = node.liveness if node else "not known"
            raise Refused(record.name, f"runs on {record.node}, whose daemon is {liveness} and could not take it")

    def _take(self, record: VmRecord, snapshot: VmSnapshot, warnings: tuple[str, ...]) -> SnapshotOutcome:
        """The VM is off and stays so meanwhile."""
        uuid, name = record.uuid, snapshot.name
        try:
            volumes = self._snapshot_work.take_volumes(snapshot.volumes, TAKE_S)
        except StoreUnavailable:
            raise
        except PvcError as error:
            raise Refused(snapshot.title, f"is not taken: {self._snapshot_work.undo(uuid, name, error)}") from error
        self._snapshot_work.finish(uuid, name, volumes, "off", snapshot.at)
        vm, ready = read_both(self._store, uuid, name)
        if vm is not None and snapshot.automatic:
            warnings = (*warnings, *self._snapshot_work.retire(vm, snapshot.keep))
        value = ready.value if ready else snapshot
        return SnapshotOutcome(f"{snapshot.title} is taken", vm.value if vm else record, value, warnings)

    # ---------------------------------------------------------------------------------------------- removing

    def remove_snapshot(self, vm: str, name: str) -> SnapshotOutcome:
        """Forget a snapshot of a VM; one that its node is to take is called off. Raises `NotFound`, `Refused`."""
        stored = self._view.snapshot().vm(vm)
        record, snapshot = stored.value, self._stored_snapshot(stored, name)
        state = snapshot.value.state
        if state is VmSnapshotState.ROLLING_BACK or (state is VmSnapshotState.CREATING and record.snapshots.kept_off):
            raise Refused(snapshot.value.title, f"is in use; if nobody works with it any more, see {REPAIR}")
        if is_node_s(record, name):
            self._say_removing(record.uuid, name)
            reason = f"{snapshot.value.title} is called off; {record.node} removes what there is of it"
            return SnapshotOutcome(reason, record, None)
        was_ready = state is VmSnapshotState.READY
        snapshot = self._say_removing(record.uuid, name) or snapshot
        problem, gone = self._snapshot_work.remove(record.uuid, name)
        if problem and was_ready and not gone:
            self._keep(record.uuid, name)
            raise Refused(snapshot.value.title, f"is not removed: {problem}")
        if problem:
            raise Refused(snapshot.value.title, f"is removed in part: {problem}; {REPAIR} tries again")
        newest = self._view.snapshot().vms.get(record.uuid)
        return SnapshotOutcome(f"{snapshot.value.title} is removed", newest.value if newest else record, None)

    def _say_removing(self, uuid: str, name: str) -> StoredSnapshot | None:
        """Write that it is to be removed, and that nothing else is done with it but by its guest's node.

        As it was; None when it is gone.
        """
        for _ in range(ATTEMPTS):
            vm, snapshot = read_both(self._store, uuid, name)
            if snapshot is None or snapshot.value.state is VmSnapshotState.REMOVING:
                return snapshot
            ops = [removing(snapshot, self._clock.utc_iso())]
            if vm is not None:
                left = vm.value if is_node_s(vm.value, name) else _at_rest(vm.value, name)
                ops.append(changes.write_vm(vm, left))
            try:
                self._store.transaction(ops)
            except Conflict:
                continue
            self._view.refresh([layout.vm(uuid)])
            return snapshot
        raise Conflict(layout.vm_snapshot(uuid, name), "keeps changing")

    def _keep(self, uuid: str, name: str) -> None:
        _, snapshot = read_both(self._store, uuid, name)
        if snapshot is not None and snapshot.value.state is VmSnapshotState.REMOVING:
            self._store.transaction([kept(snapshot, self._clock.utc_iso())])


def is_node_s(record: VmRecord, name: str) -> bool:
    """Whether the node of the guest has to do with it still: it may hold the guest still for it."""
    return record.snapshots.taking == name and record.state not in OFF


def _at_rest(record: VmRecord, name: str) -> VmRecord:
    return msgspec.structs.replace(record, snapshots=record.snapshots.at_rest(name, record.snapshots.problem))


def _left_out(record: VmRecord, definition: str) -> tuple[str, ...]:
    """A warning of the disks that no volume of the VM is."""
    disks = [disk.target for disk in parse_domain(definition).disks if disk.source and disk.device in ("disk", "lun")]
    if not disks:
        return ()
    return (f"disks of {record.name}'s definition are no volumes, and not in its snapshot: {', '.join(disks)}",)
