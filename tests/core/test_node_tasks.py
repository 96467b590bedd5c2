# SPDX-License-Identifier: Apache-2.0
"""node_tasks: which tasks a node's daemon begins, and what has become of those that an earlier life of it had begun."""

from __future__ import annotations

from typing import Any

from pvc_core.node_tasks import QUESTIONS_AT_ONCE, TASKS_AT_ONCE, BeginTask, EndTask, decide
from pvc_core.task_records import TaskRecord, TaskState

NOW, BEFORE = "this-life", "an-earlier-life"
KINDS = {"wipe": False, "copy": True}


def a_task(identity: str = "1", kind: str = "wipe", **fields: Any) -> TaskRecord:
    return TaskRecord(id=identity, node="hv1", kind=kind, title="wipe sdb", **fields)


def running(identity: str = "1", kind: str = "wipe", incarnation: str = BEFORE, **fields: Any) -> TaskRecord:
    return a_task(identity, kind, state=TaskState.RUNNING, incarnation=incarnation, **fields)


def test_tasks_begin_in_the_order_in_which_they_were_given_and_only_some_at_a_time() -> None:
    tasks = [a_task(str(number)) for number in range(TASKS_AT_ONCE + 2)]
    begun = decide(tasks, {}, NOW, KINDS)
    assert [action.id for action in begun] == [str(number) for number in range(TASKS_AT_ONCE)]
    here = [running("x", incarnation=NOW), *tasks]
    assert [action.id for action in decide(here, {"x": False}, NOW, KINDS)] == ["0", "1", "2"]


def test_one_that_nobody_on_the_node_can_carry_out_has_failed_and_keeps_nothing_else_from_beginning() -> None:
    unknown, known = decide([a_task("1", "paint"), a_task("2")], {}, NOW, KINDS)
    assert unknown == EndTask("1", TaskState.FAILED, "no plugin on hv1 carries out paint")
    assert known == BeginTask("2", "hv1 has begun")


def test_one_that_died_with_the_daemon_has_failed_and_says_where_it_was() -> None:
    (action,) = decide([running(sentence="wiping sector 7")], {}, NOW, KINDS)
    assert isinstance(action, EndTask)
    assert action.state is TaskState.FAILED
    assert action.reason == "the daemon of hv1 that carried it out has ended while it was at: wiping sector 7"


def test_one_that_may_be_begun_again_is() -> None:
    (action,) = decide([running(kind="copy")], {}, NOW, KINDS)
    assert isinstance(action, BeginTask)
    assert action.resumed


def test_one_that_was_called_off_meanwhile_is_not_begun_again() -> None:
    (action,) = decide([running(kind="copy", cancelling=True)], {}, NOW, KINDS)
    assert isinstance(action, EndTask)
    assert action.state is TaskState.CANCELLED


def test_one_that_this_life_has_said_it_begins_and_has_not_begins_for_the_first_time() -> None:
    assert decide([running(incarnation=NOW)], {}, NOW, KINDS) == [BeginTask("1", "hv1 has begun")]


def test_what_runs_here_or_is_over_is_left_alone() -> None:
    over = a_task("2", state=TaskState.DONE)
    assert decide([running(incarnation=NOW), over], {"1": False}, NOW, KINDS) == []


def test_questions_do_not_wait_for_tasks_nor_tasks_for_questions() -> None:
    here = {f"task{number}": False for number in range(TASKS_AT_ONCE)}
    asked = [a_task(str(number), question=True) for number in range(QUESTIONS_AT_ONCE + 1)]
    assert [action.id for action in decide([*asked, a_task("9")], here, NOW, KINDS)] == ["0", "1"]
    withdrawn = {str(number): True for number in range(-QUESTIONS_AT_ONCE, 0)}  # their plugin has not noticed yet
    assert [action.id for action in decide([*asked, a_task("9")], withdrawn, NOW, KINDS)] == ["9"]
