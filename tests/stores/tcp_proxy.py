# SPDX-License-Identifier: Apache-2.0
"""A cable between one client and a server that a test can cut, freeze and put right; with TLS on the client's end."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 65_536


class TcpProxy:
    """Listens on a free port of loopback and forwards to `target`. Given `tls`, clients have to speak that."""

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        with self._lock:
            self._is_cut = True
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _end(*pair)

    def mend(self) -> None:
        """Undo `cut` and `freeze`."""
        with self._lock:
            self._is_cut = False
        self._flows.set()

    def freeze(self) -> None:
        """Keep connections open and let nothing through."""
        self._flows.clear()

    def inject(self, data: bytes) -> None:
        """Send bytes to the clients as if the server had."""
        with self._lock:
            pairs = list(self._pairs)
        for client, _ in pairs:
            client.sendall(data)

    def close(self) -> None:
        self.cut()
        self._flows.set()
        _end(self._listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                refused = self._is_cut
                if not refused:
                    self._pairs.append((client, server))
            if refused:
                _end(client, server)
                continue
            self._spawn(self._pump, client, server)
            self._spawn(self._pump, server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # one of them was ended
            while data := source.recv(_CHUNK_BYTES):
                self._flows.wait()
                sink.sendall(data)
        _end(source, sink)

    def _spawn(self, target: object, *arguments: object) -> None:
        assert callable(target)
        threading.Thread(target=target, args=arguments, daemon=True).start()


def _end(*sockets: socket.socket) -> None:
    for item in sockets:
        with suppress(OSError):  # not connected any more
            item.shutdown(socket.SHUT_RDWR)
        item.close()
