# SPDX-License-Identifier: Apache-2.0
"""hypervisor_events: hands a hypervisor's news to whoever listens, none of whom can harm the driver or one another.

Events are delivered one at a time on a thread of their own. A hypervisor's thread must never wait for a listener:
libvirt's event loop also answers keepalives, and a listener that lists the domains again would wait for the thread
that it blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pvc_core.ports import DomainEvent, MigrationProgress, Thread, Threads
from pvc_core.system_threads import SYSTEM_THREADS

Listener = Callable[[DomainEvent | None], None]

log = structlog.get_logger(__name__)


class EventDispatcher:
    """Delivers what `post` is given, in that order, to everyone who listens at the moment of delivery."""

    def __init__(self, name: str, threads: Threads = SYSTEM_THREADS) -> None:
        self._name = name
        self._threads = threads
        self._posted = threads.condition()
        self._posts: deque[_Post | None] = deque()  # None: the end
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._changing = threads.lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        self._thread = self._threads.start(self._name, self._deliver)

    def close(self) -> None:
        """Deliver nothing more. Waits for a listener that is running, unless it is the one that closes."""
        with self._changing:
            subscriptions, self._subscriptions = self._subscriptions, ()
        for subscription in subscriptions:
            subscription.cancel()
        self._put(None)
        if self._thread is not None:
            self._thread.join()

    def subscribe(self, listener: Listener) -> _Subscription:
        subscription = _Subscription(listener, self._forget, self._threads)
        with self._changing:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def post(self, event: DomainEvent | None) -> None:
        """Queue an event, or None for "list anew"; returns at once, from any thread."""
        self._put(_Post(event))

    def _put(self, post: _Post | None) -> None:
        with self._posted:
            self._posts.append(post)
            self._posted.notify_all()

    def _next(self) -> _Post | None:
        with self._posted:
            self._posted.wait_for(lambda: self._posts)
            return self._posts.popleft()

    def _forget(self, subscription: _Subscription) -> None:
        with self._changing:
            self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)

    def _deliver(self) -> None:
        while (post := self._next()) is not None:
            for subscription in self._subscriptions:
                subscription.deliver(post.event)


def tell_progress(listener: Callable[[MigrationProgress], None], uuid: str, progress: MigrationProgress) -> None:
    """Call the listener; the migration goes on whatever it does."""
    try:
        listener(progress)
    except Exception:
        log.exception("migration_progress_listener_failed", uuid=uuid)


@dataclass(frozen=True, slots=True)
class _Post:
    event: DomainEvent | None


class _Subscription:
    """One listener. Its lock makes `cancel` wait for a call that is under way on another thread."""

    def __init__(self, listener: Listener, forget: Callable[[_Subscription], None], threads: Threads) -> None:
        self._listener = listener
        self._forget = forget
        self._active = True
        self._delivering = threads.condition()  # for its lock, which a listener that cancels itself takes again

    def cancel(self) -> None:
        with self._delivering:
            self._active = False
        self._forget(self)

    def deliver(self, event: DomainEvent | None) -> None:
        with self._delivering:
            if not self._active:
                return
            try:
                self._listener(event)
            except Exception:
                # Its fault and its loss: the other listeners still get theirs.
                log.exception("hypervisor_listener_failed", event_of=event.uuid if event else None)
