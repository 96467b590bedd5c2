# SPDX-License-Identifier: Apache-2.0
"""event_log: reads events back, newest first where only some are wanted, and forgets the oldest.

Events are not mirrored: there may be thousands and nobody needs all of them. Reading takes one request for the ids
and a pipelined one for those events that this process has not read before; they never change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pvc_core import layout
from pvc_core.codec import decode
from pvc_core.errors import BrokenRecord, Conflict
from pvc_core.events import Event
from pvc_core.ports import Check, ClusterStore, Delete

Wanted = Callable[[Event], bool]

REMEMBERED = 4000
READ_AT_ONCE = 500
TRIMMED_AT_ONCE = 200
TRIM_SLACK = 0.05
"""The part of what is kept by which the log may grow beyond it before it is trimmed."""


@dataclass(frozen=True)
class EventPage:
    """Events, oldest first, and those that do not parse."""

    events: tuple[Event, ...]
    broken: tuple[BrokenRecord, ...] = ()


def any_event(event: Event) -> bool:
    """Every event is wanted."""
    return True


class EventLog:
    """The cluster's events. Thread-safe."""

    def __init__(self, store: ClusterStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[str, Event | BrokenRecord] = {}

    def ids(self) -> tuple[str, ...]:
        """The ids of all events, oldest first. One request."""
        return self._store.children(layout.EVENTS)

    def last(
        self, limit: int, wanted: Wanted = any_event, since: str = "", ids: Sequence[str] | None = None
    ) -> EventPage:
        """The last `limit` events that are wanted, of those after the event `since`. `ids`: all there are, if known."""
        ids = [identity for identity in (self.ids() if ids is None else ids) if identity > since]
        found: list[Event] = []
        broken: list[BrokenRecord] = []
        chunk = limit if wanted is any_event else READ_AT_ONCE
        while ids and len(found) < limit:
            ids, some = ids[:-chunk], ids[-chunk:]
            page = self.read(some)
            found = [*(event for event in page.events if wanted(event)), *found]
            broken = [*page.broken, *broken]
        return EventPage(tuple(found[max(0, len(found) - limit) :]), tuple(broken))

    def read(self, ids: Sequence[str]) -> EventPage:
        """These events, in this order; those that are gone meanwhile are left out."""
        with self._lock:
            found = {identity: self._known[identity] for identity in ids if identity in self._known}
        missing = [layout.event(identity) for identity in ids if identity not in found]
        entries = self._store.get_many(missing) if missing else {}
        for key, entry in entries.items():
            try:
                found[layout.name_in(key)] = decode(entry, Event).value
            except BrokenRecord as error:
                found[layout.name_in(key)] = error
        with self._lock:
            self._known.update(found)
            for identity in list(self._known)[: max(0, len(self._known) - REMEMBERED)]:
                del self._known[identity]
        read = [found[identity] for identity in ids if identity in found]
        return EventPage(
            tuple(each for each in read if isinstance(each, Event)),
            tuple(each for each in read if isinstance(each, BrokenRecord)),
        )

    def trim(self, kept: int, epoch: int) -> int:
        """Forget the oldest until `kept` are left, in transactions that hold while the leader's epoch is this.

        Not before there are some more than that, so that it is rarely done. How many were forgotten. Raises `Conflict`
        when the epoch is over.
        """
        ids = self.ids()
        if len(ids) <= kept * (1 + TRIM_SLACK):
            return 0
        old, forgotten = ids[: len(ids) - kept], 0
        for start in range(0, len(old), TRIMMED_AT_ONCE):
            some = old[start : start + TRIMMED_AT_ONCE]
            deletes = [Delete(layout.event(identity), 0) for identity in some]
            try:
                self._store.transaction([Check(layout.LEADER_EPOCH, epoch), *deletes])
            except Conflict as conflict:
                if conflict.key == layout.LEADER_EPOCH:
                    raise
                return forgotten  # somebody else forgets them too: the next round sees what is left
            forgotten += len(some)
        return forgotten
