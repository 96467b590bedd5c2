# SPDX-License-Identifier: Apache-2.0
"""embedded_pulse: looks whether anything happened when the bell rings, and four times a second in any case.

What can have happened: somebody wrote, the file is gone or back, a session's process died. SQLite has no
notifications between processes; its `data_version` tells for a few microseconds whether there is anything new,
and only then the list of changes is read.
"""

from __future__ import annotations

import threading
import time

import structlog

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import SessionState
from pvc_core.store_listening import SessionStates
from pvc_core.store_watching import WatchEngine
from pvc_plugins.stores.embedded_database import Database
from pvc_plugins.stores.embedded_session import EmbeddedSession
from pvc_plugins.stores.embedded_tables import changes_after, newest_stamp

log = structlog.get_logger(__name__)

INTERVAL_S = 0.25


class Pulse:
    """A thread that keeps session state and watches true to the file."""

    def __init__(
        self, database: Database, session: EmbeddedSession, states: SessionStates, engine: WatchEngine
    ) -> None:
        self._database = database
        self._session = session
        self._states = states
        self._engine = engine
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._stamp = 0
        self._data_version = -1
        self._sessions_due_s = 0.0

    def start(self) -> None:
        """Begin; changes from now on are reported. Raises `StoreUnavailable`."""
        with self._database.watching() as connection:
            self._stamp = newest_stamp(connection)
        self._thread = threading.Thread(target=self._run, name="pvc-store-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._session.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            self._session.wait_for_bell(INTERVAL_S)
            try:
                self._look()
            except StoreUnavailable as error:
                if self._states.state is SessionState.CONNECTED:
                    log.warning("store_suspended", problem=error.problem)
                    self._states.change(SessionState.SUSPENDED)
            except Exception:
                log.exception("store_pulse_failed")

    def _look(self) -> None:
        if self._states.state is SessionState.CONNECTED:
            moved = self._report_changes()
            if moved and not self._session.is_alive():
                self._states.change(SessionState.LOST)
        if self._states.state is not SessionState.CONNECTED:
            self._reconnect()
        if time.monotonic() >= self._sessions_due_s:
            self._sessions_due_s = time.monotonic() + INTERVAL_S
            self._session.end_dead_sessions()

    def _report_changes(self) -> bool:
        """Report what was written since the last time. Returns whether anything was."""
        with self._database.watching() as connection:
            (data_version,) = connection.execute("PRAGMA data_version").fetchone()
            if data_version == self._data_version:
                return False
            changes = list(changes_after(connection, self._stamp))
        self._data_version = data_version
        if changes and changes[0][0] != self._stamp + 1:  # some are not listed any more
            self._engine.everything_changed()
        else:
            for key in dict.fromkeys(key for _, key in changes):
                self._engine.key_changed(key)
        if changes:
            self._stamp = changes[-1][0]
        return True

    def _reconnect(self) -> None:
        """Open the file again if it was away; go on with the session, or begin another if it is over."""
        self._database.open(create=False)
        if self._states.state is SessionState.SUSPENDED and not self._session.is_alive():
            self._states.change(SessionState.LOST)
        if self._states.state is SessionState.LOST:
            self._session.begin()
        with self._database.watching() as connection:
            self._stamp = newest_stamp(connection)
        self._data_version = -1
        self._states.change(SessionState.CONNECTED)
        self._engine.everything_changed()
