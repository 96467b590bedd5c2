# SPDX-License-Identifier: Apache-2.0
"""store_listening: calls listeners so that none can stop a driver, and tells them of every change of the session.

Session changes have a thread of their own: "you may no longer act" must not wait behind a listener that is
busy with a value.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from pvc_core.ports import SessionState, Subscription, Thread, Threads
from pvc_core.system_threads import SYSTEM_THREADS

log = structlog.get_logger(__name__)

T = TypeVar("T")


class ListenerSubscription(Generic[T]):
    """One listener. What it raises is logged under `name`; after `cancel` it is not called any more.

    `cancel` does not wait for a call that has begun: whoever cancels may hold a lock that the listener wants.
    """

    def __init__(self, name: str, listener: Callable[[T], None], forget: Callable[[], None]) -> None:
        self._name = name
        self._listener = listener
        self._forget = forget
        self._lock = threading.Lock()
        self._cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
        self._forget()

    def deliver(self, value: T) -> None:
        """Call the listener, unless cancelled."""
        with self._lock:
            if self._cancelled:
                return
        try:
            self._listener(value)
        except Exception:
            log.exception("store_listener_failed", key=self._name)


_Change = tuple[SessionState, list[ListenerSubscription[SessionState]]]


class SessionStates:
    """The state of a session and those who are told when it changes, in order, on one thread."""

    def __init__(self, threads: Threads = SYSTEM_THREADS) -> None:
        self._threads = threads
        self._changed = threads.condition()
        self._state = SessionState.LOST
        self._subscriptions: dict[int, ListenerSubscription[SessionState]] = {}
        self._next_number = 0
        self._changes: deque[_Change | None] = deque()
        self._thread: Thread | None = None

    @property
    def state(self) -> SessionState:
        return self._state

    def start(self) -> None:
        """Begin to tell listeners. May be called again."""
        with self._changed:
            if self._thread is None:
                self._thread = self._threads.start("pvc-store-session", self._run)

    def close(self) -> None:
        """The session has ended: listeners are told LOST as the last thing."""
        self.change(SessionState.LOST)
        with self._changed:
            thread, self._thread = self._thread, None
            self._changes.append(None)
            self._changed.notify_all()
        if thread is not None:
            thread.join(1.0)  # only out of courtesy: a listener may be waiting for whoever closes

    def add_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        with self._changed:
            number = self._next_number
            self._next_number += 1
            subscription = ListenerSubscription("session", listener, lambda: self._forget(number))
            self._subscriptions[number] = subscription
        return subscription

    def change(self, state: SessionState) -> None:
        """Set the state; listeners are told unless it is the same."""
        with self._changed:
            if state is not self._state:
                self._state = state
                # Whoever listens only later is not told of this any more.
                self._changes.append((state, list(self._subscriptions.values())))
                self._changed.notify_all()

    def _forget(self, number: int) -> None:
        with self._changed:
            self._subscriptions.pop(number, None)

    def _run(self) -> None:
        while (change := self._next()) is not None:
            state, subscriptions = change
            for subscription in subscriptions:
                subscription.deliver(state)

    def _next(self) -> _Change | None:
        with self._changed:
            self._changed.wait_for(lambda: self._changes)
            return self._changes.popleft()
