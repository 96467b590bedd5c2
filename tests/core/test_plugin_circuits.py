# SPDX-License-Identifier: Apache-2.0
"""When a plugin is left out and when it is tried again, on a clock that a test moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pvc_core.plugin_circuits import CLOSED, Circuit, CircuitRules

RULES = CircuitRules(strikes=3, pause_s=30, longest_pause_s=600)


def struck(times: int, at_s: float = 0.0) -> Circuit:
    """A circuit after so many failures at one moment."""
    circuit = CLOSED
    for _ in range(times):
        circuit = circuit.failed(at_s, RULES)
    return circuit


def after_a_failed_trial(circuit: Circuit, at_s: float) -> Circuit:
    return circuit.entered().failed(at_s, RULES)


def test_two_failures_leave_it_closed_and_the_third_opens_it() -> None:
    assert struck(2).state(0) == "closed"
    assert struck(2).admits(0)
    assert struck(3).state(0) == "open"
    assert not struck(3).admits(29.9)


def test_a_success_between_failures_starts_the_count_anew() -> None:
    assert struck(2).succeeded().failed(0, RULES).strikes == 1


def test_after_the_pause_exactly_one_call_is_let_through() -> None:
    circuit = struck(3)
    assert (circuit.state(30), circuit.admits(30)) == ("half-open", True)
    assert not circuit.entered().admits(30)


def test_a_trial_that_succeeds_closes_it() -> None:
    assert struck(3).entered().succeeded() == CLOSED


def test_a_trial_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    circuit, now_s, pauses = struck(3), 0.0, []
    for _ in range(7):
        pauses.append(circuit.retry_in_s(now_s))
        now_s += pauses[-1]
        circuit = after_a_failed_trial(circuit, now_s)
    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def test_a_trial_whose_caller_was_interrupted_leaves_the_trial_to_the_next_call() -> None:
    assert struck(3).entered().broken_off().admits(30)


def test_calls_that_began_before_it_opened_do_not_lengthen_the_pause() -> None:
    late = struck(3).failed(25, RULES)
    assert (late.strikes, late.retry_in_s(25)) == (4, 5)


STEPS = st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=200)


@given(STEPS)
def test_whatever_happens_it_is_asked_again_and_a_working_plugin_closes_it(steps: list[tuple[float, bool]]) -> None:
    circuit, now_s = CLOSED, 0.0
    for passed_s, succeeds in steps:
        now_s += passed_s
        if circuit.admits(now_s):
            circuit = circuit.entered()
            circuit = circuit.succeeded() if succeeds else circuit.failed(now_s, RULES)
        assert circuit.retry_in_s(now_s) <= RULES.longest_pause_s
        assert circuit.admits(now_s + circuit.retry_in_s(now_s))
    later_s = now_s + RULES.longest_pause_s
    assert circuit.admits(later_s)
    assert circuit.entered().succeeded().state(later_s) == "closed"


@given(STEPS)
def test_an_open_circuit_has_at_least_three_failures_behind_it(steps: list[tuple[float, bool]]) -> None:
    circuit, now_s = CLOSED, 0.0
    for passed_s, succeeds in steps:
        now_s += passed_s
        circuit = circuit.succeeded() if succeeds else circuit.failed(now_s, RULES)
        assert circuit.state(now_s) == "closed" or circuit.strikes >= RULES.strikes
