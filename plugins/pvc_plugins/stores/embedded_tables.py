# SPDX-License-Identifier: Apache-2.0
"""embedded_tables: the tables of the embedded store and every statement on them.

`nodes` is the tree. `changes` tells watchers which keys were written: each write takes the next stamp, which is
also the node's, so that no two writes of a key look alike. `sessions` lists the owners of ephemerals.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import Check, Create, Delete, Entry, Op, Set
from pvc_core.store_keys import ROOT, parent_of
from pvc_core.store_renaming import Node
from pvc_core.store_watching import Stamped

TABLES_VERSION = 1
CHANGES_KEPT = 20_000
"""Whoever has missed more reads everything again."""

_PRUNE_EVERY = 1_000
_KEYS_PER_SELECT = 500

_TABLES = (
    """CREATE TABLE nodes (key TEXT PRIMARY KEY, parent TEXT NOT NULL, data BLOB NOT NULL, version INTEGER NOT NULL,
       owner TEXT NOT NULL, stamp INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX nodes_by_parent ON nodes (parent)",
    "CREATE INDEX nodes_by_owner ON nodes (owner) WHERE owner != ''",
    "CREATE TABLE changes (stamp INTEGER PRIMARY KEY, key TEXT NOT NULL)",
    "CREATE TABLE sessions (id TEXT PRIMARY KEY, process_id INTEGER NOT NULL) WITHOUT ROWID",
    f"PRAGMA user_version = {TABLES_VERSION}",
)


def tables_version(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 when there are none yet."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def create_tables(connection: sqlite3.Connection) -> None:
    """Create what is missing. Raises `StoreUnavailable` when the file was made by another version of PVC."""
    if tables_version(connection) == TABLES_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = tables_version(connection)
        if version == 0:
            for statement in _TABLES:
                connection.execute(statement)
        elif version != TABLES_VERSION:
            raise StoreUnavailable(f"the file has tables of version {version}, this PVC needs {TABLES_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def entries(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Stamped]:
    """Those of the keys that exist."""
    found: dict[str, Stamped] = {}
    for start in range(0, len(keys), _KEYS_PER_SELECT):
        some = keys[start : start + _KEYS_PER_SELECT]
        marks = ",".join("?" * len(some))
        rows = connection.execute(f"SELECT key, data, version, stamp FROM nodes WHERE key IN ({marks})", some)
        found.update((key, Stamped(Entry(key, data, version), stamp)) for key, data, version, stamp in rows)
    return found


def child_keys(connection: sqlite3.Connection, parent: str) -> list[str]:
    """The keys of the children, sorted."""
    return [key for (key,) in connection.execute("SELECT key FROM nodes WHERE parent = ? ORDER BY key", (parent,))]


def subtree(connection: sqlite3.Connection, key: str) -> list[Node]:
    """The key and everything below it, parents first; empty when it does not exist."""
    rows = connection.execute(
        "SELECT key, data, version, owner FROM nodes WHERE key = ? OR key > ? AND key < ? ORDER BY key",
        (key, f"{key}/", f"{key}0"),  # '0' follows '/'
    )
    return sorted((Node(*row) for row in rows), key=lambda node: node.key.count("/"))


def apply(connection: sqlite3.Connection, op: Op, session_id: str) -> int:
    """Do one operation and return the key's version afterwards. Raises `Conflict` when it does not hold."""
    match op:
        case Create():
            _create(connection, op, session_id)
            return 0
        case Check():
            _check_version(connection, op.key, op.version)
            return op.version
        case Set():
            _check_version(connection, op.key, op.version)
            connection.execute(
                "UPDATE nodes SET data = ?, version = version + 1, stamp = ? WHERE key = ?",
                (op.data, _log_change(connection, op.key), op.key),
            )
            return op.version + 1
        case Delete():
            _check_version(connection, op.key, op.version)
            if connection.execute("SELECT 1 FROM nodes WHERE parent = ? LIMIT 1", (op.key,)).fetchone():
                raise Conflict(op.key, "has children")
            _delete(connection, op.key)
            return -1


def session_exists(connection: sqlite3.Connection, session_id: str) -> bool:
    return connection.execute("SELECT 1 FROM sessions WHERE id = ?", (session_id,)).fetchone() is not None


def session_ids(connection: sqlite3.Connection) -> list[str]:
    return [session_id for (session_id,) in connection.execute("SELECT id FROM sessions")]


def add_session(connection: sqlite3.Connection, session_id: str, process_id: int) -> None:
    connection.execute("INSERT INTO sessions VALUES (?, ?)", (session_id, process_id))


def drop_session(connection: sqlite3.Connection, session_id: str) -> None:
    """Forget the session and delete its ephemerals. Nothing happens when there is none."""
    owned = connection.execute("SELECT key FROM nodes WHERE owner = ? AND owner != ''", (session_id,)).fetchall()
    for (key,) in owned:
        _delete(connection, key)
    connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,))


def newest_stamp(connection: sqlite3.Connection) -> int:
    """The stamp of the last change; 0 before the first one."""
    (stamp,) = connection.execute("SELECT max(stamp) FROM changes").fetchone()
    return stamp or 0


def changes_after(connection: sqlite3.Connection, stamp: int) -> Iterator[tuple[int, str]]:
    """Stamps and keys of the changes that are still listed, oldest first."""
    yield from connection.execute("SELECT stamp, key FROM changes WHERE stamp > ? ORDER BY stamp", (stamp,))


def _create(connection: sqlite3.Connection, op: Create, session_id: str) -> None:
    parent = parent_of(op.key)
    if parent != ROOT:
        row = connection.execute("SELECT owner FROM nodes WHERE key = ?", (parent,)).fetchone()
        if row is None:
            raise Conflict(op.key, "has no parent")
        if row[0]:
            raise Conflict(op.key, "lies below an ephemeral key")
    if connection.execute("SELECT 1 FROM nodes WHERE key = ?", (op.key,)).fetchone():
        raise Conflict(op.key, "exists already")
    owner = session_id if op.ephemeral else ""
    values = (op.key, parent, op.data, 0, owner, _log_change(connection, op.key))
    connection.execute("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?)", values)


def _check_version(connection: sqlite3.Connection, key: str, version: int) -> None:
    row = connection.execute("SELECT version FROM nodes WHERE key = ?", (key,)).fetchone()
    if row is None:
        raise Conflict(key, "does not exist")
    if row[0] != version:
        raise Conflict(key, "changed since it was read")


def _delete(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("DELETE FROM nodes WHERE key = ?", (key,))
    _log_change(connection, key)


def _log_change(connection: sqlite3.Connection, key: str) -> int:
    stamp = connection.execute("INSERT INTO changes (key) VALUES (?)", (key,)).lastrowid
    assert stamp is not None  # an INSERT always has one
    if stamp % _PRUNE_EVERY == 0:
        connection.execute("DELETE FROM changes WHERE stamp <= ?", (stamp - CHANGES_KEPT,))
    return stamp
