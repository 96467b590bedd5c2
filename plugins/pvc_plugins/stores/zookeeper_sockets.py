# SPDX-License-Identifier: Apache-2.0
"""zookeeper_sockets: how kazoo connects and waits, where its own way is slow, stalls or leaks.

Waiting: kazoo builds and tears down an epoll object for every request and every answer; reading ten thousand
keys does that forty thousand times, a third of the whole cost. With TLS it looks at the TCP socket only and so
waits for more while the next answer, come in the same record, lies decrypted in the buffer.

Connecting: kazoo gives a server that does not answer as long as the whole session lives, so that the death of one
server of three costs healthy clients their sessions, and PVC would fence their nodes. Here the limits are such
that the others are tried in time. After a failed TLS handshake kazoo also leaves the socket open.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.handlers.threading import SequentialThreadingHandler

Ready = tuple[list[Any], list[Any], list[Any]]


class SocketHandler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's threading handler with other sockets; `tls` None means plain TCP."""

    def __init__(self, tls: ssl.SSLContext | None, connect_limit_s: float, answer_limit_s: Callable[[], float]) -> None:
        """At most `connect_limit_s` until a server accepts, then `answer_limit_s()` until it has welcomed us."""
        super().__init__()
        self._tls = tls
        self._connect_limit_s = connect_limit_s
        self._answer_limit_s = answer_limit_s
        self._is_welcome = False

    def create_connection(
        self, address: tuple[str, int], hostname: str | None = None, timeout: float = math.inf, **_: Any
    ) -> socket.socket:
        """Connect within `timeout` seconds. kazoo passes TLS options as well; the context has them already."""
        self._is_welcome = False
        connection = socket.create_connection(address, min(timeout, self._connect_limit_s))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(min(timeout, self._answer_limit_s()))
            return self._tls.wrap_socket(connection, server_hostname=hostname) if self._tls else connection
        except OSError:
            connection.close()
            raise

    def select(self, rlist: Sequence[Any], wlist: Sequence[Any], _xlist: Sequence[Any], timeout: float | None) -> Ready:
        """As `select.select`, without its limit on file descriptors; `timeout` in seconds."""
        if len(rlist) > 1:  # kazoo's main loop, which also waits for requests to send: the session stands
            self._is_welcome = True
        if not self._is_welcome:
            timeout = min(math.inf if timeout is None else timeout, self._answer_limit_s())
        waiting = select.poll()
        readers = {item.fileno(): item for item in rlist}
        writers = {item.fileno(): item for item in wlist}
        for descriptor in readers:
            waiting.register(descriptor, select.POLLIN)
        for descriptor in writers:
            waiting.register(descriptor, select.POLLOUT)
        ready = {fd for fd, item in readers.items() if isinstance(item, ssl.SSLSocket) and item.pending()}
        timeout_ms = 0 if ready else None if timeout is None else timeout * 1000
        ready.update(descriptor for descriptor, _ in waiting.poll(timeout_ms))
        return [readers[d] for d in readers if d in ready], [writers[d] for d in writers if d in ready], []
