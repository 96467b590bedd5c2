# SPDX-License-Identifier: Apache-2.0
"""election: one candidate at a time is the leader, and a leader that was deposed cannot write any more.

The leader holds `layout.LEADER_HOLDER`, an ephemeral key, created in one transaction with a new version of
`layout.LEADER_EPOCH`. That version is the epoch. Every transaction of a leader carries
`Check(layout.LEADER_EPOCH, epoch)`: the successor's election has changed the version, so a late write of its
predecessor fails in the store, whatever the predecessor believes. A session that does not answer leads nothing:
the leader steps down at once, and takes up the same epoch again if the same session comes back still holding
the key.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from pvc_core import layout
from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import ClusterStore, Create, Delete, Entry, SessionState, Set, Subscription, Thread, Threads
from pvc_core.system_threads import SYSTEM_THREADS

log = structlog.get_logger(__name__)

_RETRY_S = 0.5
_STOP_DEADLINE_S = 15.0


class Holder(msgspec.Struct, frozen=True):
    """The value of `layout.LEADER_HOLDER`: who leads, by which session, since which epoch."""

    candidate: str
    session_id: str
    epoch: int


def holder_of(entry: Entry | None) -> Holder | None:
    """Who leads according to the entry; None for nobody, or for a value that is not a holder's."""
    if entry is None:
        return None
    try:
        return msgspec.json.decode(entry.data, type=Holder)
    except msgspec.DecodeError:
        return None


class Election:
    """Takes part in the election until stopped.

    `on_change` is called with the epoch when this candidate becomes the leader, with None when it stops being
    it; always from one thread of the election's own, so it must not block for long.
    """

    def __init__(
        self,
        store: ClusterStore,
        candidate: str,
        on_change: Callable[[int | None], None],
        threads: Threads = SYSTEM_THREADS,
    ) -> None:
        self._store = store
        self._candidate = candidate
        self._on_change = on_change
        self._threads = threads
        self._lock = threads.lock()
        self._epoch: int | None = None
        self._epoch_session_id = ""
        self._interruptions = 0
        self._told: int | None = None
        self._bell = threads.event()
        self._stopping = False
        self._watch: Subscription | None = None
        self._watched: Entry | None = None
        self._session_listener: Subscription | None = None
        self._thread: Thread | None = None

    @property
    def epoch(self) -> int | None:
        """The epoch in which this candidate leads now; None when it does not.

        Asks the store for its session too, whose listeners may be told a moment later.
        """
        with self._lock:
            epoch, session_id = self._epoch, self._epoch_session_id
        alive = self._store.session_state is SessionState.CONNECTED and self._store.session_id == session_id
        return epoch if alive else None

    def start(self) -> None:
        """Stand for election. Does not fail when the store is away: it tries until it is there."""
        self._session_listener = self._store.add_session_listener(self._on_session)
        self._bell.set()
        self._thread = self._threads.start("pvc-election", self._run)

    def stop(self) -> None:
        """Resign, so that the next one need not wait for the session's end. `on_change(None)` comes first."""
        self._stopping = True
        self._bell.set()
        if self._thread is not None:
            self._thread.join(_STOP_DEADLINE_S)

    def _on_session(self, state: SessionState) -> None:
        if state is not SessionState.CONNECTED:
            with self._lock:
                self._interruptions += 1
                self._epoch = None
        self._bell.set()

    def _on_holder(self, entry: Entry | None) -> None:
        self._watched = entry
        self._bell.set()

    def _run(self) -> None:
        wait_s: float | None = None
        while not self._stopping:
            self._bell.wait(wait_s)
            self._bell.clear()
            self._tell()
            try:
                wait_s = None if self._stopping or self._take_part() else _RETRY_S
            except StoreUnavailable as error:
                log.debug("election_waits", candidate=self._candidate, problem=error.problem)
                wait_s = _RETRY_S
            except Exception:
                log.exception("election_failed", candidate=self._candidate)
                wait_s = _RETRY_S
            self._tell()
        self._resign()

    def _take_part(self) -> bool:
        """Become the leader if nobody is. Returns False when to look again soon, without being told.

        The watch tells only of changes from what it told last. While it lags behind what was read here, what it
        has not seen come it may not see go: so it is waited for only when both agree.
        """
        with self._lock:
            interruptions = self._interruptions
        if self._store.session_state is not SessionState.CONNECTED:
            return True  # the session's listener rings
        if self._watch is None:
            self._watch = self._store.watch(layout.LEADER_HOLDER, self._on_holder)
        session_id = self._store.session_id
        found = self._store.get_many([layout.LEADER_HOLDER, layout.LEADER_EPOCH])
        epoch_entry = found.get(layout.LEADER_EPOCH)
        if epoch_entry is None:
            self._store.ensure([layout.LEADER_EPOCH])
            self._bell.set()
            return True
        holder_entry = found.get(layout.LEADER_HOLDER)
        if holder_entry is not None:
            ours = Holder(self._candidate, session_id, epoch_entry.version)
            self._claim(ours if holder_of(holder_entry) == ours else None, interruptions)
            return holder_entry == self._watched
        self._claim(None, interruptions)
        self._tell()
        self._stand(session_id, epoch_entry, interruptions)
        return False

    def _stand(self, session_id: str, epoch: Entry, interruptions: int) -> None:
        """Take the free seat, unless another is faster."""
        ours = Holder(self._candidate, session_id, epoch.version + 1)
        data = msgspec.json.encode(ours)
        try:
            self._store.transaction(
                [Set(layout.LEADER_EPOCH, data, epoch.version), Create(layout.LEADER_HOLDER, data, ephemeral=True)]
            )
        except Conflict:
            return
        self._claim(ours, interruptions)

    def _claim(self, ours: Holder | None, interruptions: int) -> None:
        """Lead from now on, or not; unless the session was interrupted meanwhile: then look again."""
        with self._lock:
            if self._interruptions != interruptions:
                self._bell.set()
            elif ours is None:
                self._epoch = None
            else:
                self._epoch, self._epoch_session_id = ours.epoch, ours.session_id

    def _tell(self) -> None:
        epoch = self.epoch
        if epoch == self._told:
            return
        self._told = epoch
        log.info("election_changed", candidate=self._candidate, leads=epoch is not None, epoch=epoch)
        try:
            self._on_change(epoch)
        except Exception:
            log.exception("election_listener_failed", candidate=self._candidate, epoch=epoch)

    def _resign(self) -> None:
        for subscription in (self._watch, self._session_listener):
            if subscription is not None:
                subscription.cancel()
        with self._lock:
            self._epoch = None
        self._tell()
        try:
            entry = self._store.get(layout.LEADER_HOLDER)
            holder = holder_of(entry)
            if entry and holder and (holder.candidate, holder.session_id) == (self._candidate, self._store.session_id):
                self._store.transaction([Delete(layout.LEADER_HOLDER, entry.version)])
        except (StoreUnavailable, Conflict) as error:  # then the end of the session resigns for us
            log.info("election_resigned_by_session", candidate=self._candidate, problem=str(error))
