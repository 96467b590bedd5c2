# SPDX-License-Identifier: Apache-2.0
"""Defining, changing, renaming and forgetting VMs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_core import layout
from pvc_core.model import VmState
from pvc_core.ports import Delete
from pvc_core.testing.builders import a_node, a_vm, uuid_of

UUID = uuid_of("web1")


def test_a_vm_is_placed_within_its_limit_with_its_metadata(api: httpx.Client, cluster: Cluster) -> None:
    metadata = {"node_limit": ["hv2"], "node_selector": "load", "node_autostart": True, "tags": ["db", "prod"]}
    answer = api.post("/vm", json={"definition": xml("web1", uuid=UUID), "metadata": metadata})
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/vm/{UUID}"
    outcome = answer.json()
    assert outcome["changed"] is True
    assert outcome["watch"] == ""
    assert outcome["decision"]["selector"] == "load"
    assert [rejection["node"] for rejection in outcome["decision"]["rejections"]] == ["hv1"]
    vm = outcome["vm"]
    assert {field: vm[field] for field in metadata} == metadata
    assert (vm["node"], vm["home"], vm["state"]) == ("hv2", "hv2", "stopped")
    assert cluster.snapshot.vm("web1").value.metadata.node_limit == ("hv2",)


@pytest.mark.parametrize(
    ("limit", "means"),
    [("hv1, hv2", ["hv1", "hv2"]), (" hv2 ", ["hv2"]), ("", []), ([], []), (["hv1, hv2"], ["hv1", "hv2"])],
)
def test_a_limit_is_read_as_people_write_it(api: httpx.Client, limit: object, means: list[str]) -> None:
    answer = api.post("/vm", json={"definition": xml(), "metadata": {"node_limit": limit}})
    assert answer.json()["vm"]["node_limit"] == means


@pytest.mark.parametrize(
    ("field", "value", "known"),
    [
        ("node_limit", ["hv1", "nix"], ["hv1", "hv2"]),
        ("node_selector", "nix", ["even", "load", "mem", "memprov", "vcpus", "vms"]),
        ("recovery_policy", "nix", ["restart", "stay", "stop"]),
    ],
)
def test_an_unknown_name_in_the_metadata_is_answered_with_the_known_ones(
    api: httpx.Client, field: str, value: object, known: list[str]
) -> None:
    answer = api.post("/vm", json={"definition": xml(), "metadata": {field: value}})
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert answer.json()["allowed"] == known
    assert answer.json()["value"] == "nix"
    assert api.get("/vm").json()["total"] == 0


@pytest.mark.parametrize(
    "definition",
    [
        "",
        "<domain>",
        "<network><name>x</name></network>",
        "<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><domain><name>&b;</name></domain>",
        "<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain><name>x</name></domain>",
        xml("a b"),
        xml("web1", memory_mib=0),
        f"<domain><name>web1</name><memory>1</memory><description>{'x' * 530_000}</description></domain>",
    ],
    ids=["empty", "cut", "network", "entities", "external DTD", "bad name", "no memory", "over 512 KiB"],
)
def test_a_definition_that_is_none_is_refused(api: httpx.Client, definition: str) -> None:
    answer = api.post("/vm", json={"definition": definition})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["field"] == "definition"
    assert "root:" not in answer.text
    assert api.get("/vm").json()["total"] == 0


def test_a_name_and_a_uuid_are_given_once(api: httpx.Client) -> None:
    assert api.post("/vm", json={"definition": xml("web1", uuid=UUID)}).status_code == 201
    for again in (xml("web1"), xml("other", uuid=UUID), xml("other", uuid=UUID.upper())):
        answer = api.post("/vm", json={"definition": again})
        assert (answer.status_code, answer.json()["code"]) == (409, "already_exists")


def test_a_vm_larger_than_any_node_is_refused_with_the_reason_per_node(api: httpx.Client) -> None:
    answer = api.post("/vm", json={"definition": xml(memory_mib=5000)})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_candidate")
    assert [line.split(":")[0] for line in answer.json()["rejections"]] == ["hv1", "hv2"]
    assert "5000 MiB" in answer.json()["detail"]


def test_an_explicit_target_outside_the_limit_is_refused_with_the_reason(api: httpx.Client) -> None:
    body = {"definition": xml(), "metadata": {"node_limit": "hv1"}, "target": "hv2"}
    answer = api.post("/vm", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_candidate")
    assert "hv2" in answer.json()["detail"]


def test_twenty_defines_at_once_through_two_processes_never_overfill_a_node(cluster: Cluster) -> None:
    cluster.has([a_node("hv1"), a_node("hv2")])  # room for 7 VMs of 512 MiB on each
    processes = [ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry) for _ in range(2)]
    for process in processes:
        process.connection.open()
    secret = processes[0].token("operator")
    with processes[1].client(secret) as client:
        eventually(lambda: client.get("/vm").status_code == 200)
    start = threading.Barrier(20)

    def define(number: int) -> int:
        with processes[number % 2].client(secret) as client:
            start.wait()
            return client.post("/vm", json={"definition": xml(f"vm{number:02}")}).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(define, range(20)))
    for process in processes:
        process.connection.close()
    assert (statuses.count(201), statuses.count(409)) == (14, 6)
    snapshot = cluster.snapshot
    assert [node.reserved.memory_mib for node in snapshot.nodes.values()] == [3584, 3584]
    assert len(snapshot.vms) == 14


def test_metadata_is_changed_field_by_field(api: httpx.Client) -> None:
    api.post("/vm", json={"definition": xml(), "metadata": {"tags": ["a"], "priority": 5}})
    answer = api.post("/vm/web1", json={"priority": 7, "shutdown_timeout_s": 30})
    assert answer.status_code == 200
    vm = answer.json()["vm"]
    assert (vm["priority"], vm["shutdown_timeout_s"], vm["tags"]) == (7, 30, ["a"])
    again = api.post("/vm/web1", json={"priority": 7})
    assert again.status_code == 200
    assert again.json()["changed"] is False
    assert api.post("/vm/web1", json={"shutdown_timeout_s": None}).json()["vm"]["shutdown_timeout_s"] is None


def test_a_limit_that_excludes_the_present_node_is_accepted_and_shown_as_violated(api: httpx.Client) -> None:
    api.post("/vm", json={"definition": xml(), "target": "hv1"})
    answer = api.post("/vm/web1", json={"node_limit": ["hv2"]})
    assert answer.status_code == 200
    assert answer.json()["vm"]["limit_violated"] is True
    assert api.get("/vm/web1/node").json()["limit_violated"] is True
    assert any("outside its limit" in problem for problem in api.get("/cluster").json()["problems"])


def test_a_definition_is_replaced_and_keeps_name_and_uuid(api: httpx.Client) -> None:
    api.post("/vm", json={"definition": xml("web1", 512, uuid=UUID)})
    answer = api.put("/vm/web1", json={"definition": xml("other", 1024, 2, uuid_of("other"))})
    assert answer.status_code == 200
    vm = answer.json()["vm"]
    assert (vm["name"], vm["uuid"], vm["memory_mib"], vm["vcpus"]) == ("web1", UUID, 1024, 2)
    stored = api.get("/vm/web1/definition")
    assert stored.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert "<name>web1</name>" in stored.text
    assert UUID in stored.text
    assert "1024" in stored.text


def test_a_definition_that_does_not_fit_its_node_any_more_is_refused(api: httpx.Client) -> None:
    api.post("/vm", json={"definition": xml()})
    answer = api.put("/vm/web1", json={"definition": xml(memory_mib=8000)})
    assert answer.status_code == 409
    assert api.get("/vm/web1").json()["memory_mib"] == 512


@pytest.mark.parametrize("name", ["os", "name", "domain", "uuid", "a.b-c_d+e"])
def test_a_vm_is_found_under_its_new_name_only(api: httpx.Client, name: str) -> None:
    api.post("/vm", json={"definition": xml("web1", uuid=UUID)})
    answer = api.post("/vm/web1/rename", json={"name": name})
    assert answer.status_code == 200
    assert api.get(f"/vm/{name}").json()["uuid"] == UUID
    assert api.get("/vm/web1").status_code == 404
    assert f"<name>{name}</name>" in api.get(f"/vm/{name}/definition").text


def test_a_name_that_is_taken_or_none_is_refused(api: httpx.Client) -> None:
    for name in ("web1", "web2"):
        api.post("/vm", json={"definition": xml(name)})
    assert api.post("/vm/web1/rename", json={"name": "web2"}).json()["code"] == "already_exists"
    assert api.post("/vm/web1/rename", json={"name": "a/b"}).status_code == 422
    assert api.post("/vm/web1/rename", json={"name": UUID}).status_code == 422


def test_a_vm_that_runs_is_neither_renamed_nor_forgotten(api: httpx.Client, cluster: Cluster) -> None:
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state=VmState.RUNNING)])
    eventually(lambda: api.get("/vm").json()["total"] == 1)
    assert api.post("/vm/web1/rename", json={"name": "web9"}).json()["code"] == "refused"
    assert api.delete("/vm/web1").json()["code"] == "refused"


def test_a_vm_that_is_undefined_is_gone_with_all_that_belonged_to_it(api: httpx.Client, cluster: Cluster) -> None:
    api.post("/vm", json={"definition": xml("web1", uuid=UUID)})
    answer = api.delete("/vm/web1")
    assert answer.status_code == 200
    assert answer.json()["vm"]["name"] == "web1"
    assert api.get("/vm/web1").status_code == 404
    for key in (layout.vm(UUID), layout.definition(UUID), layout.vm_name("web1")):
        assert cluster.store.get(key) is None
    assert all(not node.reserved.vms for node in cluster.snapshot.nodes.values())
    assert api.post("/vm", json={"definition": xml("web1", uuid=UUID)}).status_code == 201


def test_a_vm_whose_node_is_lost_is_undefined_by_force_alone(
    process: ApiProcess, api: httpx.Client, cluster: Cluster
) -> None:
    api.post("/vm", json={"definition": xml("web1", uuid=UUID), "target": "hv1", "start": True})
    assert "daemon is alive" in api.delete("/vm/web1", params={"force": "true"}).json()["detail"]
    life_sign = cluster.store.get(layout.member("hv1"))
    assert life_sign is not None
    cluster.store.transaction([Delete(life_sign.key, life_sign.version)])
    process.view.refresh([life_sign.key])
    refused = api.delete("/vm/web1").json()
    assert (refused["code"], "`pvc vm undefine web1 --force`" in refused["detail"]) == ("refused", True)
    assert api.delete("/vm/web1", params={"force": "perhaps"}).status_code == 422

    answer = api.delete("/vm/web1", params={"force": "true"})
    assert answer.status_code == 200
    assert answer.json()["reason"].endswith("its guest may still run on hv1 and write to its disks")
    assert api.get("/vm/web1").status_code == 404
    assert "node hv1 may still run web1, undefined by force" in api.get("/cluster").json()["problems"]
    told = api.get("/events", params={"kind": "vm_undefined_by_force"}).json()["events"]
    assert [(event["vm"], event["node"]) for event in told] == [("web1", "hv1")]


def test_a_vm_is_addressed_by_name_or_uuid_in_any_case(api: httpx.Client) -> None:
    api.post("/vm", json={"definition": xml("web1", uuid=UUID)})
    for reference in ("web1", UUID, UUID.upper()):
        assert api.get(f"/vm/{reference}").json()["name"] == "web1"


def test_what_another_process_has_just_defined_is_found_at_once(
    process: ApiProcess, api: httpx.Client, cluster: Cluster
) -> None:
    other = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    other.connection.open()
    for number in range(14):
        other.services.commands.define(xml(f"vm{number}"), a_vm().metadata)
        assert api.get(f"/vm/vm{number}").status_code == 200
        assert api.post(f"/vm/vm{number}", json={"priority": number}).status_code == 200
    other.connection.close()
