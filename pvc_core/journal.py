# SPDX-License-Identifier: Apache-2.0
"""journal: gives what happens an id, a time and an author, writes it with its change, and tells this process of it.

There is no counter that every writer would have to fight over: an id is the time in milliseconds, a number within
that millisecond and what tells this writer from all others.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from pvc_core import layout
from pvc_core.background_queue import BackgroundQueue
from pvc_core.codec import encode
from pvc_core.errors import PluginError, PvcError
from pvc_core.events import Event, EventKind, Happening, NodeChange, VmChange, event_of
from pvc_core.plugin_calls import log_failure
from pvc_core.ports import Clock, ClusterStore, Create, Op, Threads
from pvc_core.system_threads import SYSTEM_THREADS

log = structlog.get_logger(__name__)

PER_MS = 0x1000
FAILURE_PAUSE_S = 60.0
NOTES_WAITING = 200


@dataclass(frozen=True)
class Written:
    """An event, and the change of a record that it tells of, if any."""

    event: Event
    change: VmChange | NodeChange | None = None

    @property
    def op(self) -> Create:
        """What writes it."""
        return Create(layout.event(self.event.id), encode(self.event))


Listener = Callable[[Written], None]


def nobody() -> str:
    """The author of what has none."""
    return ""


class Journal:
    """Writes one author's events, or those of whoever `author` says is acting now. Thread-safe."""

    def __init__(self, clock: Clock, author: Callable[[], str] = nobody, writer: str = "") -> None:
        """`writer` tells this writer from all others in the ids; by default it is drawn by lot."""
        self._clock = clock
        self._author = author
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()  # nothing is waited for inside
        self._writer = writer or secrets.token_hex(4)
        self._last_ms = 0
        self._count = 0

    def listen(self, listener: Listener) -> None:
        """Call it after each commit, on the thread that made it; it must return at once and not raise."""
        self._listeners = (*self._listeners, listener)

    def written(self, happenings: Sequence[Happening]) -> tuple[Written, ...]:
        """The events to put into the transaction of the change, by their `op`."""
        if not happenings:
            return ()
        at, by = self._clock.utc_iso(), self._author()
        return tuple(Written(event_of(each, self._next_id(), at, by), each.change) for each in happenings)

    def commit(self, store: ClusterStore, ops: Sequence[Op], happenings: Sequence[Happening]) -> tuple[int, ...]:
        """One transaction of a change and its events, which then are told of; the versions that its `ops` have given.

        Raises `Conflict` and `StoreUnavailable`.
        """
        written = self.written(happenings)
        versions = store.transaction([*ops, *(each.op for each in written)])
        self.tell(written)
        return versions[: len(ops)]

    def note(self, store: ClusterStore, happening: Happening) -> Event:
        """Write an event of what is no change of a record, and tell of it. Raises `StoreUnavailable`."""
        (written,) = self.written((happening,))
        store.transaction([written.op])
        self.tell((written,))
        return written.event

    def tell(self, written: Sequence[Written]) -> None:
        """The transaction was made: these have happened."""
        for each in written:
            for listener in self._listeners:
                listener(each)

    def _next_id(self) -> str:
        with self._lock:
            now_ms = max(self._clock.utc_ms(), self._last_ms)
            self._count = self._count + 1 if now_ms == self._last_ms else 0
            if self._count == PER_MS:
                now_ms, self._count = now_ms + 1, 0
            self._last_ms = now_ms
            return f"{now_ms:013d}-{self._count:03x}{self._writer}"


class Notes:
    """Writes events of what is no change of a record, in the background and as well as it can. Thread-safe.

    A decision that a plugin failed in must not wait for the store, so this never blocks: with too many waiting, the
    oldest are dropped, and what cannot be written is in the log.
    """

    def __init__(self, store: ClusterStore, journal: Journal, clock: Clock, threads: Threads = SYSTEM_THREADS) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._queue = BackgroundQueue("notes", NOTES_WAITING, self._write, _log_dropped, threads)
        self._noting_failure = threads.lock()
        self._failed_at_s: dict[str, float] = {}

    def plugin_failed(self, failure: PluginError) -> None:
        """A plugin failed in a decision: log it, and write an event unless there was one within the last minute."""
        log_failure(failure)
        now_s = self._clock.monotonic_s()
        with self._noting_failure:
            if now_s - self._failed_at_s.get(failure.plugin, -FAILURE_PAUSE_S) < FAILURE_PAUSE_S:
                return
            self._failed_at_s[failure.plugin] = now_s
        self.note(Happening(EventKind.PLUGIN_FAILED, failure.sentence(), plugin=failure.plugin))

    def note(self, happening: Happening) -> None:
        """Write this soon. The author is whoever is acting now."""
        self._queue.put(self._journal.written((happening,)))

    def close(self, patience_s: float = 1.0) -> None:
        """Write what is waiting, if the store lets it within the time, and no more."""
        self._queue.close(patience_s)

    def _write(self, written: tuple[Written, ...]) -> None:
        try:
            self._store.transaction([each.op for each in written])
        except PvcError as error:
            kinds = [each.event.kind for each in written]
            log.warning("event_not_written", kinds=kinds, problem=error.sentence())
            return
        self._journal.tell(written)


def _log_dropped(count: int) -> None:
    log.warning("events_dropped", count=count)
