# SPDX-License-Identifier: Apache-2.0
"""background_queue: what must not be waited for: it stands in a queue, and one thread handles it piece by piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pvc_core.ports import Thread, Threads

T = TypeVar("T")


class BackgroundQueue(Generic[T]):
    """Handles in order what is put into it. Thread-safe; the thread begins with the first piece.

    length: as many wait at most; then the oldest are dropped, and `on_dropped` is
    told how many before the next is handled.
    """

    def __init__(
        self,
        name: str,
        length: int,
        handle: Callable[[T], None],
        on_dropped: Callable[[int], None],
        threads: Threads,
    ) -> None:
        self._name = name
        self._handle = handle
        self._on_dropped = on_dropped
        self._threads = threads
        self._changed = threads.condition()
        self._waiting: deque[T] = deque(maxlen=length)
        self._dropped = 0
        self._thread: Thread | None = None
        self._closed = False

    @property
    def has_begun(self) -> bool:
        """Whether there is a thread for it."""
        return self._thread is not None

    def put(self, piece: T) -> None:
        """Have it handled soon. Returns at once; after `close` it is not handled."""
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) == self._waiting.maxlen:
                self._dropped += 1
            self._waiting.append(piece)
            if self._thread is None:
                self._thread = self._threads.start(self._name, self._run)
            self._changed.notify_all()

    def close(self, patience_s: float) -> None:
        """Handle what is waiting, as far as the time goes, and nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(patience_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                piece, dropped, self._dropped = self._waiting.popleft(), self._dropped, 0
            if dropped:
                self._on_dropped(dropped)
            self._handle(piece)
