# SPDX-License-Identifier: Apache-2.0
"""The outbox: bounded, never in anybody's way, and at its end a last attempt of bounded length."""

from __future__ import annotations

import threading
import time

import pytest

from notify.told import LOST, PATIENCE_S, Arrivals
from pvc_core import Event, PluginError
from pvc_core.journal import Journal
from pvc_core.testing.manual_clock import ManualClock
from pvc_plugins.notify import outbox
from pvc_plugins.notify.outbox import TOGETHER, WAITING, Batch, NotYet, Outbox, Pace

NEVER = Pace(pause_s=3600, give_up_s=36000)


class Receiving:
    """Keeps each batch, then fails as it is told; waits before while `gate` is closed."""

    name = "somebody"
    collect_s = 0.0

    def __init__(self, failure: Exception | None = None, is_open: bool = True) -> None:
        self.arrivals = Arrivals()
        self.gate = threading.Event()
        self._failure = failure
        if is_open:
            self.gate.set()

    def deliver(self, batch: Batch) -> None:
        self.arrivals.add(batch)
        self.gate.wait(PATIENCE_S)
        if self._failure:
            raise self._failure


def events(count: int) -> list[Event]:
    return [written.event for written in Journal(ManualClock()).written([LOST] * count)]


def test_what_waits_is_bounded_and_the_receiver_learns_how_many_are_missing() -> None:
    receiver, box = Receiving(is_open=False), Outbox("acme")
    first, *others = events(WAITING + 8)
    box.put(first, receiver)
    receiver.arrivals.wait()
    for event in others:
        box.put(event, receiver)
    receiver.gate.set()
    box.close(PATIENCE_S)
    _, second, *rest = receiver.arrivals.now()
    assert (second.left_out, second.events[0]) == (7, others[7])
    assert [len(batch.events) for batch in (second, *rest)] == [TOGETHER] * (WAITING // TOGETHER)
    assert {batch.left_out for batch in rest} == {0}


def test_closing_is_the_last_attempt() -> None:
    receiver, box = Receiving(NotYet("away")), Outbox("acme", NEVER)
    box.put(events(1)[0], receiver)
    receiver.arrivals.wait()
    box.close(PATIENCE_S)
    assert len(receiver.arrivals.now()) == 2, "nobody waits for the pause any more"
    with pytest.raises(PluginError, match="not delivered to somebody: away"):
        box.raise_failure()


def test_closing_waits_for_a_hanging_receiver_no_longer_than_it_says() -> None:
    receiver, box = Receiving(is_open=False), Outbox("acme")
    box.put(events(1)[0], receiver)
    receiver.arrivals.wait()
    begun = time.monotonic()
    box.close(0.05)
    assert time.monotonic() - begun < outbox.CLOSING_S
    receiver.gate.set()


def test_a_mistake_in_a_receiver_ends_neither_the_outbox_nor_goes_unsaid() -> None:
    broken, sound, box = Receiving(ZeroDivisionError("oops")), Receiving(), Outbox("acme", NEVER)
    one, another = events(2)
    box.put(one, broken)
    broken.arrivals.wait()
    box.put(another, sound)
    sound.arrivals.wait()
    box.close(PATIENCE_S)
    with pytest.raises(PluginError, match="an event was not delivered to somebody: ZeroDivisionError: oops"):
        box.raise_failure()
    box.raise_failure()
