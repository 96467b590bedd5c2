# SPDX-License-Identifier: Apache-2.0
"""store_watching: turns "something changed here" into listener calls with values, missing nothing.

A store tells, cheaply and unreliably, *that* a key may have changed; what it is now is always read. Each watch
keeps what is still to be read for it (`_Dirt`) and what it last reported (stamps). One thread reads and calls
the listeners. When reading fails, the dirt stays and is read again later; after a reconnect everything is
dirty. So events may be doubled, late or spurious; only a change without any event would be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import Clock, Entry, Subscription, Thread, Threads
from pvc_core.store_keys import parent_of
from pvc_core.store_listening import ListenerSubscription
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS

log = structlog.get_logger(__name__)

RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Stamped:
    """An entry with a stamp that no other write of the key ever has, not even after delete and create."""

    entry: Entry
    stamp: int


class WatchSource(Protocol):
    """What a driver reads for its watches. Each call also arms: the next change is reported to the engine.

    `fresh` asks for the newest committed values; else a replica that has told of the change is good enough.
    """

    def read_key(self, key: str, fresh: bool) -> Stamped | None:
        """The key's value; arms for its creation too."""

    def read_keys(self, keys: Sequence[str]) -> Mapping[str, Stamped]:
        """Those of the keys that exist, pipelined."""

    def list_keys(self, parent: str, fresh: bool) -> Sequence[str]:
        """The keys of the children; arms for the creation of `parent` too."""


@dataclass(slots=True)
class _Dirt:
    """What has to be read again: some keys, the list of children, or (fresh) all there is."""

    keys: set[str] = field(default_factory=set)
    relist: bool = False
    fresh: bool = False

    def add(self, other: _Dirt) -> None:
        self.keys |= other.keys
        self.relist |= other.relist
        self.fresh |= other.fresh

    def __bool__(self) -> bool:
        return bool(self.keys) or self.relist or self.fresh


class _KeyWatch:
    """Reports one key."""

    def __init__(self, key: str, subscription: ListenerSubscription[Entry | None]) -> None:
        self.key = key
        self.dirt = _Dirt()
        self.is_open = False
        self._subscription = subscription
        self._stamp: int | None = None

    def refresh(self, source: WatchSource, dirt: _Dirt) -> None:
        now = source.read_key(self.key, dirt.fresh)
        stamp = now.stamp if now else -1
        if stamp != self._stamp:
            self._stamp = stamp
            self._subscription.deliver(now.entry if now else None)

    def end(self) -> None:
        self._subscription.cancel()


class _Mirror:
    """Reports the children of one key."""

    def __init__(self, key: str, subscription: ListenerSubscription[Mapping[str, Entry | None]]) -> None:
        self.key = key
        self.dirt = _Dirt()
        self.is_open = False
        self._subscription = subscription
        self._stamps: dict[str, int] | None = None

    def refresh(self, source: WatchSource, dirt: _Dirt) -> None:
        stamps = self._stamps or {}
        to_read = dirt.keys
        gone: set[str] = set()
        if dirt.relist or dirt.fresh:
            listed = set(source.list_keys(self.key, dirt.fresh))
            gone = stamps.keys() - listed
            to_read = listed if dirt.fresh else (dirt.keys & listed) | (listed - stamps.keys())
        found = source.read_keys(sorted(to_read))
        gone |= (to_read - found.keys()) & stamps.keys()
        changed = {key: now for key, now in found.items() if stamps.get(key) != now.stamp}
        first = self._stamps is None
        self._stamps = {key: stamp for key, stamp in stamps.items() if key not in gone} if gone else stamps
        self._stamps.update((key, now.stamp) for key, now in changed.items())
        if first or gone or changed:
            news: dict[str, Entry | None] = dict.fromkeys(sorted(gone))
            news.update((key, now.entry) for key, now in changed.items())
            self._subscription.deliver(news)

    def end(self) -> None:
        self._subscription.cancel()


_Watch = _KeyWatch | _Mirror
WatchT = TypeVar("WatchT", _KeyWatch, _Mirror)


class WatchEngine:
    """All watches of one store, the thread that serves them, and where the driver reports changes."""

    def __init__(self, source: WatchSource, threads: Threads = SYSTEM_THREADS, clock: Clock | None = None) -> None:
        self._source = source
        self._threads = threads
        self._clock = clock or SystemClock()
        self._wakeup = threads.condition()
        self._key_watches: dict[str, list[_KeyWatch]] = {}
        self._mirrors: dict[str, list[_Mirror]] = {}
        self._pending: dict[_Watch, None] = {}
        self._failed: dict[_Watch, None] = {}
        self._retry_due_s = 0.0
        self._closed = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to serve. May be called again."""
        with self._wakeup:
            if self._thread is None:
                self._thread = self._threads.start("pvc-store-watch", self._run)

    def close(self) -> None:
        """End all watches."""
        with self._wakeup:
            self._closed = True
            watches = self._all_watches()
            thread, self._thread = self._thread, None
            self._wakeup.notify_all()
        for watch in watches:
            watch.end()
        if thread is not None:
            thread.join(1.0)  # only out of courtesy: a listener may be waiting for whoever closes

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        """As the port's `watch`."""
        subscription = ListenerSubscription(key, listener, lambda: self._forget(self._key_watches, watch))
        watch = _KeyWatch(key, subscription)
        self._begin(self._key_watches, watch)
        return subscription

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        """As the port's `mirror`."""
        subscription = ListenerSubscription(parent, listener, lambda: self._forget(self._mirrors, mirror))
        mirror = _Mirror(parent, subscription)
        self._begin(self._mirrors, mirror)
        return subscription

    def key_changed(self, key: str) -> None:
        """The key may have been set, created or deleted."""
        with self._wakeup:
            for watch in self._key_watches.get(key, ()):
                self._mark(watch, _Dirt({key}))
            for mirror in self._mirrors.get(parent_of(key), ()):
                self._mark(mirror, _Dirt({key}))

    def children_changed(self, parent: str) -> None:
        """Children may have been added or removed, `parent` itself included."""
        with self._wakeup:
            for mirror in self._mirrors.get(parent, ()):
                self._mark(mirror, _Dirt(relist=True))

    def everything_changed(self) -> None:
        """Any change may have gone unreported: the connection was away."""
        with self._wakeup:
            for watch in self._all_watches():
                self._mark(watch, _Dirt(fresh=True))

    def _begin(self, watches: dict[str, list[WatchT]], watch: WatchT) -> None:
        """Listen first and read then, on the caller's thread; what changes in between waits as dirt."""
        with self._wakeup:
            watches.setdefault(watch.key, []).append(watch)
        try:
            watch.refresh(self._source, _Dirt(fresh=True))
        except BaseException:
            self._forget(watches, watch)
            raise
        with self._wakeup:
            watch.is_open = True
            self._mark(watch, _Dirt())

    def _forget(self, watches: dict[str, list[WatchT]], watch: WatchT) -> None:
        with self._wakeup:
            rest = [other for other in watches.get(watch.key, ()) if other is not watch]
            if rest:
                watches[watch.key] = rest
            else:
                watches.pop(watch.key, None)
            self._pending.pop(watch, None)
            self._failed.pop(watch, None)

    def _all_watches(self) -> list[_Watch]:
        keyed: list[_Watch] = [watch for watches in self._key_watches.values() for watch in watches]
        return keyed + [mirror for mirrors in self._mirrors.values() for mirror in mirrors]

    def _mark(self, watch: _Watch, dirt: _Dirt) -> None:
        watch.dirt.add(dirt)
        if watch.is_open and watch.dirt:
            self._pending[watch] = None
            self._wakeup.notify_all()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            watch, dirt = work
            try:
                watch.refresh(self._source, dirt)
            except StoreUnavailable as error:
                if not self._closed:
                    log.debug("store_watch_waits", key=watch.key, problem=error.problem)
                self._put_back(watch, dirt)
            except Exception:
                log.exception("store_watch_failed", key=watch.key)
                self._put_back(watch, dirt)

    def _next(self) -> tuple[_Watch, _Dirt] | None:
        """The next watch with what to read for it; waits. None when closed."""
        with self._wakeup:
            while not self._closed:
                wait_s = self._retry_due_s - self._clock.monotonic_s() if self._failed else None
                if wait_s is not None and wait_s <= 0:
                    self._pending.update(self._failed)
                    self._failed.clear()
                if self._pending:
                    watch = next(iter(self._pending))
                    del self._pending[watch]
                    self._failed.pop(watch, None)
                    dirt, watch.dirt = watch.dirt, _Dirt()
                    return watch, dirt
                self._wakeup.wait(wait_s)
            return None

    def _put_back(self, watch: _Watch, dirt: _Dirt) -> None:
        with self._wakeup:
            watch.dirt.add(dirt)
            if not self._failed:
                self._retry_due_s = self._clock.monotonic_s() + RETRY_S
            self._failed[watch] = None
