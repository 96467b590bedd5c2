# SPDX-License-Identifier: Apache-2.0
"""moment: the simulated world at one instant, inside one transaction: what is, and everything that can happen.

Whatever became due since somebody last looked is applied first, in the order of time, each with its own time.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from pvc_core.errors import HypervisorError
from pvc_plugins.hypervisors.simulated.rows import (
    Happening,
    HistoryEntry,
    Phase,
    SimulatedDomain,
    SimulatedMigration,
)


class Moment:
    """See the module. Only valid inside the transaction that made it."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self.now = now

    # ------------------------------------------------------------------------------------------- what is

    def host_exists(self, node: str) -> bool:
        return self._one("SELECT 1 FROM hosts WHERE node = ?", node) is not None

    def is_away(self, node: str) -> bool:
        row = self._one("SELECT is_away FROM hosts WHERE node = ?", node)
        return row is not None and bool(row["is_away"])

    def load_1m(self, node: str) -> float | None:
        """The load that `set_load` gave the host, if any."""
        row = self._one("SELECT load_1m FROM hosts WHERE node = ?", node)
        return None if row is None else row["load_1m"]

    def domain(self, node: str, uuid: str) -> SimulatedDomain | None:
        row = self._one("SELECT * FROM domains WHERE node = ? AND uuid = ?", node, uuid)
        return None if row is None else _domain(row)

    def domains(self, *, node: str | None = None, uuid: str | None = None) -> list[SimulatedDomain]:
        """The active domains, of one host or of one VM if so asked, by name."""
        rows = self._connection.execute(
            "SELECT * FROM domains WHERE (? IS NULL OR node = ?) AND (? IS NULL OR uuid = ?) ORDER BY name, node",
            (node, node, uuid, uuid),
        )
        return [_domain(row) for row in rows]

    def migration(self, migration_id: int) -> SimulatedMigration | None:
        row = self._one("SELECT * FROM migrations WHERE id = ?", migration_id)
        return None if row is None else SimulatedMigration(**row)

    def migrations(self) -> list[SimulatedMigration]:
        """Those under way."""
        rows = self._connection.execute("SELECT * FROM migrations WHERE outcome IS NULL ORDER BY id")
        return [SimulatedMigration(**row) for row in rows]

    def migration_of(self, uuid: str, source: str) -> SimulatedMigration | None:
        """The one that takes this VM away from `source` now."""
        return next((each for each in self.migrations() if (each.uuid, each.source) == (uuid, source)), None)

    def history(self, *, after: int = 0, node: str | None = None) -> list[HistoryEntry]:
        rows = self._connection.execute(
            "SELECT * FROM history WHERE number > ? AND (? IS NULL OR node = ?) ORDER BY number", (after, node, node)
        )
        return [HistoryEntry(**{**dict(row), "kind": Happening(row["kind"])}) for row in rows]

    def last_history_number(self) -> int:
        row = self._one("SELECT MAX(number) AS number FROM history")
        return 0 if row is None or row["number"] is None else int(row["number"])

    # ------------------------------------------------------------------------------------- what happens

    def record(self, node: str, uuid: str, name: str, kind: Happening, detail: str = "") -> None:
        self._run(
            "INSERT INTO history (at_s, node, uuid, name, kind, detail) VALUES (?, ?, ?, ?, ?, ?)",
            *(self.now, node, uuid, name, kind, detail),
        )

    def add_host(self, node: str) -> None:
        self._run("INSERT OR IGNORE INTO hosts (node) VALUES (?)", node)

    def set_load(self, node: str, load_1m: float | None) -> None:
        self._run("UPDATE hosts SET load_1m = ? WHERE node = ?", load_1m, node)

    def set_away(self, node: str, is_away: bool) -> None:
        """Take the host's hypervisor away, which ends migrations from and to it, or bring it back. Guests run on."""
        if is_away == self.is_away(node):
            return
        if is_away:
            self._run("DELETE FROM secrets WHERE node = ?", node)
            for migration in self.migrations():
                if node in (migration.source, migration.target):
                    self.fail_migration(migration, f"the connection to the hypervisor of {node} was lost")
        self._run("UPDATE hosts SET is_away = ? WHERE node = ?", int(is_away), node)
        self.record(node, "", "", Happening.HOST_AWAY if is_away else Happening.HOST_BACK)

    def keep_secret(self, node: str, uuid: str, kind: str, name: str) -> None:
        """The host's hypervisor knows this secret from now on; one with the same UUID or name is forgotten."""
        self._run("DELETE FROM secrets WHERE node = ? AND kind = ? AND name = ?", node, kind, name)
        self._run("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)", node, uuid, kind, name)

    def secrets(self, node: str) -> list[str]:
        """The UUIDs of the secrets that the host's hypervisor knows."""
        return [str(row["uuid"]) for row in self._run("SELECT uuid FROM secrets WHERE node = ? ORDER BY uuid", node)]

    def count_failure(self, uuid: str, kind: str) -> int:
        """How often this has failed for the VM, this time included."""
        self._run(
            "INSERT INTO failures VALUES (?, ?, 1) ON CONFLICT (uuid, kind) DO UPDATE SET count = count + 1",
            *(uuid, kind),
        )
        return self.failure_count(uuid, kind)

    def failure_count(self, uuid: str, kind: str) -> int:
        row = self._one("SELECT count FROM failures WHERE uuid = ? AND kind = ?", uuid, kind)
        return 0 if row is None else int(row["count"])

    def put(self, domain: SimulatedDomain, kind: Happening, detail: str = "") -> None:
        """Make a domain active on its host, or give it a new phase there, and note when it is on two hosts."""
        names = SimulatedDomain.__slots__
        self._run(
            f"INSERT OR REPLACE INTO domains ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            *(getattr(domain, name) for name in names),
        )
        self.record(domain.node, domain.uuid, domain.name, kind, detail)
        if domain.phase is Phase.INCOMING:
            return
        for other in self.domains(uuid=domain.uuid):
            if other.node != domain.node and other.phase is not Phase.INCOMING:
                self.record(domain.node, domain.uuid, domain.name, Happening.ON_TWO_NODES, other.node)

    def end(self, domain: SimulatedDomain, kind: Happening, detail: str = "") -> None:
        """The domain is no longer active on its host; a migration of it ends with it."""
        for migration in self.migrations():
            if migration.uuid == domain.uuid and domain.node in (migration.source, migration.target):
                self.fail_migration(migration, f"the domain ended on {domain.node} during its migration")
        self._remove(domain)
        self.record(domain.node, domain.uuid, domain.name, kind, detail)

    def ask_shutdown(self, domain: SimulatedDomain, powers_off_at: float | None) -> None:
        """The guest was asked; None: it will not do it. Asking again does not make it slower."""
        self.record(domain.node, domain.uuid, domain.name, Happening.SHUTDOWN_ASKED)
        if powers_off_at is not None and domain.powers_off_at is None:
            self._run(
                "UPDATE domains SET powers_off_at = ? WHERE node = ? AND uuid = ?",
                *(powers_off_at, domain.node, domain.uuid),
            )

    def begin_migration(self, domain: SimulatedDomain, target: str, arrives_at: float, fails_at: float | None) -> int:
        """Start the move; the target has a paused copy from now on. Returns the migration's ID."""
        self.put(replace(domain, node=target, phase=Phase.INCOMING), Happening.MIGRATION_BEGAN, f"from {domain.node}")
        self.record(domain.node, domain.uuid, domain.name, Happening.MIGRATION_BEGAN, f"to {target}")
        inserted = self._run(
            "INSERT INTO migrations (uuid, source, target, began_at, arrives_at, fails_at) VALUES (?, ?, ?, ?, ?, ?)",
            *(domain.uuid, domain.node, target, self.now, arrives_at, fails_at),
        )
        if inserted.lastrowid is None:
            raise HypervisorError("the simulated world gave a migration no ID")
        return inserted.lastrowid

    def fail_migration(self, migration: SimulatedMigration, reason: str) -> None:
        """It ends without success: the copy on the target goes, the original runs on."""
        self._settle(migration, reason)
        copy = self.domain(migration.target, migration.uuid)
        if copy is not None and copy.phase is Phase.INCOMING:
            self._remove(copy)
            self.record(copy.node, copy.uuid, copy.name, Happening.MIGRATION_FAILED, reason)
        original = self.domain(migration.source, migration.uuid)
        if original is not None:
            self.record(original.node, original.uuid, original.name, Happening.MIGRATION_FAILED, reason)

    def _arrive(self, migration: SimulatedMigration) -> None:
        """The switch-over: gone there and running here in one instant, the guest noticing nothing."""
        original = self.domain(migration.source, migration.uuid)
        if original is None:
            self.fail_migration(migration, "the domain is gone")
            return
        self._settle(migration, "")
        self._remove(original)
        self.record(original.node, original.uuid, original.name, Happening.LEFT, f"to {migration.target}")
        self.put(replace(original, node=migration.target), Happening.ARRIVED, f"from {migration.source}")

    def _settle(self, migration: SimulatedMigration, outcome: str) -> None:
        self._run("UPDATE migrations SET outcome = ? WHERE id = ?", outcome, migration.id)

    # ----------------------------------------------------------------------------------------- what is due

    def next_due_at(self) -> float | None:
        """When the world changes next by itself."""
        return min((at for at, _, _ in self._due()), default=None)

    def catch_up(self) -> None:
        """Let everything happen that was due by now, each at its own time."""
        until = self.now
        while due := [each for each in self._due() if each[0] <= until]:
            at, happening, subject = min(due, key=lambda each: each[0])
            self.now = at
            self._happen(happening, subject)
        self.now = until

    def _due(self) -> list[tuple[float, Happening, SimulatedDomain | SimulatedMigration]]:
        rows = self._connection.execute(
            "SELECT * FROM domains WHERE runs_at IS NOT NULL OR powers_off_at IS NOT NULL OR crashes_at IS NOT NULL"
        )
        due: list[tuple[float, Happening, SimulatedDomain | SimulatedMigration]] = []
        for domain in map(_domain, rows):
            if domain.phase is Phase.INCOMING:
                continue  # its clock is the original's
            times = (
                (domain.runs_at, Happening.BOOTED),
                (domain.powers_off_at, Happening.POWERED_OFF),
                (domain.crashes_at, Happening.CRASHED),
            )
            due += [(at, happening, domain) for at, happening in times if at is not None]
        for migration in self.migrations():
            due.append((migration.arrives_at, Happening.ARRIVED, migration))
            if migration.fails_at is not None:
                due.append((migration.fails_at, Happening.MIGRATION_FAILED, migration))
        return due

    def _happen(self, happening: Happening, subject: SimulatedDomain | SimulatedMigration) -> None:
        if isinstance(subject, SimulatedMigration):
            if happening is Happening.ARRIVED:
                self._arrive(subject)
            else:
                self.fail_migration(subject, "simulated migration failure")
        elif happening is Happening.BOOTED:
            self.put(replace(subject, phase=Phase.RUNNING, runs_at=None), happening)
        else:
            self.end(subject, happening)

    # ----------------------------------------------------------------------------------------- the tables

    def _remove(self, domain: SimulatedDomain) -> None:
        self._run("DELETE FROM domains WHERE node = ? AND uuid = ?", domain.node, domain.uuid)

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def _one(self, statement: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
        return row


def _domain(row: sqlite3.Row) -> SimulatedDomain:
    return SimulatedDomain(**{**dict(row), "phase": Phase(row["phase"])})
