# SPDX-License-Identifier: Apache-2.0
"""volume_claims: whose a volume is, as the store says: what is looked up before one is given, renamed or deleted.

A claim changes in the same transaction as the VM's record, with its version, so that a volume never has two VMs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from pvc_core import changes, layout
from pvc_core.codec import Stored, decode, encode
from pvc_core.errors import BrokenRecord, Refused
from pvc_core.events import EventKind, of_vm
from pvc_core.model import VmRecord
from pvc_core.ports import ClusterStore, Create, Delete, Op, Set
from pvc_core.vm_volumes import Purpose, VmVolume, VolumeClaim, claim_key

REPAIR = "`pvc vm volume repair`"


@dataclass(frozen=True)
class Unfinished:
    """What was begun with a volume, or a snapshot of a VM, and has not come to an end, or does not fit together.

    remedy: what is to be done about it.
    """

    volume: str
    vm: str
    since: str
    problem: str
    remedy: str


def claim_on(store: ClusterStore, key: str) -> Stored[VolumeClaim] | None:
    """Whose the volume of this key is. Raises `BrokenRecord`."""
    entry = store.get(key)
    return None if entry is None else decode(entry, VolumeClaim)


def claims_on(store: ClusterStore, volumes: Iterable[VmVolume]) -> dict[str, Stored[VolumeClaim]]:
    """Those that there are on these volumes, by key, in one request. Raises `BrokenRecord`."""
    keys = [claim_key(volume) for volume in volumes]
    return {key: decode(entry, VolumeClaim) for key, entry in (store.get_many(keys) if keys else {}).items()}


def every_claim(store: ClusterStore) -> list[Stored[VolumeClaim]]:
    """All that there are, in the order of their keys. Raises `BrokenRecord`."""
    keys = [f"{layout.VOLUMES}/{name}" for name in store.children(layout.VOLUMES)]
    return [decode(entry, VolumeClaim) for _, entry in sorted(store.get_many(keys).items())]


def refuse_claimed(store: ClusterStore, key: str) -> None:
    """Raise `Refused`, naming the VM, when somebody has the volume of this key. Raises `BrokenRecord`."""
    claim = claim_on(store, key)
    if claim is None:
        return
    value, vm = claim.value, owner_name(store, claim.value)
    if value.purpose == "removing":
        raise Refused(value.title, f"is being removed; if nobody does so any more, {REPAIR} goes on with it")
    if value.purpose == "creating":
        raise Refused(value.title, f"is being made for {vm}; if that has ended, {REPAIR} clears it away")
    if value.purpose == "renaming":
        raise Refused(value.title, f"is what a volume of {vm} is about to be called")
    raise Refused(value.title, f"is a volume of {vm} already")


def owner_name(store: ClusterStore, claim: VolumeClaim) -> str:
    """What the VM is called now; what it was called when it had the claim, once it is gone."""
    entry = store.get(layout.vm(claim.vm))
    try:
        return claim.vm_name if entry is None else decode(entry, VmRecord).value.name
    except BrokenRecord:
        return claim.vm_name  # its record is shown as broken where VMs are; here only a name was wanted


def new_claim(volume: VmVolume, vm: VmRecord, now: str, purpose: Purpose) -> VolumeClaim:
    """The volume becomes this VM's."""
    return VolumeClaim(
        backend=volume.backend,
        pool=volume.pool,
        name=volume.name,
        node=volume.node,
        vm=vm.uuid,
        vm_name=vm.name,
        purpose=purpose,
        since=now,
    )


def claiming(claim: VolumeClaim) -> Op:
    """Claim a volume that nobody has."""
    return Create(claim.key, encode(claim))


def keeping(claim: Stored[VolumeClaim], purpose: Purpose, now: str) -> Op:
    """The same claim for another purpose."""
    after = msgspec.structs.replace(claim.value, purpose=purpose, since=now)
    return Set(claim.key, encode(after, claim.data), claim.version)


def letting_go(
    store: ClusterStore, stored: Stored[VmRecord], volumes: Iterable[VmVolume], reason: str
) -> changes.Change:
    """Those of these volumes that are leaving have left: the record is without them, and they are free.

    The claim on one that is being removed stays, for whoever does that.
    """
    marks = {volume.mark for volume in volumes}
    gone = [volume for volume in stored.value.volumes if volume.leaving and volume.mark in marks]
    left = tuple(volume for volume in stored.value.volumes if volume not in gone)
    free = [claim for claim in claims_on(store, gone).values() if claim.value.purpose == "attached"]
    after = msgspec.structs.replace(stored.value, volumes=left)
    happening = of_vm(EventKind.VM_VOLUME_RELEASED, stored.value, after, reason)
    return changes.Change((changes.write_vm(stored, after), *releasing(free)), reason, after, happenings=(happening,))


def releasing(claims: Iterable[Stored[VolumeClaim]]) -> tuple[Op, ...]:
    """These volumes are nobody's any more."""
    return tuple(Delete(claim.key, claim.version) for claim in claims)
