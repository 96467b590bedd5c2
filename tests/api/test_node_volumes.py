# SPDX-License-Identifier: Apache-2.0
"""/storage/<backend>/node/{node}/pool/{pool}/volume, of a third party's backend: the node is asked, and waited for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually
from contributed_process import asking, served_with

from pvc_core import ApiResource, NodeTaskEntry, StorageBackendEntry, hookimpl, layout
from pvc_core.contributions import ApiSite, api_method
from pvc_core.event_log import EventLog
from pvc_core.journal import Journal
from pvc_core.plugin_types import NO_OPTIONS
from pvc_core.ports import Delete
from pvc_core.storage import StorageCapability, StorageSite
from pvc_core.storage_on_nodes import node_volume_resources, volume_tasks
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.task_entries import NodeTask
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_core.vm_volumes import VmVolume
from pvc_core.volume_claims import new_claim
from pvc_daemon.task_runner import TaskRunner
from task_plugin import TaskPlugin

MIB = 2**20
AT = "/storage/acme/node/hv1/pool/own/volume"


class Answer(msgspec.Struct, frozen=True):
    """What the node answered."""

    wiped: str


class Impatient:
    """/impatient"""

    def __init__(self, site: ApiSite) -> None:
        self._site = site

    @api_method("operator", Answer, problems=(409, 504))
    def on_get(self, req: Any, resp: Any) -> None:
        """Ask a node, and do not wait long."""
        resp.media = self._site.ask_node(NodeTask("hv1", "work", "look at sdb", {"device": "sdb"}), 0.3)


class Acme(TaskPlugin):
    """Each node has the pool `own` for itself; and a resource asks for what takes long."""

    def __init__(self) -> None:
        super().__init__()
        capabilities = set(StorageCapability) - {StorageCapability.SHARED}
        self.storage = MemoryStorage({"own": 2**40}, capabilities=capabilities, name="acme")

    def has(self, *names: str) -> None:
        for name in names:
            self.storage.open(StorageSite("hv1")).create_volume("own", name, MIB)

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.storage.entry()]

    @hookimpl
    def pvc_node_tasks(self) -> list[NodeTaskEntry]:
        return [*TaskPlugin.pvc_node_tasks(self), *volume_tasks(self.storage.entry())]

    @hookimpl
    def pvc_api_resources(self) -> list[ApiResource]:
        return [*node_volume_resources(self.storage.entry()), ApiResource("/impatient", Impatient, "Asks")]


@pytest.fixture
def acme() -> Acme:
    return Acme()


@pytest.fixture
def process(cluster: Cluster, acme: Acme) -> Iterator[ApiProcess]:
    made = served_with(cluster, acme=acme)
    yield made
    made.waiter.stop()
    made.connection.close()


@pytest.fixture
def api(process: ApiProcess) -> Iterator[httpx.Client]:
    with asking(process, "operator") as client:
        yield client


@pytest.fixture
def daemon(cluster: Cluster, process: ApiProcess, acme: Acme) -> Iterator[TaskRunner]:
    """What carries out hv1's tasks."""
    clock = SystemClock()
    runner = TaskRunner(
        "hv1",
        cluster.store,
        process.services.registry.node_tasks,
        lambda _plugin: NO_OPTIONS,
        clock,
        lambda: True,
        Journal(clock),
        SYSTEM_THREADS,
    )
    runner.start()
    yield runner
    acme.go.set()
    runner.close()


def left(cluster: Cluster) -> tuple[tuple[str, ...], bytes]:
    """What the store has of tasks, with the node's queue."""
    queue = cluster.store.get(layout.task_queue("hv1"))
    return cluster.store.children(layout.TASKS), queue.data if queue else b""


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    document = answer.json()
    return answer.status_code, document["code"], document["detail"]


def test_a_nodes_volumes_are_listed_with_their_vms_and_nothing_of_the_question_stays(
    api: httpx.Client, cluster: Cluster, acme: Acme, daemon: TaskRunner
) -> None:
    acme.has("web1", "old")
    vm = a_vm("web1", state="stopped")
    cluster.has([a_node("hv1")], [vm])
    volume = VmVolume(device="vda", backend="acme", pool="own", name="web1", node="hv1")
    claim = new_claim(volume, vm, "now", "attached")
    cluster.put(claim.key, claim)
    eventually(lambda: api.get("/vm").json()["total"] == 1)
    answer = api.get(AT).json()
    assert answer == {
        "volumes": [
            {"pool": "own", "name": "old", "size_bytes": MIB, "used_bytes": MIB, "vm": ""},
            {"pool": "own", "name": "web1", "size_bytes": MIB, "used_bytes": MIB, "vm": "web1"},
        ],
        "total": 2,
        "more": False,
    }
    tasks, queue = left(cluster)
    assert (tasks, b'"tasks":[]' in queue) == ((), True)
    assert [event.kind for event in EventLog(cluster.store).last(10).events if event.kind.startswith("task")] == []


def test_they_come_in_pages_which_say_how_many_there_are(api: httpx.Client, acme: Acme, daemon: TaskRunner) -> None:
    acme.has("a", "b", "c")
    first = api.get(f"{AT}?limit=2").json()
    rest = api.get(f"{AT}?limit=2&after=b").json()
    assert [[each["name"] for each in page["volumes"]] for page in (first, rest)] == [["a", "b"], ["c"]]
    assert [(page["total"], page["more"]) for page in (first, rest)] == [(3, True), (3, False)]
    assert api.get(f"{AT}?limit=-1").status_code == 422


def test_what_the_node_refuses_is_its_answer(api: httpx.Client, daemon: TaskRunner, cluster: Cluster) -> None:
    refused = problem(api.get("/storage/acme/node/hv1/pool/none/volume"))
    assert refused[:2] == (409, "refused")
    assert refused[2].startswith("hv1: no pool is called 'none'")
    assert left(cluster)[0] == ()


def test_a_node_that_is_not_there_or_whose_daemon_is_away_is_not_asked(api: httpx.Client, cluster: Cluster) -> None:
    assert problem(api.get(AT.replace("hv1", "hv9")))[:2] == (404, "not_found")
    member = cluster.store.get(layout.member("hv1"))
    assert member is not None
    cluster.store.transaction([Delete(member.key, member.version)])
    eventually(lambda: api.get("/node/hv1").json()["liveness"] == "lost")
    assert problem(api.get(AT)) == (409, "refused", "hv1: its daemon is lost, and nothing else could do this there")


def test_an_answer_that_does_not_come_is_waited_for_so_long_and_no_longer(
    api: httpx.Client, cluster: Cluster, daemon: TaskRunner
) -> None:
    assert problem(api.get("/impatient")) == (
        504,
        "deadline_exceeded",
        "still waiting for hv1 to look at sdb after 0.3 s",
    )
    assert left(cluster)[0] == ()


def test_a_daemon_that_begins_nothing_is_said_to(api: httpx.Client, cluster: Cluster) -> None:
    said = "still waiting for hv1 to look at sdb, which it has not begun after 0.3 s"
    assert problem(api.get("/impatient")) == (504, "deadline_exceeded", said)
    assert left(cluster)[0] == ()


def test_whoever_waits_is_told_when_the_daemon_goes_or_the_process_is_to_end(
    process: ApiProcess, api: httpx.Client, cluster: Cluster
) -> None:
    def die(entries: object) -> None:
        member = cluster.store.get(layout.member("hv1"))
        if entries and member is not None:
            cluster.store.transaction([Delete(member.key, member.version)])

    with_question = cluster.store.mirror(layout.TASKS, die)
    said = problem(api.get(AT))
    with_question.cancel()
    assert said == (409, "refused", "hv1: its daemon is lost, and nothing else could say this")
    process.waiter.stop()
    cluster.has([a_node("hv1")])
    eventually(lambda: api.get("/node/hv1").json()["liveness"] == "alive")
    assert problem(api.get(AT))[:2] == (504, "deadline_exceeded")
    assert left(cluster)[0] == ()
