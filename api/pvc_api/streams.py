# SPDX-License-Identifier: Apache-2.0
"""streams: bodies and answers that are bytes of any length, carried as they come and never held in memory.

Only methods that say so have them. Each holds a thread for as long as it lasts, so that a bounded number goes on at a
time; and one whose other side is silent for a minute is over.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import falcon

from pvc_api.media import is_chunked
from pvc_api.problems import BodyBrokenOff, TooManyStreams
from pvc_core.contributions import OCTETS
from pvc_core.errors import PvcError

SILENCE_S = 60.0
"""How long a client may neither send nor take anything."""
PIECE_BYTES = 2**20
STREAM_ATTRIBUTE = "pvc_takes_stream"
"""Where `documentation.documented` notes that a method's body is a stream."""


def takes_stream(resource: object, method: str) -> bool:
    """Whether a method's body has no limit, because it is read as it comes."""
    return bool(getattr(getattr(resource, f"on_{method.lower()}", None), STREAM_ATTRIBUTE, False))


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class StreamBody:
    """A body as a method reads it; implements `pvc_core.contributions.ApiStream`."""

    def __init__(self, source: _Source, length_bytes: int | None, is_stopping: Callable[[], bool]) -> None:
        self.length_bytes = length_bytes
        self.received_bytes = 0
        self.failure: PvcError | None = None
        self._source = source
        self._is_stopping = is_stopping

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes, and not all of it at once. Raises `BodyBrokenOff`."""
        if self.failure is None and self._is_stopping():
            self._fail("this process ends")
        if self.failure is not None:
            raise self.failure
        wanted = PIECE_BYTES if size < 0 else size
        if self.length_bytes is not None:
            wanted = min(wanted, self.length_bytes - self.received_bytes)
        if wanted == 0:
            return b""
        try:
            data = self._source.read(wanted)
        except TimeoutError as error:
            raise self._fail(f"nothing has come for {SILENCE_S:.0f} s") from error
        except OSError as error:
            raise self._fail(str(error) or type(error).__name__) from error
        if not data and self.length_bytes is not None:
            raise self._fail("the sender has ended it")
        self.received_bytes += len(data)
        return data

    def _fail(self, problem: str) -> PvcError:
        self.failure = BodyBrokenOff(self.received_bytes, self.length_bytes, problem)
        return self.failure


class StreamAnswer:
    """An answer as a WSGI server takes it, which closes it in the end, whatever that is."""

    def __init__(self, pieces: Any, req: falcon.Request, is_stopping: Callable[[], bool], on_close: ExitStack) -> None:
        self._pieces = pieces
        self._log = req.context.log
        self._is_stopping = is_stopping
        self._on_close = on_close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._is_stopping():
            raise ConnectionAbortedError(errno.EPIPE, "this process ends")
        try:
            return bytes(next(self._pieces))
        except PvcError as failure:  # it is too late for another answer: the connection breaks off
            self._log.error("answer_broken_off", problem=failure.sentence())
            raise

    def close(self) -> None:
        """It is over, or the reader is gone. Idempotent."""
        self._on_close.close()


class Streams:
    """The streams of one process. limit: how many there are at a time."""

    def __init__(self, limit: int, is_stopping: Callable[[], bool]) -> None:
        self._limit = limit
        self._is_stopping = is_stopping
        self._free = threading.BoundedSemaphore(limit)

    @contextmanager
    def taking(self, req: falcon.Request) -> Iterator[None]:
        """The body in `req.context.body` is read meanwhile. Raises what `BodyBrokenOff` says, also if nobody cared."""
        if (req.content_type or "").partition(";")[0].strip().lower() != OCTETS:
            raise falcon.HTTPUnsupportedMediaType(description=f"the body has to be {OCTETS}")
        length_bytes = None if is_chunked(req) else req.content_length
        if length_bytes is None and not is_chunked(req):
            raise falcon.HTTPLengthRequired(description="the body needs a Content-Length, or comes in chunks")
        with self._slot(req):
            req.context.body = body = StreamBody(req.env["wsgi.input"], length_bytes, self._is_stopping)
            yield
            if body.failure is not None:
                raise body.failure

    @contextmanager
    def giving(self, req: falcon.Request, resp: falcon.Response) -> Iterator[None]:
        """What `resp.stream` is set to meanwhile is given to the reader, and closed then."""
        with ExitStack() as stack:
            stack.enter_context(self._slot(req))
            yield
            pieces: Any = resp.stream
            if pieces is not None:
                stack.callback(pieces.close)
                resp.content_type = OCTETS
                resp.stream = StreamAnswer(pieces, req, self._is_stopping, stack.pop_all())

    @contextmanager
    def _slot(self, req: falcon.Request) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise TooManyStreams(self._limit, "contents are being sent or read")
        try:
            if (connection := req.env.get("gunicorn.socket")) is not None:
                connection.settimeout(SILENCE_S)  # the server sets it anew for the next request
            yield
        finally:
            self._free.release()
