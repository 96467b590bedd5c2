# SPDX-License-Identifier: Apache-2.0
"""agent_actions: what a node's agent can decide to do for one of its VMs, each with a reason."""

from __future__ import annotations

from dataclasses import dataclass

from pvc_core.vm_states import VmEvent
from pvc_core.vm_volumes import VmVolume


@dataclass(frozen=True)
class Start:
    """Create the domain, after checking once more in the store that it is still ours to start."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class AskShutdown:
    """Ask the guest to power off."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class Terminate:
    """Destroy the domain. `stray`: the record belongs elsewhere; check that in the store once more.

    told: it ends a guest that nobody wanted to end like this, which becomes an event of its own.
    """

    uuid: str
    reason: str
    stray: bool = False
    told: bool = False


@dataclass(frozen=True)
class Migrate:
    """Move the domain live to `target`."""

    uuid: str
    target: str
    max_downtime_ms: int
    reason: str


@dataclass(frozen=True)
class CancelMigration:
    """Break off the migration under way."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class LookAtPeer:
    """Ask the target's hypervisor what the domain does there."""

    uuid: str
    target: str
    reason: str


@dataclass(frozen=True)
class Record:
    """Write an event of the VM to its record."""

    uuid: str
    event: VmEvent
    reason: str


@dataclass(frozen=True)
class LookAtDisks:
    """Ask the hypervisor which volumes the guest has."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class AttachDisk:
    """Give the guest a disk for a volume of its record."""

    uuid: str
    volume: VmVolume
    reason: str


@dataclass(frozen=True)
class DetachDisk:
    """Take the disk of a volume that is leaving away from the guest."""

    uuid: str
    volume: VmVolume
    reason: str


@dataclass(frozen=True)
class LetGo:
    """Write to the record that these volumes, which were leaving, have left."""

    uuid: str
    volumes: tuple[VmVolume, ...]
    reason: str


@dataclass(frozen=True)
class TakeSnapshot:
    """Bring the snapshot that the record says is to be taken to its end: taken, or nothing left of it."""

    uuid: str
    name: str
    reason: str


DiskAction = LookAtDisks | AttachDisk | DetachDisk | LetGo
Action = Start | AskShutdown | Terminate | Migrate | CancelMigration | LookAtPeer | Record | TakeSnapshot | DiskAction
