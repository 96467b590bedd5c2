# SPDX-License-Identifier: Apache-2.0
"""The scheduler: time jumps, tasks take turns, and a process dies, stops and goes on as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pvc_simulator.scheduler import Process, Scheduler, SimulationStuck
from pvc_simulator.virtual_threads import VirtualClock


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler()
    yield made
    made.close()


def test_time_jumps_to_when_there_is_something_to_do(scheduler: Scheduler) -> None:
    told: list[float] = []
    process = Process(scheduler, "p")

    def body() -> None:
        for _ in range(3):
            scheduler.sleep(1000.0)
            told.append(scheduler.now_s)

    process.spawn("sleeper", body)
    scheduler.run_until(2500.0)
    assert told == [1000.0, 2000.0]
    assert scheduler.now_s == 2500.0


def test_a_killed_process_unwinds_and_does_nothing_more(scheduler: Scheduler) -> None:
    told: list[str] = []
    process = Process(scheduler, "p")

    def body() -> None:
        try:
            scheduler.sleep(10.0)
            told.append("woke")
        finally:
            told.append("unwound")
            scheduler.sleep(10.0)
            told.append("went on")

    process.spawn("task", body)
    scheduler.at(5.0, process.kill)
    scheduler.run_until(100.0)
    assert told == ["unwound"]
    assert scheduler.failures == []


def test_a_stopped_process_gets_its_turns_when_it_goes_on(scheduler: Scheduler) -> None:
    told: list[float] = []
    process = Process(scheduler, "p")

    def body() -> None:
        while True:
            scheduler.sleep(1.0)
            told.append(scheduler.now_s)

    process.spawn("ticks", body)
    scheduler.at(2.5, process.stop)
    scheduler.at(10.0, process.go_on)
    scheduler.run_until(12.5)
    assert told == [1.0, 2.0, 10.0, 11.0, 12.0]


def test_what_ends_a_task_is_kept_for_whoever_runs_the_simulation(scheduler: Scheduler) -> None:
    def body() -> None:
        raise ValueError("out of range")

    Process(scheduler, "p").spawn("breaks", body)
    scheduler.run_until(1.0)
    assert [(where, str(error)) for where, error in scheduler.failures] == [("p: breaks", "out of range")]


def test_what_still_runs_is_unwound_at_the_end(scheduler: Scheduler) -> None:
    told: list[str] = []

    def body() -> None:
        try:
            scheduler.wait()
        finally:
            told.append("unwound")

    Process(scheduler, "p").spawn("waits", body)
    scheduler.run_until(1.0)
    scheduler.close()
    assert told == ["unwound"]
    assert not scheduler.processes


def test_going_round_in_circles_without_time_passing_is_found(scheduler: Scheduler) -> None:
    def body() -> None:
        while True:
            scheduler.wait(0.0)

    Process(scheduler, "p").spawn("circles", body)
    with pytest.raises(SimulationStuck, match="p"):
        scheduler.run_until(1.0)


def test_a_task_cannot_kill_because_it_may_be_what_is_killed(scheduler: Scheduler) -> None:
    process = Process(scheduler, "p")
    told: list[str] = []

    def body(kill: Callable[[], None]) -> None:
        with pytest.raises(RuntimeError, match="cannot kill"):
            kill()
        told.append("refused")

    process.spawn("task", lambda: body(process.kill))
    scheduler.run_until(1.0)
    assert told == ["refused"]


def test_a_clock_shows_every_second_also_one_before_the_beginning() -> None:
    scheduler = Scheduler()
    clock = VirtualClock(scheduler)
    clock.step_s = -0.5
    assert clock.utc_iso() == "2029-12-31T23:59:59Z"
    scheduler.run_until(0.6)
    assert clock.utc_iso() == "2030-01-01T00:00:00Z"
    clock.step_s = 3600.0
    assert clock.utc_iso() == "2030-01-01T01:00:00Z"
