# SPDX-License-Identifier: Apache-2.0
"""Questions to the API: plans, capacity, snapshots, and where a VM that does not exist would go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually

from pvc_api.authentication import Role
from pvc_core import layout
from pvc_core.model import VmRecord
from pvc_core.plan_record import PlanRecord
from pvc_core.snapshot import NodeView
from pvc_core.snapshot_file import read_snapshot
from pvc_core.testing.builders import a_node, a_vm

Ask = Callable[..., httpx.Client]


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def asked_of(cluster: Cluster, clients: ExitStack) -> Ask:
    """A client of a process that has seen a cluster of these nodes and VMs."""

    def asked(nodes: list[NodeView], vms: list[VmRecord], role: Role = "viewer") -> httpx.Client:
        cluster.has(nodes, vms)
        process = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
        process.connection.open()
        clients.callback(process.connection.close)
        return clients.enter_context(process.client(process.token(role)))

    return asked


def test_a_flush_is_planned_and_nothing_changes(asked_of: Ask, cluster: Cluster) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("web1"), a_vm("db1", node_limit=("hv1",))])
    before = cluster.snapshot.nodes["hv1"]
    plan = api.get("/node/hv1/plan").json()
    assert [(step["vm"], step["from"], step["to"], step["action"], step["after"]) for step in plan["steps"]] == [
        ("db1", "hv1", "hv1", "shutdown", []),
        ("web1", "hv1", "hv2", "migrate", []),
    ]
    assert (plan["complete"], plan["proven"], plan["stay"]) == (False, True, [])
    assert (plan["kind"], plan["subject"]) == ("flush", "hv1")
    assert set(plan["basis"]["vms"]) == {"web1", "db1"}
    assert cluster.snapshot.nodes["hv1"].record == before.record


def test_a_migration_is_planned_with_what_makes_room_for_it(asked_of: Ask) -> None:
    vms = [a_vm("large", memory_mib=3000), a_vm("small", node="hv2", memory_mib=1000)]
    api = asked_of([a_node("hv1"), a_node("hv2"), a_node("hv3")], vms)
    alone = api.get("/vm/large/plan", params={"target": "hv2"}).json()
    assert [stay["vm"] for stay in alone["stay"]] == ["large"]
    together = api.get("/vm/large/plan", params={"target": "hv2", "make_room": "true"}).json()
    assert [(step["vm"], step["after"]) for step in together["steps"]] == [("small", []), ("large", [0])]
    assert api.get("/vm/large/plan", params={"action": "move"}).json()["kind"] == "move"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/node/hv9/plan", 404, "not_found"),
        ("/vm/nobody/plan", 404, "not_found"),
        ("/vm/off1/plan", 409, "refused"),
        ("/vm/off1/plan?action=fly", 422, "invalid_input"),
        ("/cluster/capacity?node=hv9", 404, "not_found"),
        ("/cluster/capacity?fit_memory_mib=512", 422, "invalid_input"),
        ("/cluster/capacity?fit_memory_mib=0&fit_vcpus=1", 422, "invalid_input"),
        ("/cluster/placement", 422, "invalid_input"),
        ("/cluster/placement?memory_mib=512&node_limit=hv9", 422, "invalid_input"),
        ("/cluster/placement?memory_mib=512&node_selector=best", 422, "invalid_input"),
    ],
)
def test_what_makes_no_sense_is_refused(asked_of: Ask, path: str, status: int, code: str) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("off1", state="stopped")])
    answer = api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_capacity_names_who_would_not_come_back_and_how_many_more_fit(asked_of: Ask) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("pinned", memory_mib=1024, node_limit=("hv1",))])
    found = api.get("/cluster/capacity", params={"fit_memory_mib": 1024, "fit_vcpus": 1}).json()
    assert [vm["vm"] for vm in found["nodes"]["hv1"]["stranded"]] == ["pinned"]
    assert found["nodes"]["hv2"] == {"survivable": True, "stranded": [], "proven": True}
    assert found["fit"] == 5
    assert list(api.get("/cluster/capacity", params={"node": "hv2"}).json()["nodes"]) == ["hv2"]


def test_where_a_vm_that_does_not_exist_would_go(api: httpx.Client) -> None:
    asked = {"memory_mib": 512, "vcpus": 2, "node_limit": "hv2, hv1", "node_selector": "vms", "tags": "a,b"}
    decision = api.get("/cluster/placement", params=asked).json()
    assert (decision["vm"], decision["node"], decision["selector"]) == ("new", "hv1", "vms")
    assert api.get("/cluster/placement", params={"memory_mib": 8192}).json()["node"] == ""


def test_a_snapshot_reads_back_as_the_cluster(asked_of: Ask) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("web1", tags=("front",))])
    document = api.get("/cluster/snapshot").json()
    assert set(document) == {"settings", "nodes", "vms", "rules"}
    read = read_snapshot(msgspec.json.encode(document).decode())
    assert read.vm("web1").value.metadata.tags == ("front",)
    assert list(read.nodes) == ["hv1", "hv2"]


@pytest.mark.parametrize("path", ["/node/hv1/plan", "/cluster/capacity", "/cluster/snapshot"])
def test_whoever_may_read_may_ask(process: ApiProcess, path: str) -> None:
    with process.client(process.token("viewer")) as viewer:
        assert viewer.get(path).status_code == 200


# -------------------------------------------------------------------------------------------- applying a plan


def test_a_plan_is_applied_as_it_was_answered(asked_of: Ask, cluster: Cluster) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("web1")], role="operator")
    plan = api.get("/vm/web1/plan", params={"action": "move"}).json()
    assert api.get("/cluster/plan").json() == {"plan": None, "settled": True}
    answer = api.post("/cluster/plan", json={"plan": plan})
    assert (answer.status_code, answer.json()["changed"]) == (202, True)
    watch = httpx.URL(f"http://api{answer.json()['watch']}")
    assert api.get(watch).json()["settled"] is False
    step = answer.json()["plan"]["steps"][0]
    assert (step["vm"], step["from"], step["to"], step["state"]) == ("web1", "hv1", "hv2", "waiting")
    stored = cluster.store.get(layout.PLAN)
    assert stored is not None
    record = msgspec.json.decode(stored.data, type=PlanRecord)
    assert (record.kind, record.permanent) == ("move", True)
    cluster.put(layout.PLAN, msgspec.structs.replace(record, finished_at="now"))
    eventually(lambda: api.get(watch).json()["settled"])


def test_a_plan_is_refused_with_what_has_changed(asked_of: Ask, cluster: Cluster) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("web1"), a_vm("web2")], role="operator")
    plan = api.get("/vm/web1/plan").json()
    assert api.post("/vm/web2/node", json={"action": "migrate"}).status_code == 202
    answer = api.post("/cluster/plan", json={"plan": plan})
    assert (answer.status_code, answer.json()["code"]) == (409, "plan_outdated")
    assert [change.split(" is ")[0] for change in answer.json()["changes"]] == ["node hv2"]
    assert cluster.store.get(layout.PLAN) is None


def test_the_plan_of_a_flush_is_applied_as_a_flush(asked_of: Ask) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("web1")], role="operator")
    answer = api.post("/cluster/plan", json={"plan": api.get("/node/hv1/plan").json()})
    assert (answer.status_code, answer.json()["node"]["mode"], answer.json()["plan"]) == (202, "flushing", None)
    assert answer.json()["watch"].startswith("/api/v1/node/hv1/domain-state?since=")


def test_a_plan_is_cancelled_once_there_is_one(asked_of: Ask) -> None:
    api = asked_of([a_node("hv1"), a_node("hv2")], [a_vm("web1")], role="operator")
    refused = api.delete("/cluster/plan")
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")
    api.post("/cluster/plan", json={"plan": api.get("/vm/web1/plan").json()})
    answer = api.delete("/cluster/plan").json()
    assert (answer["plan"]["cancelled"], answer["plan"]["steps"][0]["state"]) == (True, "dropped")


def test_a_plan_that_is_none_is_refused(api: httpx.Client) -> None:
    answer = api.post("/cluster/plan", json={"plan": {"steps": []}})
    assert (answer.status_code, answer.json()["field"]) == (422, "plan.kind")
    empty = api.post("/cluster/plan", json={"plan": {"kind": "balance"}})
    assert (empty.status_code, empty.json()["changed"]) == (200, False)
