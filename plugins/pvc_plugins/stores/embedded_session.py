# SPDX-License-Identifier: Apache-2.0
"""embedded_session: a session lives as long as its process holds a lock on a file, so a killed one ends soon.

The kernel releases the lock when the process is gone, however it went; heartbeats and process IDs would have to
guess (a stopped process, a reused ID, another PID namespace). Anybody who gets the lock knows that the owner is
dead. The lock belongs to the open file, which a forked child inherits: the child closes it at once.

The same file is a named pipe and so the session's bell: whoever has written rings all bells, and the others
look at once for what changed instead of asking the database every few milliseconds.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import uuid
import weakref
from contextlib import suppress
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
        self._file: _SessionFile | None = None
        self.session_id = ""

    def begin(self) -> None:
        """Begin a new session; the one before, if any, is over."""
        session_id = uuid.uuid4().hex
        file = _SessionFile(self._database.lock_folder / session_id)
        try:
            with self._database.writing() as connection:
                add_session(connection, session_id, os.getpid())
        except StoreUnavailable:
            file.release()
            raise
        old, self._file = self._file, file
        self.session_id = session_id
        if old is not None:
            old.release()

    def end(self) -> None:
        """Delete the ephemerals now. When the file is away, others do it as soon as they find the lock free."""
        try:
            self.expire(self.session_id)
        except StoreUnavailable as error:
            log.info("store_session_left_to_others", session_id=self.session_id, problem=error.problem)
        if self._file is not None:
            self._file.release()
            self._file = None

    def wait_for_bell(self, timeout_s: float) -> None:
        """Wait until somebody has written, or `ring` was called, or the time is over."""
        if self._file is not None:
            self._file.wait(timeout_s)

    def ring(self) -> None:
        """Ring the own bell."""
        if self._file is not None:
            self._file.ring()

    def ring_all(self) -> None:
        """Tell all sessions that something was written. One that cannot be told looks by itself a little later."""
        with suppress(FileNotFoundError), os.scandir(self._database.lock_folder) as files:
            for file in files:
                _ring_from_outside(file.path)

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
                log.info("store_session_found_dead", session_id=session_id)
                (self._database.lock_folder / session_id).unlink(missing_ok=True)

    def expire(self, session_id: str) -> None:
        """End any session, dead or alive."""
        with self._database.writing() as connection:
            drop_session(connection, session_id)
        self.ring_all()


class _SessionFile:
    """A named pipe, locked. Unlocked by `release`, or by the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor = -1
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.mkfifo(path, 0o600)
            # Open for writing too, or the pipe would be at its end whenever no other process has it open.
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise StoreUnavailable(f"{path}: {error.strerror}") from error
        self._bell = select.poll()
        self._bell.register(self._descriptor, select.POLLIN)
        _files.add(self)

    def wait(self, timeout_s: float) -> None:
        if self._bell.poll(timeout_s * 1000):
            with suppress(BlockingIOError):
                os.read(self._descriptor, select.PIPE_BUF)

    def ring(self) -> None:
        with self._lock, suppress(BlockingIOError):  # full: it rings already
            if self._descriptor >= 0:
                os.write(self._descriptor, b"!")

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        _files.discard(self)
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _ring_from_outside(path: str) -> None:
    with suppress(OSError):  # gone, dead, or full and so ringing already
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"!")
        finally:
            os.close(descriptor)


def _owner_is_gone(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:  # cannot tell; ephemerals of a living process must stay
        log.warning("store_session_file_unreadable", path=str(path), problem=error.strerror)
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


# The only state of this module: fork(2) concerns the process, not one store.
_files: weakref.WeakSet[_SessionFile] = weakref.WeakSet()


def _close_in_forked_child() -> None:
    for file in list(_files):
        file.close()


os.register_at_fork(after_in_child=_close_in_forked_child)
