# SPDX-License-Identifier: Apache-2.0
"""Tasks on real daemons: one that is killed in the middle of a task knows of it when it is back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from installed_module import install_module
from operators import DEADLINE_S, Operator, an_operator, running
from pvc_core.commands import Commands
from pvc_core.event_log import EventLog
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock
from pvc_core.task_entries import NodeTask
from pvc_core.task_records import TaskView
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for

PLUGIN = """
    import threading

    from pvc_core import NodeTaskEntry, hookimpl

    def work(request, report):
        report(0, 2, "the first half")
        if not request.resumed:
            threading.Event().wait()
        report(1, 2, "the second half")
        return {"node": request.node}

    @hookimpl
    def pvc_node_tasks():
        return [
            NodeTaskEntry("once", "is lost with the daemon", work),
            NodeTaskEntry("again", "is begun again", work, resumable=True),
        ]
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedCluster]:
    """Daemons with that plugin, which this process has too."""
    install_module(tmp_path / "site", "acme-tasks", PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with running(EmbeddedCluster(tmp_path)) as cluster:
        yield cluster


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        yield operator


def test_a_daemon_that_is_killed_during_a_task_says_so_when_it_is_back_and_begins_again_what_it_may(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    commands = Commands(operator.view, operator.store, Registry.load(), SystemClock())

    def wait(identity: str, state: str, sentence: str = "") -> TaskView:
        def there() -> bool:
            task = commands.task(identity)
            return task.state == state and sentence in task.sentence

        wait_for(there, f"{identity} to be {state}", deadline_s=DEADLINE_S)
        return commands.task(identity)

    once, again = (commands.give_task(NodeTask("hv1", kind, kind), "acme-tasks").id for kind in ("once", "again"))
    for identity in (once, again):
        wait(identity, "running", "the first half")
    cluster.stop("hv1", signal.SIGKILL)
    cluster.start_daemon("hv1")

    assert "the daemon of hv1 that carried it out has ended" in wait(once, "failed").reason
    assert wait(again, "done").result == {"node": "hv1"}
    told = [(event.kind, event.node, event.by) for event in EventLog(operator.store).last(1000).events]
    assert ("task_failed", "hv1", "agent:hv1") in told
    assert ("task_done", "hv1", "agent:hv1") in told
