# SPDX-License-Identifier: Apache-2.0
"""Calling plugins: whatever one does, its caller gets an answer or a `PluginError`, in bounded time."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pvc_core.errors import PluginError, PluginLeftOut
from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict, fence
from pvc_core.plugin_calls import CallLimits, PluginCalls
from pvc_core.plugin_types import NO_OPTIONS
from pvc_core.testing.manual_clock import ManualClock

SHORT_S = 0.05
PATIENCE_S = 20.0
"""Of answers that will come: a machine may be busy."""
LIMITS = CallLimits(answer_s=PATIENCE_S)


class Hanging:
    """Something a plugin waits for. Released at the end of the test, so that no thread outlives it."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.came_back = threading.Event()

    def __call__(self, *_: object) -> str:
        self.released.wait(PATIENCE_S)
        self.came_back.set()
        return "too late"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.released.set()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def calls(clock: ManualClock) -> PluginCalls:
    return PluginCalls(own=["ours"], clock=clock, limits=LIMITS)


def failing(calls: PluginCalls, times: int = 3) -> None:
    """A plugin that fails so many times."""
    for _ in range(times):
        with pytest.raises(PluginError):
            calls.ask("acme", lambda: 1 / 0)


def eventually(holds: Callable[[], bool]) -> None:
    """Threads need a moment to come back; fail when they do not."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true")


# ---------------------------------------------------------------------------------------------- answers


def test_a_third_partys_plugin_answers_on_a_thread_that_no_exit_waits_for(calls: PluginCalls) -> None:
    thread = calls.ask("acme", threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name == "plugin-acme"
    assert calls.ask("acme", threading.current_thread) is thread, "a second call needs no second thread"


def test_pvcs_own_plugins_are_called_directly(calls: PluginCalls) -> None:
    assert calls.ask("ours", threading.current_thread) is threading.current_thread()
    assert calls.ask("ours", max, 1, 2) == 2


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (PluginError("other", "is at fault"), "PluginError: plugin other: is at fault"),
        (PluginError("acme", "scored hv9"), "scored hv9"),
    ],
)
def test_whatever_a_plugin_raises_becomes_a_plugin_error(
    calls: PluginCalls, error: BaseException, problem: str
) -> None:
    def answer() -> None:
        raise error

    with pytest.raises(PluginError) as caught:
        calls.ask("acme", answer)
    assert (caught.value.plugin, caught.value.problem) == ("acme", problem)


def test_sys_exit_and_endless_recursion_stay_inside(calls: PluginCalls) -> None:
    def deeper(level: int) -> int:
        return deeper(level + 1) + 1

    with pytest.raises(PluginError, match="SystemExit: 1"):
        calls.ask("acme", sys.exit, 1)
    with pytest.raises(PluginError, match="RecursionError"):
        calls.ask("acme", deeper, 0)


def test_an_exception_that_cannot_even_be_described_stays_inside(calls: PluginCalls) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def answer() -> None:
        raise Mute

    with pytest.raises(PluginError, match="Mute"):
        calls.ask("acme", answer)


# --------------------------------------------------------------------------------------------- hanging


def test_a_plugin_that_hangs_is_given_up_and_the_error_says_where_it_is(calls: PluginCalls, hanging: Hanging) -> None:
    with pytest.raises(PluginError, match=r"has not answered within 0.05 s \(it is in wait, threading.py:\d+\)"):
        calls.ask("acme", hanging, deadline_s=SHORT_S)
    assert calls.health()["acme"].hanging == 1
    hanging.released.set()
    eventually(lambda: calls.health()["acme"].hanging == 0)


def test_the_late_answer_of_one_call_is_not_taken_for_that_of_the_next(calls: PluginCalls, hanging: Hanging) -> None:
    with pytest.raises(PluginError):
        calls.ask("acme", hanging, deadline_s=SHORT_S)
    hanging.released.set()
    assert hanging.came_back.wait(PATIENCE_S)
    assert [calls.ask("acme", lambda n: n, number) for number in range(20)] == [*range(20)]


def test_a_call_that_hangs_holds_nobody_elses_up(calls: PluginCalls, hanging: Hanging) -> None:
    with pytest.raises(PluginError):
        calls.ask("acme", hanging, deadline_s=SHORT_S)
    assert calls.ask("acme", lambda: "answered") == "answered"
    assert calls.ask("other", lambda: "answered") == "answered"


def test_as_many_calls_hang_as_are_allowed_and_then_none_is_made(
    calls: PluginCalls, clock: ManualClock, hanging: Hanging
) -> None:
    for _ in range(3):
        with pytest.raises(PluginError):
            calls.ask("acme", hanging, deadline_s=SHORT_S)
    clock.advance(10_000)
    with pytest.raises(PluginLeftOut, match="until one of 3 calls that hang comes back"):
        calls.ask("acme", lambda: "answered")
    hanging.released.set()
    eventually(lambda: calls.health()["acme"].hanging == 0)
    assert calls.ask("acme", lambda: "answered") == "answered"


def test_several_threads_ask_one_plugin_at_once(calls: PluginCalls) -> None:
    together = threading.Barrier(8, timeout=PATIENCE_S)
    answers: list[tuple[int, int]] = []

    def ask(number: int) -> None:
        def answer(given: int) -> int:
            together.wait()
            return given

        answers.append((number, calls.ask("acme", answer, number)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(answers) == [(number, number) for number in range(8)]


@pytest.mark.parametrize("answer", ["import time; time.sleep(60)", "while True: pass"])
def test_a_process_ends_although_a_plugin_hangs(answer: str) -> None:
    code = f"""
        from pvc_core.errors import PluginError
        from pvc_core.plugin_calls import PluginCalls

        def score():
            {answer.replace("; ", chr(10) + " " * 12)}

        try:
            PluginCalls().ask("acme", score, deadline_s=0.2)
        except PluginError as failure:
            print(failure.problem)
        print("the end of main")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert "has not answered within 0.2 s (it is in score" in run.stdout
    assert run.stdout.endswith("the end of main\n")
    assert run.stderr == ""


# --------------------------------------------------------------------------------------- left out, and back


def test_after_three_failures_in_a_row_a_plugin_is_left_out_for_a_while(calls: PluginCalls, clock: ManualClock) -> None:
    failing(calls)
    with pytest.raises(PluginLeftOut) as caught:
        calls.ask("acme", lambda: "answered")
    assert caught.value.problem == (
        "is left out for 30 s more after 3 failures in a row, the last: ZeroDivisionError: division by zero"
    )
    assert calls.health()["acme"].circuit == "open"
    assert calls.ask("other", lambda: "answered") == "answered"
    clock.advance(30)
    assert calls.health()["acme"].circuit == "half-open"
    assert calls.ask("acme", lambda: "answered") == "answered"
    assert calls.health()["acme"].circuit == "closed"


def test_while_one_call_tries_it_again_no_other_is_made(
    calls: PluginCalls, clock: ManualClock, hanging: Hanging
) -> None:
    failing(calls)
    clock.advance(30)
    trial = threading.Thread(target=lambda: calls.ask("acme", hanging))
    trial.start()

    def is_refused() -> bool:
        try:
            calls.ask("acme", hanging.released.is_set)
        except PluginLeftOut as refusal:
            return "until the call that tries it again is over" in refusal.problem
        raise AssertionError("a second trial was let through")

    eventually(lambda: calls.health()["acme"].calls == 4)
    assert is_refused()
    hanging.released.set()
    trial.join(PATIENCE_S)
    assert calls.health()["acme"].circuit == "closed"


def test_pvcs_own_plugins_are_never_left_out(calls: PluginCalls) -> None:
    for _ in range(5):
        with pytest.raises(PluginError):
            calls.ask("ours", lambda: 1 / 0)
    assert calls.ask("ours", lambda: "answered") == "answered"
    assert (calls.health()["ours"].failures, calls.health()["ours"].circuit) == (5, "closed")


def test_health_says_what_went_wrong_last_and_when(calls: PluginCalls, clock: ManualClock) -> None:
    calls.ask("acme", lambda: "answered")
    failing(calls, times=2)
    clock.advance(90)
    health = calls.health()["acme"]
    assert (health.calls, health.failures, health.strikes) == (3, 2, 2)
    assert health.last_error == "ZeroDivisionError: division by zero"
    assert (health.last_error_at, health.last_error_age_s) == ("2026-01-01T00:00:00Z", 90)


def test_that_a_plugin_is_left_out_is_logged_once_and_so_is_its_return() -> None:
    code = """
        import structlog
        from pvc_core.errors import PluginError
        from pvc_core.plugin_calls import PluginCalls, log_failure
        from pvc_core.testing.manual_clock import ManualClock

        structlog.configure(processors=[lambda _logger, level, event: f"{level} {event['event']}"])
        clock = ManualClock()
        calls = PluginCalls(clock=clock)
        for _ in range(10):
            try:
                calls.ask("acme", lambda: 1 / 0)
            except PluginError as failure:
                log_failure(failure)
        clock.advance(30)
        calls.ask("acme", lambda: "answered")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert [line for line in run.stdout.splitlines() if not line.startswith("debug")] == [
        "warning plugin_failed",
        "warning plugin_failed",
        "warning plugin_left_out",
        "warning plugin_failed",
        "info plugin_answers_again",
    ]


# ------------------------------------------------------------------------------------------------ fencing


class Agent:
    """A fence agent that does what a function does."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        verdict: FenceVerdict = self._answer()
        return verdict

    def status(self, request: FenceRequest) -> FenceStatus:
        status: FenceStatus = self._answer()
        return status


def fenced_by(
    answer: Callable[[], Any], calls: PluginCalls, plugin: str = "acme", deadline_s: float = PATIENCE_S
) -> FenceVerdict:
    entry = FenceAgentEntry("acme-pdu", "outlets", Agent(answer), deadline_s=deadline_s, plugin=plugin)
    return fence(entry, FenceRequest("hv1"), calls, NO_OPTIONS)


@pytest.mark.parametrize("plugin", ["acme", "ours"])
def test_a_fence_agent_that_hangs_has_not_confirmed_anything(calls: PluginCalls, hanging: Hanging, plugin: str) -> None:
    verdict = fenced_by(hanging, calls, plugin, SHORT_S)
    assert not verdict.confirmed
    assert "has not answered within 0.05 s" in verdict.detail


def test_a_fence_agent_is_asked_also_when_its_last_attempts_failed(calls: PluginCalls) -> None:
    for _ in range(5):
        assert not fenced_by(lambda: 1 / 0, calls).confirmed
    assert calls.health()["acme"].circuit == "open"
    assert fenced_by(lambda: FenceVerdict(True, "the outlet is off"), calls).confirmed


def test_what_a_left_out_plugin_would_have_said_is_never_taken_for_a_confirmation(
    clock: ManualClock, hanging: Hanging
) -> None:
    calls = PluginCalls(clock=clock, limits=CallLimits(insisted=1))
    assert not fenced_by(hanging, calls, deadline_s=SHORT_S).confirmed
    refused = fenced_by(lambda: FenceVerdict(True, "off"), calls)
    assert not refused.confirmed
    assert "1 of its calls hang" in refused.detail
