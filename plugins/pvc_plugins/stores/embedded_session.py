# SPDX-License-Identifier: Apache-2.0
"""embedded_session: a session lives as long as its process holds a lock on a file, so a killed one ends soon.

The kernel releases the lock when the process is gone, however it went; heartbeats and process IDs would have to
guess (a stopped process, a reused ID, another PID namespace). Anybody who gets the lock knows that the owner is
dead. The lock belongs to the open file, which a forked child inherits: the child closes it at once.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from pathlib import Path

import structlog

from pvc_core.errors import StoreUnavailable
from pvc_plugins.stores.embedded_database import Database
from pvc_plugins.stores.embedded_tables import add_session, drop_session, session_exists, session_ids

log = structlog.get_logger(__name__)


class EmbeddedSession:
    """This process's session in the database, and the end of those whose processes are gone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock: _SessionLock | None = None
        self.session_id = ""

    def begin(self) -> None:
        """Begin a new session; the one before, if any, is over."""
        session_id = uuid.uuid4().hex
        lock = _SessionLock(self._database.lock_folder / session_id)
        try:
            with self._database.writing() as connection:
                add_session(connection, session_id, os.getpid())
        except StoreUnavailable:
            lock.release()
            raise
        if self._lock is not None:
            self._lock.release()
        self._lock = lock
        self.session_id = session_id

    def end(self) -> None:
        """Delete the ephemerals now. When the file is away, others do it as soon as they find the lock free."""
        try:
            with self._database.writing() as connection:
                drop_session(connection, self.session_id)
        except StoreUnavailable as error:
            log.info("store_session_left_to_others", session_id=self.session_id, problem=error.problem)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def is_alive(self) -> bool:
        """Whether the database still knows this session."""
        with self._database.watching() as connection:
            return session_exists(connection, self.session_id)

    def end_dead_sessions(self) -> None:
        """Delete the ephemerals of sessions whose processes are gone."""
        with self._database.watching() as connection:
            others = [session_id for session_id in session_ids(connection) if session_id != self.session_id]
        for session_id in others:
            if _owner_is_gone(self._database.lock_folder / session_id):
                self.expire(session_id)
                (self._database.lock_folder / session_id).unlink(missing_ok=True)

    def expire(self, session_id: str) -> None:
        """End any session, dead or alive."""
        with self._database.writing() as connection:
            drop_session(connection, session_id)
        log.info("store_session_expired", session_id=session_id)


class _SessionLock:
    """A locked file. Released by `release`, or by the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = path.open("x")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}") from error
        _held_locks.add(self)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close_inherited()

    def close_inherited(self) -> None:
        _held_locks.discard(self)
        self._file.close()


def _owner_is_gone(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    except OSError as error:  # cannot tell; ephemerals of a living process must stay
        log.warning("store_session_lock_unreadable", path=str(path), problem=error.strerror)
        return False
    return True


# The only state of this module: fork(2) concerns the process, not one store.
_held_locks: weakref.WeakSet[_SessionLock] = weakref.WeakSet()


def _close_in_forked_child() -> None:
    for lock in list(_held_locks):
        lock.close_inherited()


os.register_at_fork(after_in_child=_close_in_forked_child)
