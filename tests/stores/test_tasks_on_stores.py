# SPDX-License-Identifier: Apache-2.0
"""A node's tasks on real stores: given, begun, followed, ended, called off, what the daemon's death does to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_core import layout, task_changes
from pvc_core.errors import InvalidInput, NotFound, Refused, TooLarge
from pvc_core.ports import ClusterStore, Create
from pvc_core.task_changes import MAX_OPEN
from pvc_core.task_commands import forget_tasks
from pvc_core.task_entries import NodeTask
from pvc_core.testing.store_harness import StoreHarness
from pvc_lab.waiting import wait_for
from stores.node_with_tasks import DEADLINE_S, Node
from stores.sqlite_harness import SqliteHarness
from stores.zookeeper_harness import ZooKeeperHarness


@pytest.fixture(params=["sqlite", pytest.param("zookeeper", marks=pytest.mark.zookeeper)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterStore]:
    harness: StoreHarness
    if request.param == "sqlite":
        harness = SqliteHarness(tmp_path)
    else:
        harness = ZooKeeperHarness(request.getfixturevalue("zookeeper"))
    made = harness.new_store()
    made.ensure(layout.DIRECTORIES)
    yield made
    harness.close()


@pytest.fixture
def node(store: ClusterStore) -> Iterator[Node]:
    made = Node(store)
    yield made
    made.close()


def test_a_task_is_carried_out_with_progress_and_its_result_is_kept(node: Node) -> None:
    node.life()
    identity = node.give()
    seen = node.wait(identity, lambda task: task.done == 3)
    assert (seen.state, seen.total, seen.sentence, seen.settled) == ("running", 10, "wiping sector 3", False)
    node.plugin.go.set()
    ended = node.wait_for_state(identity, "done")
    assert (ended.result, ended.settled, ended.node) == ({"wiped": "sdb"}, True, "hv1")
    assert task_changes.read_queue(node.store, "hv1").value.tasks == ()  # type: ignore[union-attr]
    assert node.told() == [("task_given", "api:ci"), ("task_done", "agent:hv1")]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("refuse", "sdb: it is in use"),
        ("crash", "plugin acme: SystemExit: no more"),
        ("nonsense", "result: cannot be kept as JSON: Object of type object is not JSON serializable"),
    ],
)
def test_one_that_fails_keeps_the_reason_and_is_told(node: Node, kind: str, reason: str) -> None:
    node.life()
    ended = node.wait_for_state(node.give(kind), "failed")
    assert ended.reason == reason
    assert node.told()[-1] == ("task_failed", "agent:hv1")


def test_one_that_waits_for_its_daemon_is_begun_by_its_next_life(node: Node) -> None:
    identity = node.give()
    assert node.commands.task(identity).state == "waiting"
    node.plugin.go.set()
    node.life()
    node.wait_for_state(identity, "done")


def test_after_the_death_of_the_daemon_it_has_failed_or_is_begun_again_if_it_says_so(node: Node) -> None:
    node.life()
    lost, again = node.give("work"), node.give("again")
    for identity in (lost, again):
        node.wait(identity, lambda task: task.done == 3)
    node.die()
    node.life()
    failed = node.wait_for_state(lost, "failed")
    assert failed.reason == "the daemon of hv1 that carried it out has ended while it was at: wiping sector 3"
    wait_for(lambda: len(node.plugin.requests) == 3, "the other to be begun again", deadline_s=DEADLINE_S)
    assert node.plugin.requests[-1].resumed
    node.plugin.go.set()
    node.wait_for_state(again, "done")


def test_a_daemon_that_may_not_act_begins_nothing_and_what_runs_goes_on_and_is_written_later(node: Node) -> None:
    runner = node.life()
    running = node.give()
    node.wait(running, lambda task: task.done == 3)
    node.may_act = False
    waiting = node.give()
    node.plugin.go.set()
    asked = node.asked
    runner.wake()
    wait_for(lambda: node.asked >= asked + 2, "two rounds", deadline_s=DEADLINE_S)  # the task's end wakes it as well
    assert node.commands.task(waiting).state == "waiting"
    node.may_act = True
    runner.wake()
    node.wait_for_state(running, "done")
    node.wait_for_state(waiting, "done")


def test_one_that_is_called_off_before_it_begins_never_does(node: Node) -> None:
    identity = node.give()
    view, reason = node.commands.cancel_task(identity)
    assert (view.state, reason) == ("cancelled", "called off before it began")
    node.life()
    node.plugin.go.set()
    node.wait_for_state(node.give(), "done")
    assert len(node.plugin.requests) == 1
    with pytest.raises(Refused, match="it is over: cancelled"):
        node.commands.cancel_task(identity)


def test_one_that_runs_and_is_called_off_ends_at_its_next_report(node: Node) -> None:
    node.life()
    identity = node.give()
    node.wait(identity, lambda task: task.done == 3)
    view, reason = node.commands.cancel_task(identity)
    assert (view.cancelling, reason) == (True, "wipe sdb: it is asked to end")
    assert node.wait_for_state(identity, "cancelled").reason == "called off"


def test_a_task_for_nobody_or_with_what_cannot_be_kept_is_refused(node: Node) -> None:
    with pytest.raises(NotFound):
        node.commands.give_task(NodeTask("hv9", "work", "wipe"), "acme")
    with pytest.raises(InvalidInput, match="is no task of the plugin other"):
        node.commands.give_task(NodeTask("hv1", "work", "wipe"), "other")
    with pytest.raises(InvalidInput, match="parameters"):
        node.give(what=object())
    with pytest.raises(TooLarge):
        node.give(what="x" * 70_000)
    assert node.commands.tasks().tasks == ()


def test_a_node_takes_so_many_tasks_and_no_more(node: Node) -> None:
    for _ in range(MAX_OPEN):
        node.give()
    with pytest.raises(Refused, match="have not ended there"):
        node.give()


def test_those_that_have_ended_are_forgotten_the_oldest_first_and_open_ones_never(node: Node) -> None:
    node.store.transaction([Create(layout.LEADER_EPOCH, b"")])
    still_open, *ended = sorted(node.give() for _ in range(5))  # of one millisecond they are as chance has it
    for identity in ended:
        node.commands.cancel_task(identity)
    assert forget_tasks(node.store, epoch=0, kept=2) == 2
    assert [task.id for task in node.commands.tasks("hv1").tasks] == [still_open, *ended[2:]]
    assert forget_tasks(node.store, epoch=0, kept=2) == 0
