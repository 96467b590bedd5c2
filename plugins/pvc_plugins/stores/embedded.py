# SPDX-License-Identifier: Apache-2.0
"""embedded: the store without a server: an SQLite file for one machine, `sqlite:///path?options`.

The same contract as the cluster's store, for any number of processes of one host: versions, transactions,
ephemerals that end with their process, watches. Durable: a transaction that returned survives a power failure
(with `synchronous=normal`, only the death of processes). Not for network file systems.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pvc_core.errors import Conflict, InvalidInput, StoreUnavailable
from pvc_core.layout import name_in
from pvc_core.ports import Create, Entry, Op, SessionState, Subscription
from pvc_core.store_keys import check_key, check_ops, check_parent, with_parents
from pvc_core.store_listening import SessionStates
from pvc_core.store_renaming import check_names, rename_ops
from pvc_core.store_watching import Stamped, WatchEngine
from pvc_plugins.stores.embedded_database import Database
from pvc_plugins.stores.embedded_pulse import Pulse
from pvc_plugins.stores.embedded_session import EmbeddedSession
from pvc_plugins.stores.embedded_tables import apply, child_keys, entries, session_exists, subtree
from pvc_plugins.stores.url import parse_url, typed_options

SCHEME = "sqlite"


class SqliteOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options after `?`, with their defaults."""

    request_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 10.0
    synchronous: Literal["full", "normal"] = "full"


class SqliteStore:
    """A session with the store in one file. Implements `pvc_core.ports.ClusterStore`."""

    def __init__(self, url: str) -> None:
        """Does not open the file yet. Raises `InvalidInput` for a URL that cannot be one."""
        parts = parse_url(url, SCHEME)
        if parts.authority or not parts.path.strip("/"):
            raise InvalidInput("store", "needs an absolute path", allowed=("sqlite:///var/lib/pvc/store.db",))
        options = typed_options(parts, SqliteOptions)
        path = Path("/", parts.path.lstrip("/"))
        self._database = Database(path, options.request_timeout_s, options.synchronous)
        self._states = SessionStates()
        self._session = EmbeddedSession(self._database)
        self._engine = WatchEngine(self)
        self._pulse = Pulse(self._database, self._session, self._states, self._engine)
        self._life = threading.Lock()
        self._is_started = False
        self._is_closed = False

    def start(self) -> None:
        with self._life:
            if self._is_closed:
                raise StoreUnavailable("the store has been closed")
            if self._is_started:
                return
            try:
                self._database.open(create=True)
                self._session.end_dead_sessions()
                self._session.begin()
            except StoreUnavailable:
                self._database.close()
                raise
            self._states.start()
            self._states.change(SessionState.CONNECTED)
            self._pulse.start()
            self._engine.start()
            self._is_started = True

    def close(self) -> None:
        with self._life:
            was_running, self._is_closed = self._is_started and not self._is_closed, True
        if was_running:
            self._pulse.stop()
            self._session.end()
            self._states.close()
            self._engine.close()
            self._database.close()

    @property
    def session_state(self) -> SessionState:
        return self._states.state

    @property
    def session_id(self) -> str:
        return self._session.session_id

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return self._states.add_listener(listener)

    def expire_session(self, session_id: str) -> None:
        """End any session as if its process had died: for tests, and for a process that hangs."""
        self._check_connected()
        self._session.expire(session_id)

    def ensure(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        wanted = with_parents(keys)
        there = self.get_many(wanted)
        if len(there) == len(wanted):
            return
        with self._writing() as (connection, session_id):
            there_now = entries(connection, wanted)
            for key in wanted:
                if key not in there_now:
                    apply(connection, Create(key, b""), session_id)

    def get(self, key: str) -> Entry | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        for key in keys:
            check_key(key)
        self._check_connected()
        with self._database.reading() as connection:
            found = entries(connection, keys)
        return {key: found[key].entry for key in keys if key in found}

    def children(self, key: str) -> tuple[str, ...]:
        check_parent(key)
        self._check_connected()
        with self._database.reading() as connection:
            return tuple(name_in(child) for child in child_keys(connection, key))

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        check_ops(ops)
        with self._writing() as (connection, session_id):
            return tuple(apply(connection, op, session_id) for op in ops)

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        check_names(source, destination)
        with self._writing() as (connection, session_id):
            nodes = subtree(connection, source)
            if not nodes:
                raise Conflict(source, "does not exist")
            ops = rename_ops(nodes, source, destination, also, session_id)
            check_ops(ops)
            for op in ops:
                apply(connection, op, session_id)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        check_key(key)
        return self._engine.watch(key, listener)

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        check_parent(parent)
        return self._engine.mirror(parent, listener)

    # What the watch engine asks for. Nothing to arm: the pulse reports every change, and no replica lags.

    def read_key(self, key: str, fresh: bool) -> Stamped | None:
        return self.read_keys([key]).get(key)

    def read_keys(self, keys: Sequence[str]) -> Mapping[str, Stamped]:
        self._check_connected()
        with self._database.reading() as connection:
            return entries(connection, keys)

    def list_keys(self, parent: str, fresh: bool) -> Sequence[str]:
        self._check_connected()
        with self._database.reading() as connection:
            return child_keys(connection, parent)

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, str]]:
        """A write transaction of the session that is alive, with its ID."""
        self._check_connected()
        session_id = self.session_id
        with self._database.writing() as connection:
            if not session_exists(connection, session_id):
                raise StoreUnavailable("the session has expired")
            yield connection, session_id
        self._session.ring_all()

    def _check_connected(self) -> None:
        if self._is_closed or not self._is_started:
            raise StoreUnavailable("the store has been closed" if self._is_closed else "the store is not started")
        if self._states.state is not SessionState.CONNECTED:
            raise StoreUnavailable(f"the session is {self._states.state.value}")
