# SPDX-License-Identifier: Apache-2.0
"""volume_commands: which volumes are disks of a VM: one becomes a disk, and is one no more.

Record and claim change in one transaction, with the versions of both. The guest, if it runs, follows: its node's agent
attaches what the record has, and detaches what is leaving.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.disk_xml import refuse_taken
from pvc_core.domain_xml import parse_domain
from pvc_core.errors import NotFound, Refused
from pvc_core.events import EventKind, of_vm
from pvc_core.model import VmRecord
from pvc_core.ports import Check, Op
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage import check_volume_name
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.vm_commands import VmCommands
from pvc_core.vm_snapshot_changes import read_snapshots
from pvc_core.vm_snapshots import those_of_volume
from pvc_core.vm_states import OFF
from pvc_core.vm_volumes import VmVolume, VolumeClaim, check_device, claim_key, free_device, of_device
from pvc_core.volume_claims import claiming, claims_on, keeping, new_claim, refuse_claimed, releasing

ID_BYTES = 4


@dataclass(frozen=True)
class VolumeOutcome:
    """What a command on a volume did: the sentence, the VM as it is now wanted, and the volume."""

    reason: str
    changed: bool
    vm: VmRecord
    volume: VmVolume


class VolumeCommands(VmCommands):
    """Commands on the volumes of VMs."""

    @cached_property
    def storage(self) -> StorageAccess:
        """The storage backends as seen from outside of nodes."""
        registry = self._registry
        opened = OutsideNodes(registry, lambda: self._view.settings)
        return StorageAccess(registry.calls, registry.storage_backends, opened.backend)

    def add_volume(self, vm: str, backend: str, pool: str, name: str, *, device: str = "") -> VolumeOutcome:
        """Make a volume that there is a disk of a VM: guest device `device`, by default the first that is free.

        Raises `NotFound` (VM, backend, pool, volume), `InvalidInput`, `Refused` for a volume that another VM has.
        """
        wanted = self._wanted(backend, pool, name, device)
        is_shared = self.storage.is_shared(backend, pool)
        if is_shared:
            self.storage.ask(backend, lambda opened: opened.volume(pool, name))

        def claim(volume: VmVolume, record: VmRecord) -> Op:
            refuse_claimed(self._store, claim_key(volume))
            return claiming(self._claim_of(volume, record))

        return self._attach(vm, wanted, is_shared, claim)

    def _wanted(self, backend: str, pool: str, name: str, device: str) -> VmVolume:
        if device:
            check_device(device)
        check_volume_name(name)
        return VmVolume(device=device, backend=backend, pool=pool, name=name, id=secrets.token_hex(ID_BYTES))

    def _claim_of(self, volume: VmVolume, record: VmRecord) -> VolumeClaim:
        return new_claim(volume, record, self._clock.utc_iso(), "attached")

    def _attach(
        self, vm: str, wanted: VmVolume, is_shared: bool, claim: Callable[[VmVolume, VmRecord], Op]
    ) -> VolumeOutcome:
        """Write it into the record. claim: what makes it this VM's, looked up for each attempt."""
        written: list[tuple[VmRecord, VmVolume]] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            self._refuse_in_between(before)
            definition = self._definition_entry(before)
            own = [disk.target for disk in parse_domain(definition.data.decode()).disks]
            device = wanted.device or free_device({*own, *(each.device for each in before.volumes)})
            node = "" if is_shared else before.node
            volume = msgspec.structs.replace(wanted, device=device, node=node)
            refuse_taken(own, [device])
            there = of_device(before.volumes, device)
            if there is not None:
                leaving = ", of which its guest has not let go yet" if there.leaving else ""
                raise Refused(before.name, f"has {there.title} as {device} already{leaving}")
            after = msgspec.structs.replace(before, volumes=(*before.volumes, volume))
            written[:] = [(after, volume)]
            reason = f"{volume.title} is {device} of {before.name}{_when(before)}"
            # The definition must not get such a disk at the same moment.
            ops = (claim(volume, before), Check(definition.key, definition.version), changes.write_vm(stored, after))
            return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_VOLUME_ADDED, before, after, reason),))

        change = self._view.commit(decide)
        return VolumeOutcome(change.reason, bool(change.ops), *written[0])

    def remove_volume(self, vm: str, device: str) -> VolumeOutcome:
        """Let a disk of a VM be one no more; the volume stays with what it holds.

        While the guest may run it is leaving, and stays the VM's until that has let go of it. Raises `NotFound` for a
        device that is no volume of the VM.
        """
        return self._detach(vm, device, deletes=False)

    def _detach(self, vm: str, device: str, *, deletes: bool) -> VolumeOutcome:
        """Take it out of the record; its claim goes, or says that it is to be deleted."""
        written: list[tuple[VmRecord, VmVolume]] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            before = stored.value
            self._refuse_in_between(before)
            volume = of_device(before.volumes, device)
            if volume is None:
                devices = tuple(each.device for each in before.volumes)
                raise NotFound(f"volume of {before.name}", device, devices)
            if deletes:
                self._refuse_in_snapshots(before, volume)
            written[:] = [(before, volume)]
            claim_ops = self._let_go(before, volume, deletes=deletes)
            if volume.leaving and before.state not in OFF and not claim_ops:
                return changes.already(stored, f"{volume.title} is leaving {before.name} already", before)
            rest = tuple(each for each in before.volumes if each is not volume)
            if before.state not in OFF:
                leaving = msgspec.structs.replace(volume, leaving=True)
                rest = tuple(leaving if each is volume else each for each in before.volumes)
            after = msgspec.structs.replace(before, volumes=rest)
            written[:] = [(after, of_device(rest, device) or volume)]
            ops = (changes.write_vm(stored, after), *claim_ops)
            reason = f"{volume.title} is no volume of {before.name} any more{_when(before)}"
            return Change(ops, reason, after, happenings=(of_vm(EventKind.VM_VOLUME_REMOVED, before, after, reason),))

        change = self._view.commit(decide)
        return VolumeOutcome(change.reason, bool(change.ops), *written[0])

    def _refuse_in_snapshots(self, record: VmRecord, volume: VmVolume) -> None:
        snapshots = [each.value for each in read_snapshots(self._store, record)]
        if names := those_of_volume(snapshots, volume):
            raise Refused(volume.title, f"is in snapshots of {record.name}, to be removed before: {', '.join(names)}")

    def _let_go(self, record: VmRecord, volume: VmVolume, *, deletes: bool) -> tuple[Op, ...]:
        """What becomes of the claim on a volume that is removed; there may be none after a mistake."""
        (claim,) = claims_on(self._store, [volume]).values() or (None,)
        now = self._clock.utc_iso()
        if claim is None:
            return (claiming(new_claim(volume, record, now, "removing")),) if deletes else ()
        if deletes:
            return () if claim.value.purpose == "removing" else (keeping(claim, "removing", now),)
        return releasing([claim]) if record.state in OFF and claim.value.purpose == "attached" else ()


def _when(record: VmRecord) -> str:
    return "" if record.state in OFF else "; its guest follows"
