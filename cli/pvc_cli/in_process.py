# SPDX-License-Identifier: Apache-2.0
"""in_process: HTTP to the application in this process, also with bodies that are larger than its memory.

httpx reads a request's body whole before it calls an application; here the application reads it as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class InProcessTransport(httpx.BaseTransport):
    """As httpx's own for WSGI, but for the body."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, answered by the application on this thread."""
        assert isinstance(request.stream, httpx.SyncByteStream)
        body = _Body(iter(request.stream))

        def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            return self._application({**environ, "wsgi.input": body}, start_response)

        without_body = httpx.Request(request.method, request.url, headers=request.headers)
        return httpx.WSGITransport(application).handle_request(without_body)


class _Body:
    """What a server calls `wsgi.input`, of an iterator over the bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._left) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left += piece
        end = len(self._left) if size < 0 else size
        data, self._left = self._left[:end], self._left[end:]
        return data
