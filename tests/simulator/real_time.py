# SPDX-License-Identifier: Apache-2.0
"""real_time: a simulation that other threads take part in: its clock follows the real one, a few times faster.

The conformance suites run on real threads and wait in real time; the simulator has one thread and a time of its own.
That one thread waits here for the calls of the others and lets the simulated world go on meanwhile.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random
from typing import Any, TypeVar

from greenlet import GreenletExit

from pvc_core.errors import DeadlineExceeded
from pvc_simulator.scheduler import Process, Scheduler

T = TypeVar("T")

SPEED = 10.0
LONGEST_CALL_S = 120.0
"""Real time after which a call that has no answer fails the test."""


class RealTime:
    """Runs a scheduler until closed. What touches the simulation is done by `call` or `act`, from any thread."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listening = ThreadPoolExecutor(max_workers=64, thread_name_prefix="listener")
        self._ready: Future[Scheduler] = Future()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)
        self._thread.start()
        self.scheduler = self._ready.result(LONGEST_CALL_S)

    def close(self) -> None:
        """Stop the clock. Raises what has ended it before, and what has ended one of its tasks."""
        self._inbox.put(None)
        self._thread.join(LONGEST_CALL_S)
        self._listening.shutdown()
        if self._broken is not None:
            raise self._broken
        for where, error in self.scheduler.failures:
            raise AssertionError(f"a task has died: {where}") from error

    # ---------------------------------------------------------------------------------- from real threads

    def act(self, action: Callable[[], T]) -> T:
        """Do it between two turns, on no task: it must not wait."""
        outcome: Future[T] = Future()
        self._post(lambda: settle(outcome, action))
        return self._result(outcome)

    def call(self, process: Process, body: Callable[[], T]) -> T:
        """Do it on a task of the process and wait for what comes of it."""
        outcome: Future[T] = Future()
        self._post(lambda: self._spawn(process, outcome, body))
        return self._result(outcome)

    def _post(self, action: Callable[[], None]) -> None:
        if self._broken is not None:
            raise self._broken
        if not self._thread.is_alive():
            raise RuntimeError("the clock has been stopped")
        self._inbox.put(action)

    def _result(self, outcome: Future[T]) -> T:
        try:
            return outcome.result(LONGEST_CALL_S)
        except TimeoutError as error:
            if outcome.done():  # it is the answer
                raise
            raise self._broken or DeadlineExceeded("a call into the simulation", LONGEST_CALL_S) from error

    def _spawn(self, process: Process, outcome: Future[T], body: Callable[[], T]) -> None:
        task = process.spawn("called", lambda: settle(outcome, body))
        if task.is_over:
            outcome.set_exception(ProcessDied(process.name))

    # ---------------------------------------------------------------------------------- from simulated tasks

    def listener(self, real: Callable[..., None]) -> Callable[..., None]:
        """What a simulated program is given for a listener that may block a real thread: called on one, waited for."""

        def told(*news: Any) -> None:
            me = self.scheduler.current
            outcome: Future[None] = Future()
            is_back: list[bool] = []

            def come_back() -> None:
                is_back.append(True)
                self.scheduler.wake(me)

            def call() -> None:
                settle(outcome, lambda: real(*news))
                self._inbox.put(come_back)

            self._listening.submit(call)
            while not is_back:
                self.scheduler.wait()
            outcome.result()

        return told

    # ---------------------------------------------------------------------------------- the one thread

    def _run(self) -> None:
        scheduler = Scheduler()  # here, because its greenlets belong to the thread that makes them
        self._ready.set_result(scheduler)
        began_s = time.monotonic()
        try:
            while True:
                now_s = (time.monotonic() - began_s) * SPEED
                scheduler.run_until(now_s)
                due_s = scheduler.next_due_s
                if not self._take(None if due_s is None else max(0.0, due_s / SPEED - (time.monotonic() - began_s))):
                    return
        except BaseException as error:  # noqa: BLE001  # raised again in whoever calls or closes
            self._broken = error
        finally:
            scheduler.close()

    def _take(self, wait_s: float | None) -> bool:
        """Wait so long at most for calls and begin them; whether to go on."""
        try:
            action = self._inbox.get(timeout=wait_s)
            while action is not None:
                action()
                action = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False


class ProcessDied(Exception):
    """The simulated process that was to answer is dead."""


def settle(outcome: Future[T], body: Callable[[], T]) -> None:
    """Have the outcome say what became of it."""
    try:
        outcome.set_result(body())
    except GreenletExit:
        outcome.set_exception(ProcessDied("it was killed"))
        raise
    except Exception as error:  # noqa: BLE001  # raised again where the outcome is waited for
        outcome.set_exception(error)
