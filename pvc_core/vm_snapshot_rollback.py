# SPDX-License-Identifier: Apache-2.0
"""vm_snapshot_rollback: a VM that is off becomes what it was at a snapshot; and what died with its process is ended.

Going back is repeated rather than undone: what the volumes held before is lost with the first of them. Until all of
them are back the VM is kept off. Who takes that over writes the snapshot anew, by which the other one sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import decode, encode
from pvc_core.errors import Conflict, NotFound, PvcError, Refused
from pvc_core.model import Ledger
from pvc_core.ports import Check, Set
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage import StorageBackend
from pvc_core.vm_snapshot_changes import (
    StoredSnapshot,
    StoredVm,
    as_of,
    every_snapshot,
    not_rolled_back,
    read_both,
    roll_back,
    rolled_back,
)
from pvc_core.vm_snapshot_commands import SnapshotOutcome, VmSnapshotCommands, is_node_s
from pvc_core.vm_snapshot_work import WORK_S, keeping
from pvc_core.vm_snapshots import SnapshotVolume, VmSnapshot, VmSnapshotState, refuse_busy, refuse_other_volumes
from pvc_core.vm_states import OFF
from pvc_core.volume_claims import REPAIR, Unfinished


class VmSnapshotRollback(VmSnapshotCommands):
    """The command that goes back, and the repair of all work on snapshots."""

    def roll_back(self, vm: str, name: str) -> SnapshotOutcome:
        """Let a VM that is off be what it was at a snapshot: its volumes, definition and metadata, not its name.

        Raises `NotFound`, and `Refused` for a VM that is not off or has other volumes, and where a storage refuses.
        """
        stored = self._view.snapshot().vm(vm)
        uuid, seen = stored.value.uuid, self._stored_snapshot(stored, name)
        self._refuse_unready(seen.value)
        self._refuse_missing(seen.value)

        def decide(snapshot: ClusterSnapshot) -> Change:
            newest = snapshot.vm(uuid)
            record, found = newest.value, self._stored_snapshot(newest, name)
            refuse_busy(record)
            if record.state not in OFF:
                raise Refused(record.name, f"is {record.state}; only a VM that is off goes back to a snapshot")
            self._refuse_unready(found.value)
            refuse_other_volumes(found.value, record)
            self._refuse_growth(record, as_of(record, found.value), snapshot)
            return roll_back(newest, found, self._clock.utc_iso())

        self._view.commit(decide)
        _, begun = read_both(self._store, uuid, name)
        if begun is None:
            raise self._overtaken(seen)
        return self._go_back(begun, may_refuse=True)

    @staticmethod
    def _refuse_unready(snapshot: VmSnapshot) -> None:
        if snapshot.state is VmSnapshotState.ROLLING_BACK:
            return  # the VM is kept off, which says more
        if snapshot.state is not VmSnapshotState.READY:
            raise Refused(snapshot.title, f"is {snapshot.state}; see {REPAIR}")

    def _refuse_missing(self, snapshot: VmSnapshot) -> None:
        """Before anything is changed: whether the storage still has all of it. Raises `Refused`."""

        def names_of(volume: SnapshotVolume) -> Callable[[StorageBackend], list[str]]:
            return lambda opened: [each.name for each in keeping(opened).snapshots(volume.pool, volume.name)]

        for each in snapshot.volumes:
            if each.snapshot not in self.storage.ask(each.backend, names_of(each)):
                raise Refused(snapshot.title, f"{each.title} has no snapshot {each.snapshot} any more")

    def _go_back(self, begun: StoredSnapshot, *, may_refuse: bool) -> SnapshotOutcome:
        """All volumes, then the record. may_refuse: nothing is changed yet, so that the first refusal ends it."""
        for index, volume in enumerate(begun.value.volumes):
            self._check_own(begun)
            try:
                self._roll_back_volume(volume)
            except PvcError as error:
                problem = f"{volume.title}: {error.sentence()}"
                if may_refuse and not index and isinstance(error, Refused | NotFound):
                    self._settle(lambda: not_rolled_back(*self._own(begun), problem, self._clock.utc_iso()))  # noqa: B023
                    raise Refused(begun.value.title, f"nothing is rolled back: {problem}") from error
                half = f"is gone back to in part, and the VM is kept off: {problem}; {REPAIR} goes on"
                raise Refused(begun.value.title, half) from error

        def decide() -> Change:
            vm, snapshot = self._own(begun)
            record = vm.value
            entry = self._store.get(layout.ledger(record.node))
            ledgers = {record.node: decode(entry, Ledger) if entry else None}
            return rolled_back(vm, snapshot, self._definition_entry(record), ledgers, self._clock.utc_iso())

        change = self._settle(decide)
        assert change is not None
        assert change.vm is not None
        _, ended = read_both(self._store, begun.value.vm, begun.value.name)
        return SnapshotOutcome(change.reason, change.vm, ended.value if ended else None)

    def _roll_back_volume(self, volume: SnapshotVolume) -> None:
        self.storage.ask(
            volume.backend, lambda opened: keeping(opened).roll_back(volume.pool, volume.name, volume.snapshot), WORK_S
        )

    def _check_own(self, begun: StoredSnapshot) -> None:
        """Raise `Refused` when somebody else has taken it over."""
        try:
            self._store.transaction([Check(begun.key, begun.version)])
        except Conflict as conflict:
            raise self._overtaken(begun) from conflict

    def _own(self, begun: StoredSnapshot) -> tuple[StoredVm, StoredSnapshot]:
        """VM and snapshot as they are now. Raises as `_check_own`."""
        vm, snapshot = read_both(self._store, begun.value.vm, begun.value.name)
        if vm is None or snapshot is None or snapshot.version != begun.version:
            raise self._overtaken(begun)
        return vm, snapshot

    @staticmethod
    def _overtaken(begun: StoredSnapshot) -> Refused:
        return Refused(begun.value.title, "somebody else goes on with it")

    # --------------------------------------------------------------------------------------------- repairing

    def _unfinished_snapshots(self) -> Iterator[tuple[Unfinished, StoredSnapshot]]:
        snapshot = self._view.snapshot()
        for each in every_snapshot(self._store):
            if words := _words(each.value, snapshot):
                vm = snapshot.vms.get(each.value.vm)
                name = vm.value.name if vm else each.value.vm_name
                yield Unfinished(f"snapshot {each.value.name}", name, each.value.since, *words), each

    def _repair_snapshots(self) -> dict[str, str]:
        """Bring all of them to an end; the keys of those that could not be, and why."""
        problems: dict[str, str] = {}
        for _, found in list(self._unfinished_snapshots()):
            uuid, name = found.value.vm, found.value.name
            _, newest = read_both(self._store, uuid, name)
            words = _words(newest.value, self._view.snapshot()) if newest else None
            if newest is None or words is None or words[1].startswith("nothing"):
                continue
            try:
                problem = self._repair_snapshot(newest)
            except PvcError as error:
                problem = error.sentence()
            if problem:
                problems[found.key] = problem
        return problems

    def _repair_snapshot(self, newest: StoredSnapshot) -> str:
        """Its end; why not. Raises `PvcError`."""
        value = newest.value
        if value.state is VmSnapshotState.ROLLING_BACK and value.vm in self._view.snapshot().vms:
            data = encode(msgspec.structs.replace(value, since=self._clock.utc_iso()), newest.data)
            (version,) = self._store.transaction([Set(newest.key, data, newest.version)])
            self._go_back(replace(newest, version=version), may_refuse=False)
            return ""
        if self._say_removing(value.vm, value.name) is None:
            return ""
        return self._snapshot_work.remove(value.vm, value.name)[0]


def _words(value: VmSnapshot, snapshot: ClusterSnapshot) -> tuple[str, str] | None:
    """What is wrong with a snapshot, and what is done about it."""
    if layout.vm(value.vm) in snapshot.broken:
        return "the record of its VM does not parse", "nothing, before it does"
    if value.vm not in snapshot.vms:
        return "its VM is no more", "it is removed"
    vm = snapshot.vms[value.vm].value
    if is_node_s(vm, value.name):
        return (
            f"{vm.node} is to take it, or to end what it has begun",
            f"nothing, since {vm.node} does so when it is there",
        )
    if value.state is VmSnapshotState.REMOVING:
        return "it is to be removed, and is not yet", "it is removed"
    if value.state is VmSnapshotState.ROLLING_BACK:
        return "the VM was going back to it, and is kept off", "it goes back, to the end"
    if value.state is VmSnapshotState.CREATING:
        return "it was being taken", "it is removed"
    return None
