# SPDX-License-Identifier: Apache-2.0
"""volume_renaming: a volume of a VM that is off gets another name, in the storage and in all records, or keeps its own.

The record says first what the volume is going to be called, and the new name is claimed: until that is over the VM is
kept off, since its guest would look for a volume under a name that it may no longer have. Whoever finds it so later
goes on with it: a renaming is repeated, and undone only where the storage has said no.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, PluginError, PvcError, Refused, StorageUnavailable
from pvc_core.events import EventKind, of_vm
from pvc_core.model import VmRecord
from pvc_core.ports import Op
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage import StorageBackend, check_volume_name
from pvc_core.vm_snapshot_rollback import VmSnapshotRollback
from pvc_core.vm_snapshots import refuse_busy, refuse_snapshots
from pvc_core.vm_states import OFF
from pvc_core.vm_volumes import VmVolume, claim_key, of_device
from pvc_core.volume_claims import (
    REPAIR,
    Unfinished,
    claiming,
    claims_on,
    keeping,
    new_claim,
    refuse_claimed,
    releasing,
)
from pvc_core.volume_commands import VolumeOutcome

RENAME_S = 60.0
"""How long a backend may take to give a volume another name."""


class VolumeRenaming(VmSnapshotRollback):
    """The command, and its repair."""

    def rename_volume(self, vm: str, device: str, new_name: str) -> VolumeOutcome:
        """Give the volume that is a disk of a VM another name in its pool.

        Raises `NotFound`, `InvalidInput`, `AlreadyExists`, and `Refused` unless the VM is off and without snapshots,
        which name the volume; for a volume that lies on a host; and where the storage refuses.
        """
        check_volume_name(new_name, "name")

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            volume = _renamable(before, device, new_name)
            wanted = _called(volume, new_name)
            refuse_claimed(self._store, claim_key(wanted))
            after = _with(before, volume, msgspec.structs.replace(volume, renaming=new_name))
            claim = new_claim(wanted, before, self._clock.utc_iso(), "renaming")
            reason = f"{volume.title} is going to be called {new_name}"
            happening = of_vm(EventKind.VM_VOLUME_RENAMING, before, after, reason)
            ops = (claiming(claim), changes.write_vm(stored, after))
            return Change(ops, reason, after, happenings=(happening,))

        begun = self._view.commit(decide).vm
        assert begun is not None
        volume = of_device(begun.volumes, device)
        assert volume is not None
        try:
            self._rename_in_storage(volume)
        except (PluginError, StorageUnavailable) as error:
            unknown = f"whether it is called {new_name} now is not known, see {REPAIR}: {error.sentence()}"
            raise Refused(volume.title, unknown) from error
        except PvcError:
            self._end_renaming(begun.uuid, volume, volume.name)
            raise
        return self._end_renaming(begun.uuid, volume, new_name)

    def _rename_in_storage(self, volume: VmVolume) -> None:
        """Raises what the backend refuses, having changed nothing then. It may have been done already."""

        def rename(opened: StorageBackend) -> None:
            names = {each.name for each in opened.volumes(volume.pool)}
            if volume.name in names or volume.renaming not in names:
                opened.rename_volume(volume.pool, volume.name, volume.renaming)

        self.storage.ask(volume.backend, rename, RENAME_S)

    def _end_renaming(self, uuid: str, begun: VmVolume, name: str) -> VolumeOutcome:
        """Write what the volume is called now: its new name, or its old one. Somebody else may have done so."""
        ended = _called(begun, name)

        def decide() -> Change | None:
            stored = self._view.snapshot().vm(uuid)
            before = stored.value
            volume = next((each for each in before.volumes if each.id == begun.id), None)
            if volume is None or volume.renaming != begun.renaming:
                return None
            after = _with(before, volume, ended)
            ops = (*self._claims_after(begun, name), changes.write_vm(stored, after))
            reason = f"{begun.title} is called {name} now" if name != begun.name else f"{begun.title} keeps its name"
            happening = of_vm(EventKind.VM_VOLUME_RENAMED, before, after, reason)
            return Change(ops, reason, after, happenings=(happening,))

        change = self._settle(decide)
        if change is None:
            return VolumeOutcome(
                f"{ended.title} is what it is called", False, self._view.snapshot().vm(uuid).value, ended
            )
        assert change.vm is not None
        return VolumeOutcome(change.reason, True, change.vm, ended)

    def _claims_after(self, begun: VmVolume, name: str) -> Iterator[Op]:
        """The claim on the name that is not the volume's goes; the one on the new name is an ordinary one then."""
        new = _called(begun, begun.renaming)
        if name == begun.name:
            yield from releasing(claims_on(self._store, [new]).values())
            return
        yield from releasing(claims_on(self._store, [begun]).values())
        for claim in claims_on(self._store, [new]).values():
            yield keeping(claim, "attached", self._clock.utc_iso())

    # --------------------------------------------------------------------------------------------- repairing

    def _unfinished_renamings(self) -> Iterator[tuple[Unfinished, str, VmVolume]]:
        """With the VM's UUID and its volume."""
        for stored in self._view.snapshot().vms.values():
            for volume in stored.value.volumes:
                if volume.renaming:
                    problem = f"it was getting the name {volume.renaming}, and the VM is kept off"
                    remedy = "it gets that name, or keeps its own if that name is taken"
                    yield Unfinished(volume.title, stored.value.name, "", problem, remedy), stored.value.uuid, volume

    def _repair_renamings(self) -> dict[str, str]:
        """Go on with all of them; by a volume's id why it could not be."""
        problems: dict[str, str] = {}
        for _, uuid, volume in list(self._unfinished_renamings()):
            try:
                self._rename_in_storage(volume)
                self._end_renaming(uuid, volume, volume.renaming)
            except AlreadyExists:
                self._end_renaming(uuid, volume, volume.name)
            except PvcError as error:
                problems[volume.id] = error.sentence()
        return problems


def _renamable(record: VmRecord, device: str, new_name: str) -> VmVolume:
    """The volume that is to get another name. Raises `NotFound`, `InvalidInput` and `Refused`."""
    volume = of_device(record.volumes, device)
    if volume is None:
        raise NotFound(f"volume of {record.name}", device, tuple(each.device for each in record.volumes))
    if volume.name == new_name:
        raise InvalidInput("name", "is what the volume is called already", new_name)
    if record.state not in OFF:
        raise Refused(record.name, f"is {record.state}; a volume gets another name only while its VM is off")
    refuse_busy(record)
    refuse_snapshots(record)
    if volume.node:
        raise Refused(volume.title, "lies on a host, where it gets no other name from here")
    return volume


def _called(volume: VmVolume, name: str) -> VmVolume:
    return msgspec.structs.replace(volume, name=name, renaming="")


def _with(record: VmRecord, before: VmVolume, after: VmVolume) -> VmRecord:
    volumes = tuple(after if each is before else each for each in record.volumes)
    return msgspec.structs.replace(record, volumes=volumes)
