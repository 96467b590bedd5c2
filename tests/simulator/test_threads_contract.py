# SPDX-License-Identifier: Apache-2.0
"""The simulator's threads keep the rules that those of the operating system keep, or the daemon would be another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import pytest

from pvc_core.ports import Threads
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.virtual_threads import VirtualThreads

DEADLINE_S = 30.0


class Stage(Protocol):
    """Where a rule is played: its threads, and how long a pause is in their time."""

    threads: Threads

    def play(self, body: Callable[[], None]) -> None:
        """Run it on a thread, to its end; raise what it raised."""

    def pause(self, duration_s: float) -> None: ...


class RealStage:
    threads: Threads = SYSTEM_THREADS

    def play(self, body: Callable[[], None]) -> None:
        body()

    def pause(self, duration_s: float) -> None:
        time.sleep(duration_s)


class VirtualStage:
    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self._process = Process(self.scheduler, "stage")
        self.threads: Threads = VirtualThreads(self.scheduler, self._process)

    def play(self, body: Callable[[], None]) -> None:
        task = self._process.spawn("rule", body)
        self.scheduler.run_until(DEADLINE_S)
        self.scheduler.close()
        assert [error for _, error in self.scheduler.failures] == []
        assert task.is_over

    def pause(self, duration_s: float) -> None:
        self.scheduler.sleep(duration_s)


@pytest.fixture(params=[RealStage, VirtualStage])
def stage(request: pytest.FixtureRequest) -> Stage:
    made: Stage = request.param()
    return made


def test_a_thread_runs_and_whoever_joins_it_waits_for_its_end(stage: Stage) -> None:
    told: list[str] = []

    def rule() -> None:
        def body() -> None:
            stage.pause(0.05)
            told.append("body")

        thread = stage.threads.start("body", body)
        assert thread.is_alive()
        thread.join(DEADLINE_S)
        told.append("joined")
        assert not thread.is_alive()

    stage.play(rule)
    assert told == ["body", "joined"]


def test_a_join_with_a_deadline_gives_up(stage: Stage) -> None:
    def rule() -> None:
        ends = stage.threads.event()
        thread = stage.threads.start("waits", lambda: _ignore(ends.wait(DEADLINE_S)))
        thread.join(0.02)
        assert thread.is_alive()
        ends.set()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()

    stage.play(rule)


def test_a_thread_that_joins_itself_goes_on(stage: Stage) -> None:
    def rule() -> None:
        threads = []
        done = stage.threads.event()
        begin = stage.threads.event()

        def body() -> None:
            begin.wait(DEADLINE_S)
            threads[0].join(DEADLINE_S)
            done.set()

        threads.append(stage.threads.start("itself", body))
        begin.set()
        assert done.wait(DEADLINE_S / 2)

    stage.play(rule)


def test_an_event_wakes_all_who_wait_and_stays_set(stage: Stage) -> None:
    def rule() -> None:
        event, woken = stage.threads.event(), []
        threads = [
            stage.threads.start(f"waits-{number}", lambda: woken.append(event.wait(DEADLINE_S))) for number in range(3)
        ]
        assert not event.is_set()
        event.set()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert woken == [True, True, True]
        assert event.wait(0)
        event.clear()
        assert not event.wait(0.01)

    stage.play(rule)


def test_a_lock_lets_one_thread_in_at_a_time(stage: Stage) -> None:
    def rule() -> None:
        lock, inside, seen = stage.threads.lock(), [0], list[int]()

        def body() -> None:
            with lock:
                inside[0] += 1
                seen.append(inside[0])
                stage.pause(0.02)
                inside[0] -= 1

        threads = [stage.threads.start("body", body) for _ in range(4)]
        for thread in threads:
            thread.join(DEADLINE_S)
        assert len(seen) == 4
        assert max(seen) == 1

    stage.play(rule)


def test_a_condition_lets_go_of_its_lock_while_it_waits(stage: Stage) -> None:
    def rule() -> None:
        condition, told = stage.threads.condition(), []

        def waits() -> None:
            with condition:
                told.append(bool(condition.wait_for(lambda: len(told) > 0, DEADLINE_S)))

        thread = stage.threads.start("waits", waits)
        with condition, condition:
            told.append(True)
            condition.notify_all()
        thread.join(DEADLINE_S)
        assert told == [True, True]

    stage.play(rule)


def test_a_condition_that_nobody_notifies_gives_up(stage: Stage) -> None:
    def rule() -> None:
        condition = stage.threads.condition()
        with condition:
            assert not condition.wait(0.01)
            assert not condition.wait_for(lambda: False, 0.01)

    stage.play(rule)


def _ignore(_value: object) -> None:
    """So that a thread's body returns nothing."""
