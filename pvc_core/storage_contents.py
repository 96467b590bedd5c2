# SPDX-License-Identifier: Apache-2.0
"""storage_contents: what a volume holds, as a stream of bytes through the API, for every backend that moves contents.

Neither side is held in memory. A backend writes what a reader takes, piece by piece; a reader that goes away ends it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from pvc_core.contributions import ApiStream, api_method
from pvc_core.errors import PluginError, PvcError, Refused, StorageUnavailable
from pvc_core.plugin_threads import ask_here
from pvc_core.sizes import size_words
from pvc_core.storage import MovesContents, StorageCapability
from pvc_core.storage_answers import StorageVolumeOutcome
from pvc_core.storage_serving import NOT_HERE, NOT_SO, Served

SILENCE_S = 300.0
"""After which a backend that gives nothing is not waited for any more; its own calls end sooner."""


class VolumeContents(Served):
    """/pool/{pool}/volume/{volume}/contents"""

    @api_method("operator", None, problems=NOT_HERE)
    def on_get(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Read all that a volume holds, from its first byte to its last.

        Of a running VM, that is not what the disk held at any one moment: a clone of the volume is.
        """
        backend = self.moving(pool)
        size_bytes = self.backend().volume(pool, volume).size_bytes
        name = self._entry.plugin or self._entry.name

        def pour(target: BinaryIO) -> None:
            backend.download_volume(pool, volume, target, lambda _: None)

        resp.stream = PouredBytes(name, pour, size_bytes)
        resp.content_length = size_bytes

    @api_method("operator", StorageVolumeOutcome, takes_stream=True, problems=NOT_SO)
    def on_put(self, req: Any, resp: Any, pool: str, volume: str) -> None:
        """Fill a volume from its beginning with the body's bytes, which are what the guest will read.

        Refused while somebody has it open, its VM runs, or it is being made or removed. If the body breaks off, nothing
        that the volume holds can be relied on until it has been filled again.
        """
        backend, body = self.moving(pool), cast(ApiStream, req.context.body)
        size_bytes = self.backend().volume(pool, volume).size_bytes
        self.check_fillable(pool, volume)
        if body.length_bytes is not None and body.length_bytes > size_bytes:
            raise Refused(f"volume {volume}", f"holds {size_bytes} bytes, and {body.length_bytes} are sent")
        written_bytes = [0]
        backend.upload_volume(
            pool, volume, cast(BinaryIO, body), lambda bytes_so_far: written_bytes.__setitem__(0, bytes_so_far)
        )
        reason = f"volume {volume} of pool {pool} is filled with {size_words(written_bytes[0])}"
        resp.media = self.outcome(req, pool, reason, volume)

    def moving(self, pool: str) -> MovesContents:
        """The backend as one that moves contents. Raises as `able`."""
        return cast(MovesContents, self.able(pool, StorageCapability.CONTENTS))


class PouredBytes:
    """What a backend writes into a file that it is given, as an iterator over it, at the pace of whoever reads.

    pour: writes all of it, on a thread of its own; a `PvcError` that it raises is raised here, before the first byte by
    the constructor. Whoever has one closes it, which ends the writing with an error.
    """

    def __init__(
        self, plugin: str, pour: Callable[[BinaryIO], None], size_bytes: int, silence_s: float = SILENCE_S
    ) -> None:
        self._plugin = plugin
        self._pour = pour
        self._size_bytes = size_bytes
        self._silence_s = silence_s
        self._changed = threading.Condition()
        self._piece = b""
        self._has_ended = self._is_closed = False
        self._failure: PvcError | None = None
        self._given_bytes = 0
        threading.Thread(target=self._run, name=f"contents of {plugin}", daemon=True).start()
        self._first: bytes | None = self._taken()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece, self._first = (self._taken() if self._first is None else self._first), None
        if not piece:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Nobody reads it any more. Idempotent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def put(self, data: bytes) -> None:
        """One more piece, once the one before it is taken. Raises `Refused` when nobody reads."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not self._piece)
            if self._is_closed:
                raise Refused("the contents", "are read by nobody any more")
            self._piece = data
            self._changed.notify_all()

    def _taken(self) -> bytes:
        """The next piece; none at the end. Raises what the backend raised, or for what it has not written."""
        with self._changed:
            came = self._changed.wait_for(lambda: bool(self._piece) or self._has_ended, self._silence_s)
            piece, self._piece = self._piece, b""
            self._changed.notify_all()
        if not came:
            self.close()
            raise StorageUnavailable(self._plugin, f"nothing has come for {self._silence_s:.0f} s")
        self._given_bytes += len(piece)
        if not piece and self._failure is not None:
            raise self._failure
        if self._given_bytes > self._size_bytes or (not piece and self._given_bytes < self._size_bytes):
            raise PluginError(self._plugin, f"gives other than the {self._size_bytes} bytes that the volume holds")
        return piece

    def _run(self) -> None:
        def poured() -> PvcError | None:
            try:
                self._pour(cast(BinaryIO, _Spout(self)))
            except PvcError as failure:
                return failure
            return None

        try:
            failure = ask_here(self._plugin, poured)
        except PluginError as error:
            failure = error
        with self._changed:
            self._failure, self._has_ended = failure, True
            self._changed.notify_all()


class _Spout(io.RawIOBase):
    """The file that a backend writes to."""

    def __init__(self, poured: PouredBytes) -> None:
        super().__init__()
        self._poured = poured

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if piece := bytes(data):
            self._poured.put(piece)
        return len(piece)
