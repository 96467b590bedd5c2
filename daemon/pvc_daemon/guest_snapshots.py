# SPDX-License-Identifier: Apache-2.0
"""guest_snapshots: of a guest that runs here, the snapshots of all its volumes are taken while it holds still.

What is done to the guest is written into the snapshot's record before. A guest never stays so: it is let go on whatever
the storage says, and when the daemon dies meanwhile, its next life, or the node that has the guest then, begins with
that. What had been taken by then is removed, since nobody knows of which moment it is.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import encode
from pvc_core.errors import Conflict, HypervisorError, PvcError, Refused, StoreUnavailable
from pvc_core.journal import Journal
from pvc_core.model import VmRecord, VmState
from pvc_core.ports import Clock, ClusterStore, DomainState, Entry, Hypervisor, Set
from pvc_core.storage_access import StorageAccess
from pvc_core.vm_snapshot_changes import StoredSnapshot, read_both
from pvc_core.vm_snapshot_work import SnapshotWork
from pvc_core.vm_snapshots import Consistency, Halt, SnapshotVolume, VmSnapshotState
from pvc_core.vm_states import OFF

log = structlog.get_logger(__name__)
FREEZE_S = 10.0
"""How long a guest's agent may take to write out and freeze."""
HOLD_S = 15.0
"""How long a guest is held still: the snapshots of all its volumes that are not there by then are not waited for."""
THAW_S = 5.0
ATTEMPTS = 20


class GuestSnapshots:
    """Snapshots of one node's guests. Thread-safe; different VMs side by side."""

    def __init__(
        self,
        node: str,
        store: ClusterStore,
        hypervisor: Hypervisor,
        clock: Clock,
        journal: Journal,
        storage: StorageAccess,
        absorb: Callable[[Entry], None],
    ) -> None:
        """absorb: is told of what was written of a VM's record."""
        self._node = node
        self._store = store
        self._hypervisor = hypervisor
        self._clock = clock
        self._journal = journal
        self._absorb = absorb
        self._work = SnapshotWork(store, storage, clock, self._commit)

    def take(self, uuid: str, name: str) -> None:
        """Bring a snapshot that is to be taken here to its end. Raises `HypervisorError`, `StoreUnavailable`."""
        vm, snapshot = read_both(self._store, uuid, name)
        if vm is None or snapshot is None or vm.value.snapshots.taking != name or vm.value.node != self._node:
            return
        halted = snapshot.value.halted
        if halted and vm.value.state not in OFF:
            self._let_go_on(uuid, halted)
        problem = ""
        if snapshot.value.state is VmSnapshotState.REMOVING:
            problem, _ = self._work.remove(uuid, name)
        elif vm.value.state in OFF:
            problem = self._work.undo(uuid, name, Refused(vm.value.name, "its guest has ended before"))
        elif halted:
            problem = self._work.undo(uuid, name, Refused(vm.value.name, "the daemon that took it ended meanwhile"))
        elif vm.value.state is VmState.RUNNING:
            problem = self._take(vm.value, snapshot)
        if problem:
            log.warning("snapshot_not_taken", vm=vm.value.name, snapshot=name, reason=problem)

    def _take(self, record: VmRecord, snapshot: StoredSnapshot) -> str:
        """What was in the way, "" if nothing."""
        uuid, name = record.uuid, snapshot.value.name
        try:
            volumes, consistency, at = self._held_still(record, snapshot)
            self._work.finish(uuid, name, volumes, consistency, at)
        except (HypervisorError, StoreUnavailable, Conflict):
            raise  # tried again: first of all the guest is let go on
        except PvcError as error:
            return self._work.undo(uuid, name, error)
        log.info("snapshot_taken", vm=record.name, snapshot=name, consistency=consistency)
        if snapshot.value.automatic:
            newest, _ = read_both(self._store, uuid, name)
            if newest is not None:
                return "; ".join(self._work.retire(newest, snapshot.value.keep))
        return ""

    def _held_still(
        self, record: VmRecord, snapshot: StoredSnapshot
    ) -> tuple[tuple[SnapshotVolume, ...], Consistency, str]:
        """The volumes as they were while the guest held still, how, and when. Raises what was in the way."""
        uuid = record.uuid
        halted = self._hold(uuid, snapshot)
        try:
            at = self._clock.utc_iso()
            volumes = self._work.take_volumes(snapshot.value.volumes, HOLD_S)
        finally:
            held_still = self._let_go_on(uuid, halted)
        if not held_still:
            raise Refused(record.name, "its guest did not hold still until all of its volumes had one")
        return volumes, "frozen" if halted == "frozen" else "crash", at

    def _hold(self, uuid: str, snapshot: StoredSnapshot) -> Halt:
        """Make the guest hold still, what is done being written before; how."""
        if self._state(uuid) is DomainState.PAUSED:
            raise Refused(snapshot.value.vm_name, "its guest is paused, and nobody can say for how long")
        snapshot = self._note(snapshot, "frozen")
        if self._hypervisor.freeze(uuid, FREEZE_S):
            return "frozen"
        self._note(snapshot, "suspended")
        self._hypervisor.suspend(uuid)
        return "suspended"

    def _let_go_on(self, uuid: str, halted: Halt) -> bool:
        """Whether the guest had held still until now. Raises `HypervisorError`: then it is tried again."""
        if halted == "frozen":
            return self._hypervisor.thaw(uuid, THAW_S)
        return self._hypervisor.resume(uuid)

    def _state(self, uuid: str) -> DomainState | None:
        return next((domain.state for domain in self._hypervisor.domains() if domain.uuid == uuid), None)

    def _note(self, snapshot: StoredSnapshot, halted: Halt) -> StoredSnapshot:
        value = msgspec.structs.replace(snapshot.value, halted=halted)
        data = encode(value, snapshot.data)
        (version,) = self._store.transaction([Set(snapshot.key, data, snapshot.version)])
        return type(snapshot)(snapshot.key, value, version, data)

    def _commit(self, decide: Callable[[], Change | None]) -> Change | None:
        for _ in range(ATTEMPTS):
            change = decide()
            if change is None:
                return None
            try:
                versions = self._journal.commit(self._store, change.ops, change.happenings)
            except Conflict as conflict:
                log.debug("snapshot_conflict", key=conflict.key)
                continue
            for op, version in zip(change.ops, versions, strict=True):
                if isinstance(op, Set) and op.key.startswith(f"{layout.VMS}/"):
                    self._absorb(Entry(op.key, op.data, version))
            return change
        raise Conflict(layout.VM_SNAPSHOTS, "keeps changing")
