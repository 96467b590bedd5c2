# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on loopback that keeps what is posted to it and answers as a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from notify.told import PATIENCE_S, Arrivals


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content)
        return found


class HttpReceiver:
    """statuses: the answers in turn, 204 after the last. A status of 0 answers when `go_on` is set."""

    def __init__(self, *statuses: int, tls: ssl.SSLContext | None = None) -> None:
        self.arrivals = Arrivals()
        self.go_on = threading.Event()
        self._statuses = deque(statuses)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer._statuses.popleft() if outer._statuses else 204
                outer.arrivals.add(Posted(self.path, dict(self.headers), content))
                if not status:
                    outer.go_on.wait(PATIENCE_S)
                self.send_response(status or 204)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Somebody who hangs up is no news here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/hook/s3cr3t"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()
