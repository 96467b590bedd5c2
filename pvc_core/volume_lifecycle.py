# SPDX-License-Identifier: Apache-2.0
"""volume_lifecycle: volumes that are made for a VM and deleted with it, so that a death in between leaves a trace.

The storage knows no transactions with the store. So the claim on a volume says first what is to become of it: whoever
finds such a claim later, because its process died, knows what had begun, and `repair` brings it to an end. Nothing is
deleted of which the store does not say that a person wanted it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pvc_core.changes import Change
from pvc_core.codec import Stored, encode
from pvc_core.command_base import Outcome
from pvc_core.errors import AlreadyExists, Conflict, NotFound, PluginError, PvcError, Refused, StoreUnavailable
from pvc_core.events import EventKind, Happening
from pvc_core.model import VmRecord
from pvc_core.ports import Create, Delete, Op
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage import StorageBackend, check_volume_size
from pvc_core.vm_snapshot_changes import StoredSnapshot, read_snapshots, removing
from pvc_core.vm_snapshots import refuse_busy
from pvc_core.vm_states import OFF
from pvc_core.vm_volumes import Purpose, VmVolume, VolumeClaim, claim_key
from pvc_core.volume_claims import (
    REPAIR,
    Unfinished,
    claim_on,
    claiming,
    claims_on,
    every_claim,
    keeping,
    new_claim,
    owner_name,
    refuse_claimed,
)
from pvc_core.volume_commands import VolumeOutcome
from pvc_core.volume_renaming import VolumeRenaming

WORK_S = 120.0
"""How long a backend may take to make or delete a volume."""
LET_GO_S = 15.0
"""How long a command waits for a guest to let go of a volume that is to be deleted."""


class VolumeLifecycle(VolumeRenaming):
    """Commands that make and delete volumes."""

    def create_volume(
        self, vm: str, backend: str, pool: str, name: str, size_bytes: int, *, device: str = ""
    ) -> VolumeOutcome:
        """Make a volume and let it be a disk of a VM. One that cannot become it is removed again.

        Raises as `add_volume`, `AlreadyExists`, and what the backend refuses.
        """
        check_volume_size(size_bytes)
        wanted = self._wanted(backend, pool, name, device)
        if not self.storage.is_shared(backend, pool):
            raise Refused(f"pool {pool} of {backend}", "lies on a host: make the volume there, then add it")
        record = self._view.snapshot().vm(vm).value
        self._refuse_in_between(record)
        if self._is_there(backend, pool, name):
            raise AlreadyExists("volume", name)
        claim = self._announced(wanted, record)
        self._create(claim, size_bytes)
        try:
            return self._attach(vm, wanted, True, lambda _volume, _record: self._kept(claim, "attached"))
        except StoreUnavailable:
            raise  # whether it was written is not known: the claim says it
        except PvcError as error:
            problem = self._deleted(claim)
            if problem:
                raise Refused(wanted.title, f"{error.sentence()}; it was made, and is left: {problem}") from error
            raise

    def _is_there(self, backend: str, pool: str, name: str) -> bool:
        def found(opened: StorageBackend) -> bool:
            return name in [volume.name for volume in opened.volumes(pool)]

        return self.storage.ask(backend, found)

    def _announced(self, volume: VmVolume, record: VmRecord) -> Stored[VolumeClaim]:
        """The claim that says what is about to be made."""
        claim = new_claim(volume, record, self._clock.utc_iso(), "creating")
        try:
            self._store.transaction([claiming(claim)])
        except Conflict:
            refuse_claimed(self._store, claim.key)
            raise
        return Stored(claim.key, claim, 0, encode(claim))

    def _create(self, claim: Stored[VolumeClaim], size_bytes: int) -> None:
        value = claim.value
        try:
            self.storage.ask(
                value.backend, lambda opened: opened.create_volume(value.pool, value.name, size_bytes), WORK_S
            )
        except PluginError as error:
            raise Refused(value.title, f"whether it was made is not known, see {REPAIR}: {error.sentence()}") from error
        except PvcError:
            self._store.transaction([Delete(claim.key, claim.version)])
            raise

    def _kept(self, claim: Stored[VolumeClaim], purpose: Purpose) -> Op:
        return keeping(claim, purpose, self._clock.utc_iso())

    # ------------------------------------------------------------------------------------------ deleting

    def delete_volume(self, vm: str, device: str) -> VolumeOutcome:
        """Let a disk of a VM be one no more, and delete its volume with what it holds, once no guest has it.

        Raises as `remove_volume`; `Refused` for a volume that lies on a host.
        """
        snapshot = self._view.snapshot()
        self._refuse_local([each for each in snapshot.vm(vm).value.volumes if each.device == device])
        outcome = self._detach(vm, device, deletes=True)
        uuid, mark = outcome.vm.uuid, outcome.volume.mark

        def has_left(snapshot: ClusterSnapshot) -> bool:
            stored = snapshot.vms.get(uuid)
            return stored is None or all(each.mark != mark for each in stored.value.volumes)

        if not self._view.wait_for(has_left, LET_GO_S):
            later = f"it is deleted by {REPAIR} once its guest has let go of it"
            return VolumeOutcome(f"{outcome.reason}; {later}", True, outcome.vm, outcome.volume)
        claim = claim_on(self._store, claim_key(outcome.volume))
        problem = self._deleted(claim) if claim else ""
        end = f"it is left: {problem}; {REPAIR} tries again" if problem else "it is deleted"
        return VolumeOutcome(f"{outcome.reason}; {end}", True, outcome.vm, outcome.volume)

    def remove_vm(self, vm: str) -> Outcome:
        """Forget a VM that is off, and delete its snapshots and volumes. What is left is said in a warning."""
        self._refuse_local(self._view.snapshot().vm(vm).value.volumes)
        removed: list[str] = []
        snapshots: list[StoredSnapshot] = []

        def remove(record: VmRecord) -> tuple[Op, ...]:
            self._refuse_local(record.volumes)
            refuse_busy(record)
            snapshots[:] = read_snapshots(self._store, record)
            claims = claims_on(self._store, record.volumes)
            now = self._clock.utc_iso()
            removed[:] = map(claim_key, record.volumes)
            missing = [each for each in record.volumes if claim_key(each) not in claims]
            made = (claiming(new_claim(each, record, now, "removing")) for each in missing)
            kept = (self._kept(claim, "removing") for claim in claims.values())
            return (*kept, *made, *(removing(each, now) for each in snapshots))

        outcome = self._undefine(vm, remove)
        deleted, warnings = [], []
        for each in snapshots:
            problem, _ = self._snapshot_work.remove(each.value.vm, each.value.name)
            if problem:
                warnings.append(f"{each.value.title} is left: {problem}; {REPAIR} tries again")
        for key in removed:
            claim = claim_on(self._store, key)
            problem = self._deleted(claim) if claim else ""
            if claim and problem:
                warnings.append(f"{claim.value.title} is left: {problem}; {REPAIR} tries again")
            elif claim:
                deleted.append(claim.value.title)
        reason = f"{outcome.reason}; deleted: {', '.join(deleted)}" if deleted else outcome.reason
        return Outcome(reason, True, vm=outcome.vm, warnings=tuple(warnings))

    @staticmethod
    def _refuse_local(volumes: Sequence[VmVolume]) -> None:
        for volume in volumes:
            if volume.node:
                raise Refused(volume.title, "lies on a host, where it is not deleted from here: remove it from the VM")

    def _deleted(self, claim: Stored[VolumeClaim]) -> str:
        """Delete the volume of a claim, and the claim; or why not. A volume that is gone is deleted."""
        value = claim.value
        try:
            self.storage.ask(value.backend, lambda opened: opened.remove_volume(value.pool, value.name), WORK_S)
        except NotFound as error:
            if error.kind != "volume":
                return error.sentence()
        except PvcError as error:
            return error.sentence()
        reason = f"{value.title} is deleted"
        happening = Happening(EventKind.VOLUME_DELETED, reason, value.vm_name, value.vm)
        self._forget(claim, reason, happening)
        return ""

    def _forget(self, claim: Stored[VolumeClaim], reason: str, happening: Happening) -> None:
        """Not as a commit of the command, which may hold for one version of the VM. Somebody may have been faster."""
        change = Change((Delete(claim.key, claim.version),), reason, happenings=(happening,))
        self._view.try_commit(change, self._view.snapshot())

    # ----------------------------------------------------------------------------------------- repairing

    def unfinished_volumes(self) -> tuple[Unfinished, ...]:
        """What `repair_volumes` would do something about, or cannot yet."""
        found = [each for each, _ in self._unfinished_snapshots()]
        found += [each for each, _, _ in self._unfinished_renamings()]
        return (*found, *(each for each, _ in self._unfinished()))

    def repair_volumes(self) -> tuple[Unfinished, ...]:
        """Bring to an end what was begun with snapshots and volumes, and make claims and records fit; what is left."""
        problems = self._repair_snapshots()
        unnamed = self._repair_renamings()
        for _, claim in self._unfinished():
            self._repair(claim)
        snapshots = [
            replace(each, problem=problems.get(stored.key, each.problem))
            for each, stored in self._unfinished_snapshots()
        ]
        renamings = [
            replace(each, problem=unnamed.get(volume.id, each.problem))
            for each, _, volume in self._unfinished_renamings()
        ]
        return (*snapshots, *renamings, *(each for each, _ in self._unfinished()))

    def _unfinished(self) -> Iterator[tuple[Unfinished, Stored[VolumeClaim] | VmRecord]]:
        snapshot, claims = self._view.snapshot(), every_claim(self._store)
        for claim in claims:
            words = self._words(claim.value, snapshot)
            if words:
                value = claim.value
                yield Unfinished(value.title, owner_name(self._store, value), value.since, *words), claim
        known = {claim.key for claim in claims}
        for stored in snapshot.vms.values():
            for volume in stored.value.volumes:
                if claim_key(volume) not in known:
                    words = ("nothing in the store says that it is the VM's", "that is written")
                    yield Unfinished(volume.title, stored.value.name, "", *words), stored.value

    @staticmethod
    def _words(claim: VolumeClaim, snapshot: ClusterSnapshot) -> tuple[str, str] | None:
        """What is wrong, and what is done about it."""
        stored = snapshot.vms.get(claim.vm)
        has_it = stored is not None and claim.key in map(claim_key, stored.value.volumes)
        if claim.purpose == "renaming" and stored is not None and _is_getting(claim.name, stored.value):
            return None  # told of the volume itself
        if claim.purpose == "removing":
            if has_it and stored is not None and stored.value.state not in OFF:
                return "it is to be deleted, and its guest has not let go of it", "nothing, before it has"
            return "it is to be deleted, and is not yet", "it is deleted"
        if claim.purpose == "creating":
            return "it was being made", "it is nobody's any more; if it is there, it is empty and stays"
        if has_it:
            return None
        if any(claim.vm in node.reserved.leftovers for node in snapshot.nodes.values()):
            return "its VM was undefined by force, and the guest may still run", "nothing, before it does not"
        return "the VM that it belongs to does not have it", "it is nobody's any more"

    def _repair(self, found: Stored[VolumeClaim] | VmRecord) -> None:
        """One of them, by its newest state."""
        if isinstance(found, VmRecord):
            claims = claims_on(self._store, found.volumes)
            now = self._clock.utc_iso()
            missing = [each for each in found.volumes if claim_key(each) not in claims]
            for claim in (new_claim(each, found, now, "attached") for each in missing):
                self._store.transaction([Create(claim.key, encode(claim))])
            return
        newest, snapshot = claim_on(self._store, found.key), self._view.snapshot()
        words = self._words(newest.value, snapshot) if newest else None
        if newest is None or words is None or words[1].startswith("nothing"):
            return
        if newest.value.purpose == "removing":
            self._deleted(newest)
            return
        reason = f"{newest.value.title} is nobody's any more"
        happening = Happening(EventKind.VM_VOLUME_RELEASED, reason, newest.value.vm_name, newest.value.vm)
        self._forget(newest, reason, happening)


def _is_getting(name: str, record: VmRecord) -> bool:
    return any(volume.renaming == name for volume in record.volumes)
