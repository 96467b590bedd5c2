# SPDX-License-Identifier: Apache-2.0
"""outbox: what waits to be delivered: collected for a moment, tried again for a while, then given up and said.

The thread that tells plugins of events must not wait for a receiver: other plugins come after this one. So events
stand here, and a thread of the outbox's own delivers them. It ends with the process, which first gives it a moment
for a last attempt.
"""

from __future__ import annotations

import atexit
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import structlog

from pvc_core import Event, PluginError
from pvc_core.plugin_threads import ask_here

log = structlog.get_logger(__name__)

WAITING = 1000
TOGETHER = 100
CLOSING_S = 3.0


class NotDelivered(Exception):
    """The receiver has refused, or is nobody to speak to; another attempt would end the same."""


class NotYet(NotDelivered):
    """The receiver is away or asks for patience; another attempt may succeed."""


@dataclass(frozen=True)
class Batch:
    """What is delivered at once. delivery: the same in every attempt. left_out: how many before it were dropped."""

    events: tuple[Event, ...]
    delivery: str
    left_out: int = 0


class Receiver(Protocol):
    """Where events go."""

    @property
    def collect_s(self) -> float:
        """How long events are collected after the first one, in seconds."""
        ...

    @property
    def name(self) -> str:
        """For people, and without any secret."""
        ...

    def deliver(self, batch: Batch) -> None:
        """Once, within bounded time. Raises `NotDelivered`, or `NotYet` to be tried again."""
        ...


@dataclass(frozen=True)
class Pace:
    """pause_s: before the second attempt, doubled for each further one up to longest_pause_s.

    give_up_s: no attempt begins later than this after the first.
    """

    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    give_up_s: float = 300.0


DEFAULT_PACE = Pace()


def try_out(plugin: str, event: Event, receiver: Receiver | None) -> str:
    """Deliver one event now and say who took it; "" when there is no receiver. Raises `PluginError`."""
    if receiver is None:
        return ""
    try:
        receiver.deliver(Batch((event,), secrets.token_hex(16)))
    except NotDelivered as failure:
        raise PluginError(plugin, f"not delivered to {receiver.name}: {failure}") from None
    return f"delivered to {receiver.name}"


class Outbox:
    """One plugin's. Thread-safe."""

    def __init__(self, plugin: str, pace: Pace = DEFAULT_PACE) -> None:
        self._plugin = plugin
        self._pace = pace
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque(maxlen=WAITING)
        self._dropped = 0
        self._receiver: Receiver | None = None
        self._thread: threading.Thread | None = None
        self._failure = ""
        self._closed = False

    def put(self, event: Event, receiver: Receiver) -> None:
        """Have it delivered soon; to the latest receiver, should settings change before. Returns at once."""
        with self._changed:
            if self._closed:
                return
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(event)
            self._receiver = receiver
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{self._plugin}-outbox", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._changed.notify_all()

    def raise_failure(self) -> None:
        """Raises what has been given up since the last time: so it becomes a failure of the plugin that others see."""
        with self._changed:
            failure, self._failure = self._failure, ""
        if failure:
            raise PluginError(self._plugin, failure)

    def close(self, patience_s: float = CLOSING_S) -> None:
        """A last attempt for what is waiting, if the receiver lets it within the time, and nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        atexit.unregister(self.close)
        if thread is not None:
            thread.join(patience_s)
            if thread.is_alive():
                log.warning(
                    "notifications_lost",
                    plugin=self._plugin,
                    problem="their receiver did not answer in time",
                )

    def _run(self) -> None:
        while (batch := self._collected()) is not None:
            self._deliver(batch)

    def _collected(self) -> Batch | None:
        """What came within a moment after the first; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting or self._receiver is None:
                return None
            self._changed.wait_for(lambda: self._closed, self._receiver.collect_s)
            taken = tuple(self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting))))
            left_out, self._dropped = self._dropped, 0
        return Batch(taken, secrets.token_hex(16), left_out)

    def _deliver(self, batch: Batch) -> None:
        """Until it is delivered or given up."""
        pause_s, give_up_at_s = self._pace.pause_s, time.monotonic() + self._pace.give_up_s
        while True:
            with self._changed:
                receiver, is_last = self._receiver, self._closed
            assert receiver is not None
            try:
                ask_here(self._plugin, receiver.deliver, batch)
            except PluginError as failure:
                cause = failure.__cause__
                problem = str(cause) if isinstance(cause, NotDelivered) else failure.problem
                if is_last or not isinstance(cause, NotYet) or time.monotonic() + pause_s > give_up_at_s:
                    self._give_up(batch, receiver, problem)
                    return
                log.info("delivery_failed", plugin=self._plugin, to=receiver.name, problem=problem, again_in_s=pause_s)
            else:
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed, pause_s)
            pause_s = min(2 * pause_s, self._pace.longest_pause_s)

    def _give_up(self, batch: Batch, receiver: Receiver, problem: str) -> None:
        count = len(batch.events)
        log.warning("not_delivered", plugin=self._plugin, to=receiver.name, count=count, problem=problem)
        said = "an event was" if count == 1 else f"{count} events were"
        with self._changed:
            self._failure = f"{said} not delivered to {receiver.name}: {problem}"
