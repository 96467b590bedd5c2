# SPDX-License-Identifier: Apache-2.0
"""rows: what the simulated world is made of: domains, migrations and their history, as typed rows of its file."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.StrEnum):
    """Where a domain is in its life on one host. INCOMING: a migration to this host has not arrived yet."""

    STARTING = "starting"
    RUNNING = "running"
    INCOMING = "incoming"


class Happening(enum.StrEnum):
    """What the world's history tells, of a domain or of a host."""

    START_FAILED = "start-failed"
    CREATED = "created"
    BOOTED = "booted"
    DISK_ATTACHED = "disk-attached"
    DISK_DETACHED = "disk-detached"
    FROZEN = "frozen"
    THAWED = "thawed"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    SHUTDOWN_ASKED = "shutdown-asked"
    POWERED_OFF = "powered-off"
    DESTROYED = "destroyed"
    CRASHED = "crashed"
    MIGRATION_BEGAN = "migration-began"
    MIGRATION_FAILED = "migration-failed"
    LEFT = "left"
    ARRIVED = "arrived"
    ON_TWO_NODES = "on-two-nodes"
    HOST_AWAY = "host-away"
    HOST_BACK = "host-back"
    POWER_LOST = "power-lost"


@dataclass(frozen=True, slots=True)
class SimulatedDomain:
    """A domain on one host. `boot_id` is new with every start and kept by a migration, as is `booted_at`.

    is_frozen: its file systems are, by its agent. is_suspended: its processors stand still.
    """

    node: str
    uuid: str
    name: str
    xml: str
    memory_mib: int
    vcpus: int
    phase: Phase
    boot_id: str
    booted_at: float
    runs_at: float | None = None
    powers_off_at: float | None = None
    crashes_at: float | None = None
    is_frozen: int = 0
    is_suspended: int = 0


@dataclass(frozen=True, slots=True)
class SimulatedMigration:
    """A migration; `outcome` None while it is under way, "" when it arrived, else why it did not."""

    id: int
    uuid: str
    source: str
    target: str
    began_at: float
    arrives_at: float
    fails_at: float | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened; `number` counts up, `at_s` is the machine's monotonic clock."""

    number: int
    at_s: float
    node: str
    uuid: str
    name: str
    kind: Happening
    detail: str
