# SPDX-License-Identifier: Apache-2.0
"""connection: bring a process's copy of the cluster up, now or as soon as the store answers.

A server that starts while the store is away answers 503 and tries again; nobody has to restart it.
"""

from __future__ import annotations

import threading

from pvc_api.services import Log
from pvc_api.tokens import TokenBook
from pvc_core import layout
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import StoreUnavailable
from pvc_core.ports import ClusterStore

RETRY_S = 1.0


class Connection:
    """The store's session with what is mirrored through it. `tokens` None: nobody logs in here."""

    def __init__(self, store: ClusterStore, view: ClusterView, tokens: TokenBook | None, log: Log) -> None:
        self._store = store
        self._view = view
        self._tokens = tokens
        self._log = log
        self._opened = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Connect and read everything once. Raises `StoreUnavailable`; then it may be called again."""
        self._store.start()
        try:
            self._store.ensure(layout.DIRECTORIES)
            self._view.start()
            if self._tokens is not None:
                self._tokens.start()
        except StoreUnavailable:
            self._stop_mirrors()
            raise
        self._opened.set()

    def open_when_possible(self, patience_s: float) -> None:
        """Go on trying in the background until it is open; returns when it is, or after `patience_s`."""
        self._thread = threading.Thread(target=self._keep_trying, name="pvc-api-connection", daemon=True)
        self._thread.start()
        self._opened.wait(patience_s)

    def close(self) -> None:
        """End the session. Idempotent."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(RETRY_S)
        self._stop_mirrors()
        self._store.close()

    def _keep_trying(self) -> None:
        while not self._closing.is_set():
            try:
                self.open()
            except StoreUnavailable as error:
                self._log.warning("waiting_for_store", problem=error.problem)
                self._closing.wait(RETRY_S)
            else:
                self._log.info("store_connected")
                return

    def _stop_mirrors(self) -> None:
        if self._tokens is not None:
            self._tokens.close()
        self._view.close()
