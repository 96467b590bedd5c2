# SPDX-License-Identifier: Apache-2.0
"""event_stream: events as they are written, as a server-sent stream, for a bounded number of readers.

A stream holds one of the few threads of its worker, so it takes one of the `Waiter`'s slots, and all streams together
take at most half of them. The streams of a process share their looks at the store.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from pvc_api.problems import TooManyStreams
from pvc_api.waiting import Waiter
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import StoreUnavailable
from pvc_core.event_log import EventLog, EventPage, Wanted
from pvc_core.ports import Clock

EVENT_STREAM = "text/event-stream"

LOOK_EVERY_S = 0.5
LOOK_WHEN_QUIET_EVERY_S = 3.0
"""How often to look while nothing else changes in the cluster: few events come alone."""
HEARTBEAT_S = 15.0
RECONNECT_MS = 2000
ALL = 100_000

_GREETING = f": events follow\nretry: {RECONNECT_MS}\n\n".encode()
_HEARTBEAT = b": nothing new\n\n"


class EventTail:
    """The end of the log, looked at once for all streams of this process. Thread-safe."""

    def __init__(self, events: EventLog, view: ClusterView, waiter: Waiter, clock: Clock) -> None:
        self.events = events
        self.waiter = waiter
        self.clock = clock
        self._view = view
        self._limit = max(1, waiter.slots // 2)
        self._lock = threading.Lock()
        self._streams = 0
        self._looking = threading.Lock()
        self._ids: tuple[str, ...] = ()
        self._looked_at_s = float("-inf")
        self._seen_generation = -1

    def open(self, wanted: Wanted, since: str | None, limit: int) -> EventStream:
        """A stream that begins with what is after the event `since`, or with the last `limit` events if it is None.

        Whoever gets it closes it. Raises `TooManyStreams`, `StoreUnavailable`.
        """
        self._take_slot()
        try:
            ids = self.look(now=True)
            first = self._first(ids, wanted, since, limit)
        except BaseException:
            self.give_back()
            raise
        return EventStream(self, wanted, ids, first)

    def _first(self, ids: Sequence[str], wanted: Wanted, since: str | None, limit: int) -> EventPage:
        if since is not None:
            return self.events.last(ALL, wanted, since, ids)
        return self.events.last(limit, wanted, ids=ids) if limit else EventPage(())

    def look(self, now: bool = False) -> tuple[str, ...]:
        """The ids of all events, as of a moment ago. Raises `StoreUnavailable`."""
        with self._looking:
            age_s = self.clock.monotonic_s() - self._looked_at_s
            generation = self._view.generation
            pause_s = LOOK_WHEN_QUIET_EVERY_S if generation == self._seen_generation else LOOK_EVERY_S
            if now or age_s >= pause_s:
                self._ids = self.events.ids()
                self._looked_at_s = self.clock.monotonic_s()
                self._seen_generation = generation
            return self._ids

    def _take_slot(self) -> None:
        with self._lock:
            if self._streams >= self._limit or not self.waiter.take_slot():
                raise TooManyStreams(self._limit)
            self._streams += 1

    def give_back(self) -> None:
        """One stream less."""
        with self._lock:
            self._streams -= 1
        self.waiter.give_back_slot()


class EventStream:
    """One reader's stream, as an iterable of chunks that a WSGI server closes. It ends when the process is to stop."""

    def __init__(self, tail: EventTail, wanted: Wanted, seen: Sequence[str], first: EventPage) -> None:
        self._tail = tail
        self._wanted = wanted
        self._seen = frozenset(seen)
        self._last_look: Sequence[str] = seen
        self._frames: deque[bytes] = deque([_GREETING, *_frames_of(first)])
        self._sent_at_s = tail.clock.monotonic_s()
        self._is_open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while self._is_open and not self._tail.waiter.is_stopping:
            if not self._frames:
                self._frames.extend(self._news())
            now_s = self._tail.clock.monotonic_s()
            if self._frames or now_s >= self._sent_at_s + HEARTBEAT_S:
                self._sent_at_s = now_s
                return self._frames.popleft() if self._frames else _HEARTBEAT
            self._tail.waiter.pause(LOOK_EVERY_S)
        raise StopIteration

    def close(self) -> None:
        """The reader is gone. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._tail.give_back()

    def _news(self) -> list[bytes]:
        """What has been written since, by id, whichever order it came in."""
        try:
            ids = self._tail.look()
            if ids is self._last_look:
                return []
            page = self._tail.events.read([identity for identity in ids if identity not in self._seen])
        except StoreUnavailable:
            return []  # it goes on from what was seen
        self._seen, self._last_look = frozenset(ids), ids
        events = tuple(event for event in page.events if self._wanted(event))
        return _frames_of(EventPage(events, page.broken))


def _frames_of(page: EventPage) -> list[bytes]:
    frames = [f": {broken.sentence()}".replace("\n", " ").encode() + b"\n\n" for broken in page.broken]
    return frames + [
        b"id: " + event.id.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n" for event in page.events
    ]
