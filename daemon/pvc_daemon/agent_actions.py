# SPDX-License-Identifier: Apache-2.0
"""agent_actions: carries out what the agent decided, one VM at a time, and says what it learnt.

Before it creates, migrates or destroys anything it reads the record once more: a decision may be older than a
command that was accepted meanwhile. What it learns becomes notes (`VmMemory`), never a decision of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from pvc_core import agent_memory, changes, layout
from pvc_core.agent_actions import (
    Action,
    AskShutdown,
    AttachDisk,
    CancelMigration,
    DetachDisk,
    LetGo,
    LookAtDisks,
    LookAtPeer,
    Migrate,
    Record,
    Start,
    TakeSnapshot,
    Terminate,
)
from pvc_core.agent_memory import VmMemory
from pvc_core.codec import Stored, decode
from pvc_core.errors import BrokenRecord, Conflict, HypervisorError, Refused, StoreUnavailable
from pvc_core.events import EventKind, Happening
from pvc_core.fence_standing import waits_for_leader
from pvc_core.journal import Journal
from pvc_core.model import Ledger, NodeRecord, VmRecord, VmState
from pvc_core.ports import Check, Clock, ClusterStore, DomainState, Entry, Hypervisor, MigrationProgress, Set
from pvc_core.storage_access import StorageAccess
from pvc_core.volume_claims import letting_go
from pvc_daemon.guest_disks import GuestDisks
from pvc_daemon.guest_snapshots import GuestSnapshots
from pvc_daemon.own_records import OwnRecords

log = structlog.get_logger(__name__)
RECORD_ATTEMPTS = 20

Learn = Callable[[Callable[[VmMemory], VmMemory]], None]


class AgentActions:
    """Executes actions on this node's hypervisor and store. Thread-safe; different VMs run side by side."""

    def __init__(
        self,
        node: str,
        store: ClusterStore,
        hypervisor: Hypervisor,
        clock: Clock,
        records: OwnRecords,
        on_progress: Callable[[str, int], None],
        journal: Journal,
        disks: GuestDisks,
        storage: StorageAccess,
    ) -> None:
        self._node = node
        self._disks = disks
        self._snapshots = GuestSnapshots(node, store, hypervisor, clock, journal, storage, records.absorb)
        self._journal = journal
        self._store = store
        self._hypervisor = hypervisor
        self._clock = clock
        self._records = records
        self._on_progress = on_progress

    def execute(self, action: Action, stored: Stored[VmRecord], learn: Learn) -> None:
        """Do it; `learn` changes the VM's notes. Raises `HypervisorError`, `StoreUnavailable`."""
        match action:
            case Record():
                self._record(action, stored, learn)
            case Start():
                self._start(stored, learn)
            case AskShutdown():
                now_s = self._clock.monotonic_s()
                # Noted first: a guest that cannot even be asked is terminated in time.
                learn(lambda m: agent_memory.asked(m, now_s))
                self._hypervisor.shutdown(action.uuid)
            case Terminate():
                self._terminate(action, stored)
            case Migrate():
                self._migrate(action, stored, learn)
            case CancelMigration():
                now_s = self._clock.monotonic_s()
                learn(lambda m: replace(m, cancel_asked_s=now_s))
                self._hypervisor.cancel_migration(action.uuid)
            case LookAtPeer():
                self._look_at_peer(action, learn)
            case LookAtDisks():
                self._disks.look(action.uuid, learn)
            case AttachDisk() | DetachDisk():
                fresh = self._fresh(action.uuid)
                if fresh is not None and self._still_wanted(stored, fresh):
                    self._disks.change(action, fresh.value, learn, self._tell)
            case LetGo():
                self._let_go(action)
            case TakeSnapshot():
                self._snapshots.take(action.uuid, action.name)

    # --------------------------------------------------------------------------------------------- record

    def _record(self, action: Record, stored: Stored[VmRecord], learn: Learn) -> None:
        """Write the event with the VM's and the ledgers' versions. What no longer applies is dropped."""
        ledgers = {self._node: self._records.ledger}
        for _ in range(RECORD_ATTEMPTS):
            record = stored.value
            if {record.node, record.target} - {"", self._node}:
                ledgers = self._read_ledgers(record)
            try:
                change = changes.of_event(stored, action.event, action.reason, self._clock.utc_iso(), ledgers)
            except Refused as refused:
                log.info("event_outdated", vm=record.name, vm_event=action.event, reason=refused.reason)
                return
            try:
                versions = self._journal.commit(self._store, change.ops, change.happenings)
            except Conflict as conflict:
                log.debug("event_conflict", vm=record.name, key=conflict.key)
                fresh = self._fresh(stored.value.uuid)
                if fresh is None or fresh.value.transition != record.transition:
                    return
                stored, ledgers = fresh, self._read_ledgers(fresh.value)
                continue
            self._recorded(action, change, versions, learn)
            return
        log.warning("event_not_recorded", vm=stored.value.name, vm_event=action.event)

    def _let_go(self, action: LetGo) -> None:
        """Volumes that were leaving have left. What somebody else has changed meanwhile is decided anew."""
        fresh = self._fresh(action.uuid)
        if fresh is None or fresh.value.node != self._node:
            return
        change = letting_go(self._store, fresh, action.volumes, action.reason)
        try:
            versions = self._journal.commit(self._store, change.ops, change.happenings)
        except Conflict as conflict:
            log.info("decision_outdated", vm=fresh.value.name, key=conflict.key, problem=conflict.problem)
            return
        self._absorb(action.uuid, change, versions)

    def _recorded(self, action: Record, change: changes.Change, versions: tuple[int, ...], learn: Learn) -> None:
        self._absorb(action.uuid, change, versions)
        log.info("vm_changed", vm=change.vm.name if change.vm else "", vm_event=action.event, reason=action.reason)
        now_s = self._clock.monotonic_s()
        learn(lambda m: agent_memory.recorded(m, action.event, now_s))

    def _absorb(self, uuid: str, change: changes.Change, versions: tuple[int, ...]) -> None:
        """Take over what was written of the VM's record; there may be more versions, those of events."""
        for op, version in zip(change.ops, versions, strict=False):
            if op.key == layout.vm(uuid) and isinstance(op, Set):
                self._records.absorb(Entry(op.key, op.data, version))

    def _read_ledgers(self, record: VmRecord) -> dict[str, Stored[Ledger] | None]:
        names = {record.node, record.target, self._node} - {""}
        found = self._store.get_many([layout.ledger(name) for name in names])
        return {
            name: decode(found[layout.ledger(name)], Ledger) if layout.ledger(name) in found else None for name in names
        }

    # ---------------------------------------------------------------------------------------- domain

    def _start(self, stored: Stored[VmRecord], learn: Learn) -> None:
        uuid = stored.value.uuid
        found = self._store.get_many([layout.vm(uuid), layout.definition(uuid), layout.node(self._node)])
        if self._is_being_recovered(found.get(layout.node(self._node))):
            return
        entry = found.get(layout.vm(uuid))
        fresh = decode(entry, VmRecord) if entry else None
        if fresh is None or not self._still_wanted(stored, fresh) or fresh.value.state is not VmState.STARTING:
            return
        definition = found.get(layout.definition(uuid))
        learn(agent_memory.starting)
        try:
            if definition is None:
                raise HypervisorError("its definition is missing in the store")
            self._hypervisor.create(self._disks.composed(definition.data.decode(), fresh.value))
        except HypervisorError as error:
            if error.connection_lost:
                raise
            self._start_failed(fresh.value, error.reason, learn)
            return
        now_s = self._clock.monotonic_s()
        learn(lambda m: agent_memory.created(m, now_s))
        log.info("vm_started", vm=fresh.value.name, node=self._node, reason=fresh.value.reason)

    def _is_being_recovered(self, entry: Entry | None) -> bool:
        """Whether the VM may be given to another node at any moment, whatever its record says."""
        return entry is not None and waits_for_leader(decode(entry, NodeRecord).value)

    def _start_failed(self, record: VmRecord, reason: str, learn: Learn) -> None:
        now_s, settings = self._clock.monotonic_s(), self._records.settings
        learn(lambda m: agent_memory.start_failed(m, record, reason, settings, now_s))

    def _terminate(self, action: Terminate, stored: Stored[VmRecord]) -> None:
        fresh = self._fresh(action.uuid)
        if fresh is None:
            return  # not PVC's (any more): left alone and reported
        if action.stray:
            if self._node in (fresh.value.node, fresh.value.target) or not self._is_newest(fresh):
                return
        elif not self._still_wanted(stored, fresh):
            return
        log.info("vm_terminated", vm=fresh.value.name, node=self._node, reason=action.reason)
        self._hypervisor.destroy(action.uuid)
        if action.told:
            vm = fresh.value
            reason = f"terminated: {action.reason}"
            self._tell(Happening(EventKind.VM_TERMINATED, reason, vm.name, vm.uuid, self._node))

    def _tell(self, happening: Happening) -> None:
        """Write an event of what is no change of a record; what cannot be written is in the log."""
        try:
            self._journal.note(self._store, happening)
        except StoreUnavailable as error:
            log.warning("event_not_written", kinds=[happening.kind.value], problem=error.problem)

    def _migrate(self, action: Migrate, stored: Stored[VmRecord], learn: Learn) -> None:
        fresh = self._fresh(action.uuid)
        if fresh is None or not self._still_wanted(stored, fresh) or fresh.value.cancelling:
            return
        log.info("migration_started", vm=fresh.value.name, target=action.target, reason=action.reason)
        timeout_s = float(self._records.settings.migration_timeout_s)
        learn(lambda m: replace(m, peer=None, peer_error=""))  # what the target said before does not count any more

        def report(progress: MigrationProgress) -> None:
            self._on_progress(action.uuid, progress.percent)

        try:
            self._hypervisor.migrate(action.uuid, action.target, action.max_downtime_ms, timeout_s, report)
        except HypervisorError as error:
            log.warning("migration_failed", vm=fresh.value.name, target=action.target, reason=error.reason)
            if error.connection_lost:
                raise
            if not self._is_cancelling(action.uuid):
                reason = error.reason
                learn(lambda m: replace(m, live_failed=reason))
            return
        finally:
            self._on_progress(action.uuid, -1)
        arrived_s = self._clock.monotonic_s()
        learn(lambda m: replace(m, peer=(DomainState.RUNNING, arrived_s), peer_error=""))

    def _is_cancelling(self, uuid: str) -> bool:
        fresh = self._fresh(uuid)
        return fresh is not None and fresh.value.cancelling

    def _look_at_peer(self, action: LookAtPeer, learn: Learn) -> None:
        try:
            state, problem = self._hypervisor.peer_domain_state(action.target, action.uuid), ""
        except HypervisorError as error:
            log.warning("peer_unreachable", target=action.target, reason=error.reason)
            state, problem = None, error.reason
        now_s = self._clock.monotonic_s()
        learn(lambda m: replace(m, peer=(state, now_s), peer_error=problem))

    # ---------------------------------------------------------------------------------------- the record

    def _fresh(self, uuid: str) -> Stored[VmRecord] | None:
        """The VM's newest record, also taken over into the watched copy; None when it is gone or broken."""
        entry = self._store.get(layout.vm(uuid))
        if entry is None:
            return None
        try:
            fresh = decode(entry, VmRecord)
        except BrokenRecord as broken:
            log.error("record_broken", key=entry.key, problem=broken.problem)
            return None
        self._records.absorb(entry)
        return fresh

    def _still_wanted(self, stored: Stored[VmRecord], fresh: Stored[VmRecord]) -> bool:
        """Whether the decision still applies; the store says so in a transaction, since a read may be a moment old."""
        same = fresh.value.transition == stored.value.transition and fresh.value.node == self._node
        if same:
            same = self._is_newest(fresh)
        if not same:
            log.info("decision_outdated", vm=fresh.value.name, state=fresh.value.state, node=fresh.value.node)
        return same

    def _is_newest(self, fresh: Stored[VmRecord]) -> bool:
        try:
            self._store.transaction([Check(fresh.key, fresh.version)])
        except Conflict:
            return False
        return True
