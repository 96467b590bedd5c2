# SPDX-License-Identifier: Apache-2.0
"""vm_snapshots: what a VM was at one moment: its definition, its metadata, and a snapshot of each of its volumes.

What is kept of it in the store, when a VM may go back to it, and which of those that were made automatically are too
old. The storage knows no transactions with the store, so the record says first what is about to be done.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from pvc_core import layout
from pvc_core.errors import InvalidInput, Refused
from pvc_core.model import VmMetadata, VmRecord
from pvc_core.vm_volumes import VmVolume

MAX_SNAPSHOTS = 100
"""Of one VM."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_NAME_RULE = "1 to 64 of the letters a-z and A-Z, digits, '.', '_', '-', '+', beginning with a letter or digit"

Consistency = Literal["", "off", "frozen", "crash"]
"""Of what the volumes hold: the guest was off, or its agent had frozen its file systems, or it is what a power cut at
that moment would have left. "": not known yet."""
Halt = Literal["", "frozen", "suspended"]
"""How a guest that runs is kept from writing while its snapshots are taken."""


class VmSnapshotState(enum.StrEnum):
    """What is being done with a snapshot; but for READY, something has to come to an end."""

    CREATING = "creating"
    READY = "ready"
    ROLLING_BACK = "rolling-back"
    REMOVING = "removing"


class SnapshotVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it was, and what its storage calls the snapshot of it. size_bytes: 0 until it is taken."""

    device: str
    backend: str
    pool: str
    name: str
    node: str = ""
    id: str = ""
    snapshot: str
    size_bytes: int = 0

    @property
    def title(self) -> str:
        """How people are told of the volume."""
        return self.as_volume.title

    @property
    def as_volume(self) -> VmVolume:
        """The volume that it was."""
        return VmVolume(
            device=self.device, backend=self.backend, pool=self.pool, name=self.name, node=self.node, id=self.id
        )

    def is_of(self, volume: VmVolume) -> bool:
        """Whether it is a snapshot of this volume, whatever device that is now."""
        own = (self.backend, self.pool, self.name, self.node)
        return own == (volume.backend, volume.pool, volume.name, volume.node)


class VmSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A VM as it was at one moment.

    vm: its UUID; vm_name: what it was called. at: wall-clock time of the moment. since: when it came into its state.
    automatic: made with a number of snapshots to keep, and removed when it is too old for that; keep: that number.
    halted: what has been done to the guest for it, which has to be undone whatever happens.
    """

    schema: int = layout.SCHEMA_VERSION
    vm: str
    vm_name: str
    name: str
    state: VmSnapshotState = VmSnapshotState.CREATING
    since: str = ""
    at: str = ""
    consistency: Consistency = ""
    halted: Halt = ""
    automatic: bool = False
    keep: int = 0
    definition: str = ""
    metadata: VmMetadata = VmMetadata()
    volumes: tuple[SnapshotVolume, ...] = ()

    @property
    def key(self) -> str:
        """Where it stands in the store."""
        return layout.vm_snapshot(self.vm, self.name)

    @property
    def title(self) -> str:
        """How people are told of it."""
        return f"snapshot {self.name} of {self.vm_name}"


def check_snapshot_name(name: str) -> None:
    """Raise `InvalidInput` for a name that no snapshot of a VM may have."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("name", "is not acceptable as the name of a snapshot", name[:80], (_NAME_RULE,))


def new_snapshot(record: VmRecord, name: str, identity: str, definition: str, now: str, *, keep: int = 0) -> VmSnapshot:
    """What is about to be taken of a VM.

    identity: drawn for it, part of what the storage's snapshots are called: so they are nobody else's, and what an
    earlier one of the same name has left is none of them. keep: of those that are made automatically, 0: it is not.
    """
    volumes = tuple(
        SnapshotVolume(
            device=each.device,
            backend=each.backend,
            pool=each.pool,
            name=each.name,
            node=each.node,
            id=each.id,
            snapshot=f"vm.{name}.{identity}",
        )
        for each in record.volumes
    )
    return VmSnapshot(
        vm=record.uuid,
        vm_name=record.name,
        name=name,
        since=now,
        at=now,
        automatic=keep > 0,
        keep=keep,
        definition=definition,
        metadata=record.metadata,
        volumes=volumes,
    )


def refuse_busy(record: VmRecord) -> None:
    """Raise `Refused` while something is done with snapshots or volumes of the VM that another must not get between."""
    standing = record.snapshots
    if standing.taking:
        raise Refused(record.name, f"its snapshot {standing.taking} is being taken")
    if record.kept_off:
        raise Refused(record.name, record.kept_off)


def refuse_snapshots(record: VmRecord) -> None:
    """Raise `Refused`, naming them, for a VM that has snapshots."""
    if record.snapshots.names:
        names = ", ".join(record.snapshots.names)
        raise Refused(record.name, f"has snapshots, which are to be removed before: {names}")


def refuse_other_volumes(snapshot: VmSnapshot, record: VmRecord) -> None:
    """Raise `Refused` unless the VM has the volumes of its snapshot, naming the devices that are others."""
    then = {each.device: each for each in snapshot.volumes}
    now = {each.device: each for each in record.volumes}
    problems = []
    for device in sorted(then.keys() | now.keys(), key=lambda name: (len(name), name)):
        old, new = then.get(device), now.get(device)
        if old is None and new is not None:
            problems.append(f"{device} ({new.title}) was none of its disks")
        elif new is None and old is not None:
            problems.append(f"{device} was {old.title} and is no volume of it now")
        elif old is not None and new is not None and not old.is_of(new):
            problems.append(f"{device} was {old.title} and is {new.title} now")
    if problems:
        raise Refused(snapshot.title, f"the VM has other volumes now: {'; '.join(problems)}")


def those_of_volume(snapshots: Iterable[VmSnapshot], volume: VmVolume) -> tuple[str, ...]:
    """The names of those that hold a snapshot of this volume."""
    return tuple(each.name for each in snapshots if any(one.is_of(volume) for one in each.volumes))


def too_many(snapshots: Sequence[VmSnapshot], keep: int) -> tuple[str, ...]:
    """Of a VM's snapshots, oldest first, those that are beyond the newest `keep` which were made automatically.

    What a person has made is never among them, nor what is not ready.
    """
    automatic = [each.name for each in snapshots if each.automatic and each.state is VmSnapshotState.READY]
    return tuple(automatic[: max(0, len(automatic) - keep)])
