# SPDX-License-Identifier: Apache-2.0
"""connection: the connection that is kept for events and statistics, and made anew whenever it is lost.

Commands never use it. A libvirtd works on a few requests per connection at a time (`max_client_requests`, 5 by
default) and reads nothing more from a connection that has so many under way, keepalives included; five migrations
would make a host look dead. So every command has a connection of its own, which costs 1 to 2 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

from pvc_core.errors import HypervisorError
from pvc_plugins.hypervisors.libvirt_driver.bindings import (
    CONNECT_TIMEOUT_S,
    LibvirtConnection,
    as_hypervisor_error,
    is_alive,
    open_connection,
    release,
)

log = structlog.get_logger(__name__)

_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 5.0
_CHECK_INTERVAL_S = 5.0


class KeptConnection:
    """One connection to `uri` for as long as it takes.

    `prepare` is called with every new connection before anybody else gets it, and returns the event callbacks that
    it has registered; `ready` is called once the connection is in use. Both on the thread that connects.
    """

    def __init__(
        self, uri: str, prepare: Callable[[LibvirtConnection], Sequence[int]], ready: Callable[[], None], name: str
    ) -> None:
        self._uri = uri
        self._prepare = prepare
        self._ready = ready
        self._connection: LibvirtConnection | None = None
        self._wake = threading.Event()
        self._closing = False
        self._problem = "not connected yet"
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._problem = "closed"
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CONNECT_TIMEOUT_S)

    @property
    def is_connected(self) -> bool:
        connection = self._connection
        return connection is not None and is_alive(connection)

    def current(self) -> LibvirtConnection:
        """The connection; `HypervisorError` with `connection_lost` when there is none."""
        connection = self._connection
        if connection is None or not is_alive(connection):
            raise HypervisorError(f"no connection to {self._uri}: {self._problem}", connection_lost=True)
        return connection

    def _keep(self) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._closing:
            try:
                connection, registrations = self._connected()
            except HypervisorError as error:
                if error.reason != self._problem:
                    log.warning("hypervisor_not_reachable", uri=self._uri, problem=error.reason)
                    self._problem = error.reason
                self._wake.wait(retry_s)
                self._wake.clear()
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
                continue
            retry_s = _FIRST_RETRY_S
            self._use(connection)
            release(connection, registrations)

    def _connected(self) -> tuple[LibvirtConnection, Sequence[int]]:
        connection = open_connection(self._uri)
        try:
            with as_hypervisor_error(connection):
                registrations = self._prepare(connection)
                connection.registerCloseCallback(self._on_close, None)
        except HypervisorError:
            connection.close()
            raise
        return connection, registrations

    def _use(self, connection: LibvirtConnection) -> None:
        """Until it is lost or nobody wants it any more."""
        self._connection = connection
        log.info("hypervisor_connected", uri=self._uri)
        self._ready()
        while not self._closing and is_alive(connection):
            self._wake.wait(_CHECK_INTERVAL_S)
            self._wake.clear()
        self._connection = None
        if not self._closing:
            self._problem = "the connection was lost"
            log.warning("hypervisor_connection_lost", uri=self._uri)

    def _on_close(self, _connection: object, _reason: int, _opaque: None) -> None:
        self._wake.set()
