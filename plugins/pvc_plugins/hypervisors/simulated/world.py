# SPDX-License-Identifier: Apache-2.0
"""world: the file that all simulated hosts share, and how it is read and changed.

A guest has no process. What it does is computed from times in the file whenever anybody looks, so guests run on,
boots end and migrations arrive while no daemon lives, as they do under a real hypervisor. Times are those of the
machine's monotonic clock, which all its processes share; when the machine has been restarted, all guests are gone.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pvc_core.errors import HypervisorError
from pvc_plugins.hypervisors.simulated.moment import Moment

FILE_NAME = "simulated-1.sqlite3"
"""The number is the version of the tables: another version is another world."""
_BUSY_TIMEOUT_S = 20.0
_KERNEL_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_TABLES = """
CREATE TABLE IF NOT EXISTS machine (boot_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS hosts (
    node TEXT PRIMARY KEY, is_away INTEGER NOT NULL DEFAULT 0, load_1m REAL);
CREATE TABLE IF NOT EXISTS domains (
    node TEXT NOT NULL, uuid TEXT NOT NULL, name TEXT NOT NULL, xml TEXT NOT NULL,
    memory_mib INTEGER NOT NULL, vcpus INTEGER NOT NULL,
    phase TEXT NOT NULL, boot_id TEXT NOT NULL, booted_at REAL NOT NULL,
    runs_at REAL, powers_off_at REAL, crashes_at REAL,
    is_frozen INTEGER NOT NULL DEFAULT 0, is_suspended INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node, uuid));
CREATE TABLE IF NOT EXISTS migrations (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    began_at REAL NOT NULL, arrives_at REAL NOT NULL, fails_at REAL, outcome TEXT);
CREATE INDEX IF NOT EXISTS running_migrations ON migrations (outcome) WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS failures (
    uuid TEXT NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (uuid, kind));
CREATE TABLE IF NOT EXISTS secrets (
    node TEXT NOT NULL, uuid TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (node, uuid));
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, at_s REAL NOT NULL, node TEXT NOT NULL, uuid TEXT NOT NULL, name TEXT NOT NULL,
    kind TEXT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS history_of_node ON history (node, number);
"""


class World:
    """One connection to the file; thread-safe. Open several where one thread must not wait for another."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._using = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the world, and create it where there is none."""
        with self._using:
            if self._connection is None:
                with _as_hypervisor_error():
                    self._connection = _open(self._folder)

    def close(self) -> None:
        with self._using:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextmanager
    def changing(self) -> Iterator[Moment]:
        """The world as it is now, to be changed: all of it, or nothing when the block raises."""
        with self._using, _as_hypervisor_error():
            connection = self._open_connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                moment = Moment(connection, self._clock())
                moment.catch_up()
                yield moment
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def looking(self) -> Iterator[Moment]:
        """The world as it is now. Takes the file's write lock only when something has become due."""
        with self._using, _as_hypervisor_error():
            connection = self._open_connection()
            connection.execute("BEGIN")
            try:
                moment = Moment(connection, self._clock())
                due_at = moment.next_due_at()
                if due_at is not None and due_at <= moment.now:
                    connection.rollback()  # a read transaction that others overtook could not be upgraded
                    connection.execute("BEGIN IMMEDIATE")
                    moment = Moment(connection, self._clock())
                    moment.catch_up()
                yield moment
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def change_count(self) -> int:
        """Another number whenever another connection has changed the file; costs microseconds."""
        with self._using, _as_hypervisor_error():
            return int(self._open_connection().execute("PRAGMA data_version").fetchone()[0])

    def now(self) -> float:
        return self._clock()

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise HypervisorError("the simulated hypervisor is closed", connection_lost=True)
        return self._connection


def _open(folder: Path) -> sqlite3.Connection:
    """The file, made ready by one process at a time: SQLite does not wait for another that changes its journal mode."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "opening.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make_ready(folder)


def _make_ready(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        folder / FILE_NAME, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # survives killed processes; a power failure ends all guests anyway
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    _forget_guests_of_an_earlier_boot(connection)
    connection.execute("COMMIT")
    return connection


def _forget_guests_of_an_earlier_boot(connection: sqlite3.Connection) -> None:
    boot_id = _KERNEL_BOOT_ID.read_text().strip() if _KERNEL_BOOT_ID.exists() else ""
    known = connection.execute("SELECT boot_id FROM machine").fetchone()
    if known is not None and known["boot_id"] == boot_id:
        return
    connection.execute("DELETE FROM machine")
    connection.execute("INSERT INTO machine VALUES (?)", (boot_id,))
    connection.execute("DELETE FROM domains")
    connection.execute("DELETE FROM secrets")
    connection.execute("UPDATE migrations SET outcome = 'the machine was restarted' WHERE outcome IS NULL")


@contextmanager
def _as_hypervisor_error() -> Iterator[None]:
    """The shared file stands for the hypervisor: when it cannot be used, the hypervisor does not answer."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise HypervisorError(f"the simulated world is not available: {error}", connection_lost=True) from error
