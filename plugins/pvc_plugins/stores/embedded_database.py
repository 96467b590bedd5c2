# SPDX-License-Identifier: Apache-2.0
"""embedded_database: the SQLite file: one connection to write, one to read, one to look for changes.

Write-ahead logging lets readers go on while another process writes. A file that was moved or replaced under
an open connection still answers, with what nobody else sees; so every use compares the file at the path with
the one that was opened. The path is never opened and closed by other means than SQLite: closing any descriptor
of a file drops the locks that this process holds on it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from pvc_core.errors import StoreUnavailable
from pvc_plugins.stores.embedded_tables import create_tables, tables_version

_BUSY_RETRY_S = 0.02


class _Connection:
    """A connection that one thread uses at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sqlite: sqlite3.Connection | None = None

    def replace(self, sqlite: sqlite3.Connection | None) -> None:
        with self.lock:
            old, self.sqlite = self.sqlite, sqlite
        if old is not None:
            old.close()


class Database:
    """One file, opened by one process. Every failure of SQLite or of the file is `StoreUnavailable`."""

    def __init__(self, path: Path, timeout_s: float, synchronous: str) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._synchronous = synchronous
        self._reader, self._writer, self._watcher = _Connection(), _Connection(), _Connection()
        self._identity: tuple[int, int] | None = None
        self._process_id = os.getpid()
        self.lock_folder = path
        """Where sessions keep their locks: beside the real file, so that all who reach it by any name find them."""

    def open(self, create: bool) -> None:
        """Connect; `create` makes a missing file and its folder. May be called again to connect anew."""
        self._identity = None
        try:
            if create:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            for connection in (self._writer, self._reader, self._watcher):
                connection.replace(self._connect(create))
            self.lock_folder = Path(f"{self._path.resolve()}-sessions")
            self._identity = self._identity_now()
            self._process_id = os.getpid()
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._identity = None
        for connection in (self._writer, self._reader, self._watcher):
            connection.replace(None)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection on which all reads see one state: the newest committed at the first read."""
        with self._transaction(self._reader, "BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else writes beside; committed at the end, rolled back by an exception."""
        with self._transaction(self._writer, "BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def watching(self) -> Iterator[sqlite3.Connection]:
        """The connection kept for looking for changes, outside any transaction."""
        with self._use(self._watcher) as connection:
            yield connection

    @contextmanager
    def _transaction(self, connection: _Connection, begin: str) -> Iterator[sqlite3.Connection]:
        with self._use(connection) as sqlite:
            sqlite.execute(begin)
            try:
                yield sqlite
                sqlite.execute("COMMIT")
            finally:
                if sqlite.in_transaction:
                    sqlite.execute("ROLLBACK")

    @contextmanager
    def _use(self, connection: _Connection) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._process_id:
            raise StoreUnavailable("it was opened by the process that this one was forked from")
        if not connection.lock.acquire(timeout=self._timeout_s):
            raise StoreUnavailable(f"{self._path}: another thread has been writing for {self._timeout_s:g} s")
        try:
            if connection.sqlite is None or self._identity is None or self._identity != self._identity_now():
                raise StoreUnavailable(f"{self._path}: not the file that was opened")
            yield connection.sqlite
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        finally:
            connection.lock.release()

    def _identity_now(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _connect(self, create: bool) -> sqlite3.Connection:
        """Connect and make sure of the tables. Another process may be doing the same: wait for it."""
        deadline_s = time.monotonic() + self._timeout_s
        is_new = create and not self._path.exists()
        while True:
            connection = None
            try:
                connection = sqlite3.connect(
                    f"file:{quote(str(self._path))}?mode={'rwc' if create else 'rw'}",
                    uri=True,
                    timeout=self._timeout_s,
                    isolation_level=None,  # transactions begin where the code says so
                    check_same_thread=False,  # `_Connection.lock` sees to it
                )
                if is_new:  # it will hold hashes of tokens; SQLite gives its side files the same mode
                    tables_version(connection)  # creates the file, still empty
                    self._path.chmod(0o600)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                create_tables(connection)
                return connection
            except sqlite3.Error as error:
                if connection is not None:
                    connection.close()
                busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= deadline_s:
                    raise StoreUnavailable(f"{self._path}: {error}") from error
            time.sleep(_BUSY_RETRY_S)
