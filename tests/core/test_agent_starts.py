# SPDX-License-Identifier: Apache-2.0
"""agent: of many VMs that are due to start at once the most important begin first, a few at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_guest import NOW_S, S, a_domain, by_uuid, decided

from pvc_core.agent import decide
from pvc_core.agent_actions import Action, Start
from pvc_core.agent_memory import NO_MEMORY, VmMemory
from pvc_core.agent_snapshot import AgentSnapshot, Seen
from pvc_core.agent_starts import START_PATIENCE_S
from pvc_core.model import Settings, VmRecord
from pvc_core.testing.builders import a_vm, uuid_of


def due(priorities: dict[str, int]) -> list[VmRecord]:
    return [a_vm(name, state="starting", priority=priority) for name, priority in priorities.items()]


def many(count: int) -> list[VmRecord]:
    return due({f"web{n:02}": 0 for n in range(count)})


def begun(
    vms: list[VmRecord], *busy: str, begun_s: float = NOW_S, now_s: float = NOW_S, **settings: object
) -> list[str]:
    """The names of the VMs whose start begins now, while those of `busy` are under way."""
    snapshot = AgentSnapshot(
        node="hv1",
        vms=by_uuid(vms),
        domains={},
        settings=Settings(**settings),  # type: ignore[arg-type]
        busy={uuid_of(name): Start(uuid_of(name), "") for name in busy},
        begun_s={uuid_of(name): begun_s for name in busy},
    )
    names = {uuid_of(vm.name): vm.name for vm in vms}
    return [names[done.uuid] for done in decide(snapshot, now_s).actions]


def test_a_node_begins_at_most_so_many_starts_at_one_time() -> None:
    assert len(begun(many(20))) == 8
    assert begun(many(20), "web00", "web01", parallel_starts=3) == ["web02"]
    assert begun(many(20), "web00", "web01", "web02", parallel_starts=3) == []


def test_the_most_important_run_before_the_others_are_asked() -> None:
    vms = due({"low": 1, "high": 10, "top": 10})
    assert begun(vms) == ["high", "top"]
    assert begun(vms, "high") == ["top"]
    assert begun(vms, "high", "top") == []
    running = [vm if vm.name == "low" else a_vm(vm.name, priority=10) for vm in vms]
    made = decided(*running, domains=[a_domain("high"), a_domain("top")])
    assert [done.uuid for done in made.actions] == [uuid_of("low")]


def test_a_less_important_start_that_is_under_way_does_not_hold_up_a_more_important_one() -> None:
    assert begun(due({"low": 1, "high": 10}), "low") == ["high"]


def test_a_start_that_hangs_holds_up_the_less_important_for_a_while_only() -> None:
    vms = due({"low": 1, "high": 10})
    assert begun(vms, "high", begun_s=NOW_S, now_s=NOW_S + START_PATIENCE_S - 1) == []
    assert begun(vms, "high", begun_s=NOW_S, now_s=NOW_S + START_PATIENCE_S) == ["low"]


@pytest.mark.parametrize("is_written", [False, True], ids=["found out now", "written, and pausing before its start"])
def test_what_has_ended_with_its_host_and_is_about_to_start_comes_before_the_less_important(is_written: bool) -> None:
    low, high = a_vm("low", state="starting", priority=1), a_vm("high", priority=10)
    if is_written:
        high = a_vm("high", state="starting", priority=10)
    memory = VmMemory(failures_s=(NOW_S - 0.1,)) if is_written else NO_MEMORY

    def made(absent_since_s: float) -> list[Action]:
        seen = {uuid_of(name): Seen("absent", absent_since_s) for name in ("low", "high")}
        snapshot = AgentSnapshot("hv1", by_uuid([low, high]), {}, Settings(), memory={high.uuid: memory}, seen=seen)
        return [done for done in decide(snapshot, NOW_S).actions if isinstance(done, Start)]

    assert made(NOW_S - 1) == []
    assert [start.uuid for start in made(NOW_S - START_PATIENCE_S)] == [low.uuid], "but not for ever"


def test_a_vm_that_waits_for_its_next_attempt_holds_up_nobody() -> None:
    made = decided(*due({"low": 1, "high": 10}), paused_until_s={uuid_of("high"): NOW_S + 1})
    assert [done.uuid for done in made.actions] == [uuid_of("low")]
    assert made.wake_at_s == NOW_S + 1


def test_with_a_pause_one_start_begins_after_another() -> None:
    vms, settings = many(3), Settings(start_stagger_s=5.0)
    first = decided(*vms, settings=settings)
    assert len(first.actions) == 1
    assert first.wake_at_s == NOW_S + 5
    soon = decided(*vms, settings=settings, last_start_s=NOW_S, now_s=NOW_S + 2)
    assert (soon.actions, soon.wake_at_s) == ((), NOW_S + 5)
    assert len(decided(*vms, settings=settings, last_start_s=NOW_S, now_s=NOW_S + 5).actions) == 1


def test_other_actions_do_not_wait_for_their_turn() -> None:
    stopping = [a_vm(f"off{n}", state="shutting-down") for n in range(9)]
    made = decided(*many(9), *stopping, domains=[a_domain(vm) for vm in stopping], settings=Settings(parallel_starts=1))
    assert sum(isinstance(done, Start) for done in made.actions) == 1
    assert len(made.actions) == 10


@given(
    st.lists(st.integers(min_value=-2, max_value=2), min_size=1, max_size=12),
    st.integers(min_value=1, max_value=4),
    st.sampled_from([0.0, 3.0]),
)
def test_all_start_in_the_end_by_priority_and_never_too_many_at_once(
    priorities: list[int], parallel: int, stagger_s: float
) -> None:
    vms = {vm.name: vm for vm in due({f"web{n:02}": p for n, p in enumerate(priorities)})}
    settings = Settings(parallel_starts=parallel, start_stagger_s=stagger_s)
    now_s, last_s, order = NOW_S, None, []
    busy: dict[str, Action] = {}
    for _ in range(100):
        snapshot = AgentSnapshot(
            "hv1",
            by_uuid(vms.values()),
            {},
            settings,
            busy=busy,
            begun_s=dict.fromkeys(busy, now_s),
            last_start_s=last_s,
        )
        made = decide(snapshot, now_s)
        for done in made.actions:
            busy[done.uuid], last_s = done, now_s
            order.append(next(vm.metadata.priority for vm in vms.values() if vm.uuid == done.uuid))
        assert len(busy) <= parallel
        if busy and not made.actions:
            ended = next(iter(busy))
            del busy[ended]
            vms = {name: vm for name, vm in vms.items() if vm.uuid != ended}
        elif not busy and not vms:
            break
        elif not made.actions:
            assert made.wake_at_s is not None
            now_s = made.wake_at_s
    assert order == sorted(priorities, reverse=True)


def test_a_vm_of_another_state_is_no_start() -> None:
    assert begun([a_vm(state=S.STOPPED)]) == []
