# SPDX-License-Identifier: Apache-2.0
"""self_fence: what a node promises by its watchdog is true, and it is fed only while the store answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc_core import leader_fence
from pvc_core.fence_memory import ConfirmFence, FenceMemory, look
from pvc_core.model import FenceReport, FenceStep, Settings
from pvc_core.self_fence import Arm, Disarm, Feed, Promise, SelfFenceAction, Situation, Starve, decide, promise_of
from pvc_core.testing.builders import a_node, a_snapshot, a_vm

FED = Situation(owns_vms=True, is_registered=True, silent_s=0.1, armed_s=10.0, promised_s=20.0, timeout_s=10.0)
IDLE = replace(FED, owns_vms=False, armed_s=0.0, promised_s=0.0)


def kinds(situation: Situation) -> list[type[SelfFenceAction]]:
    return [type(action) for action in decide(situation)]


# ------------------------------------------------------------------------------------------------- in order


def test_a_node_without_vms_arms_nothing() -> None:
    assert decide(IDLE) == ()


def test_a_node_with_vms_arms_first_and_promises_then() -> None:
    owning = replace(IDLE, owns_vms=True)
    assert decide(owning) == (Arm("VMs are to run here"),)
    assert decide(replace(owning, armed_s=10.0)) == (
        Feed("the store has answered"),
        Promise(20.0, "it ends this host 20 s after the end of its session at the latest"),
    )
    assert kinds(FED) == [Feed]


def test_it_takes_its_promise_back_first_and_disarms_then() -> None:
    emptied = replace(FED, owns_vms=False)
    assert decide(emptied) == (Feed("the store has answered"), Promise(0.0, "no VM is to run here"))
    assert decide(replace(emptied, promised_s=0.0)) == (Disarm("no VM is to run here"),)


def test_in_a_maintenance_it_takes_its_promise_back_and_disarms_though_vms_run() -> None:
    paused = replace(FED, is_paused=True)
    assert decide(paused) == (Feed("the store has answered"), Promise(0.0, "it is in maintenance"))
    assert decide(replace(paused, promised_s=0.0)) == (Disarm("it is in maintenance"),)
    assert decide(replace(paused, armed_s=0.0, promised_s=0.0)) == ()


def test_a_node_that_has_lost_the_store_is_not_saved_by_a_maintenance_it_has_heard_of_before() -> None:
    assert kinds(replace(FED, is_paused=True, is_registered=False)) == [Starve]


def test_a_watchdog_that_an_earlier_life_may_have_left_is_taken_over_even_if_no_vm_is_left() -> None:
    found = replace(IDLE, armed_s=None)
    assert kinds(found) == [Arm]
    assert kinds(replace(found, armed_s=10.0)) == [Disarm]


def test_a_promise_that_no_watchdog_keeps_is_taken_back_before_anything_else() -> None:
    for armed_s in (0.0, None):
        assert decide(replace(FED, armed_s=armed_s)) == (Promise(0.0, "it is not armed"),)
    broken = replace(FED, problem="the device is gone")
    assert decide(broken) == (Promise(0.0, "it does not work: the device is gone"),)
    assert kinds(replace(broken, armed_s=None, promised_s=0.0)) == [Arm], "and then it is tried again"


def test_a_record_that_cannot_be_read_stops_neither_the_food_nor_the_watchdog() -> None:
    for owns_vms in (True, False):
        assert kinds(replace(FED, owns_vms=owns_vms, promised_s=None)) == [Feed]


# ------------------------------------------------------------------------------------------------- starving


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"is_registered": False}, "this node is not registered in a session with the store"),
        ({"silent_s": None}, "the store has not answered yet"),
        ({"silent_s": 5.1}, "the store has not answered for 5.1 s"),
    ],
    ids=["suspended, lost or not registered", "new session", "silent"],
)
@pytest.mark.parametrize("owns_vms", [True, False], ids=["with VMs", "without"])
def test_a_node_that_has_lost_the_store_is_not_fed_and_stays_armed(
    owns_vms: bool, fields: dict[str, object], why: str
) -> None:
    assert decide(replace(FED, owns_vms=owns_vms, **fields)) == (  # type: ignore[arg-type]
        Starve(f"{why}: it is not fed and ends this host"),
    )


def test_a_session_that_heals_in_time_is_fed_again() -> None:
    assert kinds(replace(FED, is_registered=False)) == [Starve]
    assert kinds(replace(FED, silent_s=0.0)) == [Feed]


def test_nothing_is_armed_without_the_store() -> None:
    assert decide(replace(IDLE, owns_vms=True, is_registered=False)) == ()


# ---------------------------------------------------------------------------------------------- what it proves

TIMEOUT_S = 10.0


def off_at_s(rounds: list[tuple[float, float, float]], session_timeout_s: float) -> tuple[float, float]:
    """When the node is off, and when its session ended, by one clock.

    It is armed at 0, and its daemon is then held up in every round before the request, between request and answer, and
    between the decision and the food, as long as these numbers say; after the last one for ever.
    """
    now_s, food_s, session_s = 0.0, 0.0, session_timeout_s
    for before_s, answer_s, hold_up_s in rounds:
        sent_s = now_s + before_s
        now_s = sent_s + answer_s
        if sent_s >= session_s or now_s >= food_s + TIMEOUT_S:
            break
        session_s = sent_s + session_timeout_s
        is_alive = now_s < session_s
        situation = replace(FED, is_registered=is_alive, silent_s=now_s - sent_s, timeout_s=TIMEOUT_S)
        if Feed not in kinds(situation):
            continue
        now_s += hold_up_s
        if now_s >= food_s + TIMEOUT_S:
            break
        food_s = now_s
    return food_s + TIMEOUT_S, session_s


def believed_off_at_s(promised_s: float, margin_s: float) -> float:
    """How long after it has seen the session gone a leader believes that the node is off."""
    fence = FenceReport(step=FenceStep.FENCING)
    node = a_node("hv1", alive=False, watchdog_s=promised_s, fence=fence)
    snapshot = a_snapshot([node, a_node("hv2")], [a_vm()], Settings(watchdog_margin_s=margin_s))
    memory = look(FenceMemory(), snapshot, 0.0)
    later_s = promised_s + margin_s
    assert not any(isinstance(a, ConfirmFence) for a in leader_fence.decide(snapshot, memory, later_s - 0.01).actions)
    assert any(isinstance(a, ConfirmFence) for a in leader_fence.decide(snapshot, memory, later_s).actions)
    return later_s


seconds = st.floats(0, 12, allow_nan=False)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(st.tuples(seconds, seconds, seconds), max_size=12), st.floats(0.5, 40))
def test_whatever_holds_the_daemon_up_the_node_is_off_before_the_leader_believes_it(
    rounds: list[tuple[float, float, float]], session_timeout_s: float
) -> None:
    off_s, session_ended_s = off_at_s(rounds, session_timeout_s)
    believed_s = session_ended_s + believed_off_at_s(promise_of(TIMEOUT_S), margin_s=1.0)
    assert off_s <= believed_s - session_timeout_s, "nothing is left over for the reset and the clocks"


def test_a_promise_of_the_watchdogs_time_alone_would_not_be_kept() -> None:
    held_up_after_the_answer = [(1.0, 0.0, 8.5)]
    off_s, session_ended_s = off_at_s(held_up_after_the_answer, session_timeout_s=2.0)
    assert off_s > session_ended_s + believed_off_at_s(TIMEOUT_S, margin_s=1.0)
    assert off_s <= session_ended_s + believed_off_at_s(promise_of(TIMEOUT_S), margin_s=1.0)
