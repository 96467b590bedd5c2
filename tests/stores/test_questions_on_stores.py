# SPDX-License-Identifier: Apache-2.0
"""What a node is asked, on real stores: it is answered without an event, and nothing of it stays, whoever dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pvc_core import layout, task_changes
from pvc_core.cluster_view import ClusterView
from pvc_core.commands import Commands
from pvc_core.ports import ClusterStore, Set
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock
from pvc_core.task_entries import NodeTask
from pvc_core.testing.store_harness import StoreHarness
from pvc_lab.waiting import wait_for
from stores.node_with_tasks import DEADLINE_S, Node
from stores.sqlite_harness import SqliteHarness
from stores.zookeeper_harness import ZooKeeperHarness
from task_plugin import TaskPlugin


@pytest.fixture(params=["sqlite", pytest.param("zookeeper", marks=pytest.mark.zookeeper)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreHarness]:
    made: StoreHarness
    made = (
        SqliteHarness(tmp_path) if request.param == "sqlite" else ZooKeeperHarness(request.getfixturevalue("zookeeper"))
    )
    yield made
    made.close()


@pytest.fixture
def node(harness: StoreHarness) -> Iterator[Node]:
    store = harness.new_store()
    store.ensure(layout.DIRECTORIES)
    made = Node(store)
    yield made
    made.close()


class Asker:
    """A process that serves the API, with a session of its own."""

    def __init__(self, store: ClusterStore) -> None:
        self.store = store
        self.view = ClusterView(store, SystemClock())
        self.view.start()
        self.commands = Commands(self.view, store, Registry.of(acme=TaskPlugin()), SystemClock())

    def ask(self) -> str:
        return self.commands.give_question(NodeTask("hv1", "work", "look at sdb", {"device": "sdb"}), "acme").id

    def die(self) -> None:
        self.view.close()
        self.store.close()


@pytest.fixture
def asker(harness: StoreHarness, node: Node) -> Iterator[Asker]:
    made = Asker(harness.new_store())
    yield made
    made.die()


def left(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tasks that the store has, and those that the node has not ended."""
    queue = task_changes.read_queue(node.store, "hv1")
    return node.store.children(layout.TASKS), queue.value.tasks if queue else ()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    wait_for(holds, what, deadline_s=DEADLINE_S)


def test_it_is_answered_without_any_event_and_once_withdrawn_nothing_is_left_of_it(node: Node, asker: Asker) -> None:
    node.life()
    node.plugin.go.set()
    identity = asker.ask()
    assert node.wait_for_state(identity, "done").result == {"wiped": "sdb"}
    asker.commands.withdraw_question(identity)
    asker.commands.withdraw_question(identity)
    assert left(node) == ((), ())
    assert node.told() == []


def test_one_that_fails_or_is_called_off_is_no_event_either(node: Node, asker: Asker) -> None:
    refused = asker.commands.give_question(NodeTask("hv1", "refuse", "look at sdb"), "acme").id
    called_off = asker.ask()
    node.commands.cancel_task(called_off)
    node.life()
    assert node.wait_for_state(refused, "failed").reason == "sdb: it is in use"
    assert node.told() == []


def test_one_that_is_withdrawn_before_it_is_begun_never_is(node: Node, asker: Asker) -> None:
    asker.commands.withdraw_question(asker.ask())
    assert left(node) == ((), ())
    node.plugin.go.set()
    node.life()
    node.wait_for_state(node.give(), "done")
    assert len(node.plugin.requests) == 1


def test_one_that_is_withdrawn_while_it_runs_ends_and_the_node_goes_on(node: Node, asker: Asker) -> None:
    node.life()
    identity = asker.ask()
    node.wait(identity, lambda task: task.done == 3)
    asker.commands.withdraw_question(identity)
    assert left(node) == ((), ())
    node.plugin.go.set()
    node.wait_for_state(node.give(), "done")
    assert left(node)[1] == ()


def test_when_the_asker_dies_the_question_goes_with_it_and_the_node_forgets_it(node: Node, asker: Asker) -> None:
    identity = asker.ask()
    task = node.give()
    asker.die()
    wait_until(lambda: left(node)[0] == (task,), "the question to go with the session of who asked it")
    assert left(node)[1] == (identity, task)
    node.plugin.go.set()
    node.life()
    node.wait_for_state(task, "done")
    assert left(node) == ((task,), ())
    assert len(node.plugin.requests) == 1


def test_when_the_asker_dies_while_it_is_answered_nothing_of_it_stays(node: Node, asker: Asker) -> None:
    node.life()
    node.wait(asker.ask(), lambda task: task.done == 3)
    asker.die()
    wait_until(lambda: left(node) == ((), ()), "the question to go")
    assert node.told() == []


def test_a_record_that_does_not_parse_is_no_question_that_has_gone(node: Node, asker: Asker) -> None:
    identity = node.give()
    entry = node.store.get(layout.task(identity))
    assert entry is not None
    node.store.transaction([Set(entry.key, b"{", entry.version)])
    node.plugin.go.set()
    node.life()
    node.wait_for_state(node.give(), "done")
    assert left(node)[1] == (identity,)
