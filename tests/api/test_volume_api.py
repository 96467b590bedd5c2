# SPDX-License-Identifier: Apache-2.0
"""/vm/{vm}/volume: a volume becomes a disk of a VM, is shown, and is given up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually

from pvc_core import StorageBackendEntry, hookimpl
from pvc_core.model import DomainReport
from pvc_core.storage import StorageSite
from pvc_core.testing.builders import a_node, a_vm, uuid_of
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryBackend, MemoryStorage

DATA = {"backend": "memory", "pool": "vms", "name": "data"}
SHOWN = {**DATA, "device": "vda", "node": "", "state": "off", "problem": ""}


class Storage:
    """In-memory storage with two volumes."""

    def __init__(self) -> None:
        self.memory = MemoryStorage({"vms": 2**30})
        for name in ("data", "logs"):
            self.memory.open(StorageSite("")).create_volume("vms", name, 1024)

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.memory.entry()]


@pytest.fixture
def process(cluster: Cluster) -> Iterator[ApiProcess]:
    """An API process whose plugins have storage, on a cluster with web1 and web2, which are off."""
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state="stopped"), a_vm("web2", state="stopped")])
    made = ApiProcess(cluster.registry.open_store(cluster.url), registry_with(memory=Storage()))
    made.connection.open()
    yield made
    made.waiter.stop()
    made.connection.close()


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    document: dict[str, Any] = answer.json()
    return answer.status_code, document["code"], document["detail"]


def test_a_volume_becomes_a_disk_and_is_shown_with_its_vm(api: httpx.Client) -> None:
    answer = api.post("/vm/web1/volume", json=DATA)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/vm/{uuid_of('web1')}/volume/vda"
    assert answer.json() == {
        "vm": "web1",
        "uuid": uuid_of("web1"),
        "volume": SHOWN,
        "changed": True,
        "reason": "memory vms/data is vda of web1",
        "watch": "",
    }
    listed = api.get("/vm/web1/volume")
    assert listed.json()["volumes"] == api.get("/vm/web1").json()["volumes"] == [SHOWN]
    assert listed.headers["etag"] == api.get("/vm/web1").headers["etag"]
    assert api.get("/events", params={"kind": "vm_volume_added"}).json()["events"][0]["vm"] == "web1"


def test_volumes_are_listed_in_the_order_of_their_devices(api: httpx.Client) -> None:
    for name, device in (("data", "vdaa"), ("logs", "vdb")):
        api.post("/vm/web1/volume", json={**DATA, "name": name, "device": device})
    assert [one["device"] for one in api.get("/vm/web1/volume").json()["volumes"]] == ["vdb", "vdaa"]


def test_a_volume_is_given_up_and_free_for_another_vm(api: httpx.Client) -> None:
    api.post("/vm/web1/volume", json=DATA)
    taken = "memory vms/data: is a volume of web1 already"
    assert problem(api.post("/vm/web2/volume", json=DATA)) == (409, "refused", taken)
    answer = api.delete("/vm/web1/volume/vda")
    assert answer.status_code == 200, answer.text
    assert (answer.status_code, answer.json()["volume"]) == (200, SHOWN)
    assert api.get("/vm/web1/volume").json()["volumes"] == []
    assert api.post("/vm/web2/volume", json=DATA).status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "wanted"),
    [
        ("/vm/nobody/volume", DATA, (404, "not_found", "no VM is called 'nobody'")),
        (
            "/vm/web1/volume",
            {**DATA, "name": "..."},
            (422, "invalid_input", "name '...': needs letters, digits, '.', '_', '+' or '-', a letter or digit first"),
        ),
        ("/vm/web1/volume", {**DATA, "name": "none"}, (404, "not_found", "no volume is called 'none'")),
        (
            "/vm/web1/volume",
            {**DATA, "device": "hda"},
            (422, "invalid_input", "device 'hda': is no name of a disk (allowed: vda to vdz, then vdaa to vdzz)"),
        ),
    ],
)
def test_what_there_is_not_is_said(api: httpx.Client, path: str, body: object, wanted: tuple[int, str, str]) -> None:
    assert problem(api.post(path, json=body)) == wanted


def test_a_device_that_is_no_volume_is_not_found(api: httpx.Client) -> None:
    status, code, detail = problem(api.delete("/vm/web1/volume/vda"))
    assert (status, code, detail) == (404, "not_found", "no volume of web1 is called 'vda'")


def test_a_volume_changes_only_in_the_version_that_its_author_has_seen(api: httpx.Client) -> None:
    seen = api.get("/vm/web1").headers["etag"]
    api.post("/vm/web1/volume", json=DATA)
    answer = api.post("/vm/web1/volume", json={**DATA, "name": "logs"}, headers={"If-Match": seen})
    assert answer.status_code == 412
    assert api.delete("/vm/web1/volume/vda", headers={"If-Match": seen}).status_code == 412
    assert api.get("/vm/web1/volume").json()["volumes"] == [SHOWN]


# --------------------------------------------------------------------------------------- making and deleting

NEW = {**DATA, "name": "new", "size_bytes": 4096}


def test_a_volume_is_made_and_deleted_with_its_disk(api: httpx.Client) -> None:
    assert api.post("/vm/web1/volume", json=NEW).status_code == 201
    assert problem(api.post("/vm/web2/volume", json=NEW))[:2] == (409, "already_exists")
    seen = api.get("/vm/web1").headers["etag"]
    answer = api.delete("/vm/web1/volume/vda", params={"delete": "true"}, headers={"If-Match": seen})
    assert answer.json()["reason"].endswith("it is deleted")
    assert problem(api.post("/vm/web2/volume", json={**DATA, "name": "new"}))[:2] == (404, "not_found")


def test_a_vm_is_removed_with_its_volumes_in_the_version_that_was_seen(api: httpx.Client) -> None:
    api.post("/vm/web1/volume", json=NEW)
    api.post("/vm/web2/volume", json={**NEW, "name": "other"})
    seen = api.get("/vm/web1").headers["etag"]
    forced = api.delete("/vm/web1", params={"volumes": "delete", "force": "true"})
    assert problem(forced)[:2] == (422, "invalid_input")
    answer = api.delete("/vm/web1", params={"volumes": "delete"}, headers={"If-Match": seen})
    assert answer.json()["reason"] == "web1 is undefined; deleted: memory vms/new"
    assert api.get("/vm/web1").status_code == 404
    assert api.delete("/vm/web2").status_code == 200
    assert api.get("/cluster/volume-repair").json() == {"volumes": []}
    kinds = [event["kind"] for event in api.get("/events").json()["events"]]
    assert kinds.count("volume_deleted") == 1


def test_what_is_left_undone_is_shown_and_repaired(api: httpx.Client, process: ApiProcess) -> None:
    api.post("/vm/web1/volume", json=NEW)
    backend = process.services.registry.storage_backends["memory"].open(StorageSite(""))
    assert isinstance(backend, MemoryBackend)
    backend.create_snapshot("vms", "new", "monday")
    answer = api.delete("/vm/web1", params={"volumes": "delete"})
    assert "is left: volume new: has snapshots" in answer.json()["warnings"][0]
    (left,) = api.get("/cluster/volume-repair").json()["volumes"]
    assert (left["volume"], left["vm"], left["remedy"]) == ("memory vms/new", "web1", "it is deleted")
    assert len(api.post("/cluster/volume-repair", json={}).json()["volumes"]) == 1
    backend.remove_snapshot("vms", "new", "monday")
    assert api.post("/cluster/volume-repair", json={}).json() == {"volumes": []}


# ------------------------------------------------------------------------------------------ of a VM that runs


def reports(cluster: Cluster, **volumes: str) -> None:
    """The node says of web1's guest which volumes it has, by device."""
    snapshot = cluster.snapshot
    ids = {each.device: each.id for each in snapshot.vm("web1").value.volumes}
    seen = {ids[device]: problem for device, problem in volumes.items()}
    node = snapshot.node("hv1").report
    assert node is not None
    domain = DomainReport(state="running", volumes=seen)
    cluster.put(node.key, msgspec.structs.replace(node.value, domains={uuid_of("web1"): domain}))


@pytest.fixture
def running(api: httpx.Client, cluster: Cluster) -> None:
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1"), a_vm("web2")])
    eventually(lambda: api.get("/vm/web1").json()["state"] == "running")


def states(api: httpx.Client) -> list[tuple[str, str, str]]:
    volumes = api.get("/vm/web1/volume").json()["volumes"]
    return [(one["device"], one["state"], one["problem"]) for one in volumes]


@pytest.mark.usefixtures("running")
def test_a_guest_that_runs_is_waited_for_where_so_wanted(api: httpx.Client, cluster: Cluster) -> None:
    answer = api.post("/vm/web1/volume", json=DATA)
    assert answer.status_code == 202
    assert states(api) == [("vda", "attaching", "")]
    reports(cluster, vda="no quorum")
    eventually(lambda: states(api) == [("vda", "attaching", "no quorum")])
    watch = answer.json()["watch"].removeprefix("/api/v1")
    assert not api.get(watch).json()["settled"]
    reports(cluster, vda="")
    assert api.get(watch, params={"since": "0", "wait": "30"}).json()["settled"]
    assert states(api) == [("vda", "attached", "")]


@pytest.mark.usefixtures("running")
def test_a_volume_is_leaving_until_the_guest_has_let_go_of_it(api: httpx.Client, cluster: Cluster) -> None:
    api.post("/vm/web1/volume", json=DATA)
    reports(cluster, vda="")
    assert api.delete("/vm/web1/volume/vda").status_code == 202
    assert states(api) == [("vda", "leaving", "")]
    assert problem(api.post("/vm/web2/volume", json=DATA))[:2] == (409, "refused")
    again = api.delete("/vm/web1/volume/vda").json()
    assert (again["changed"], again["reason"]) == (False, "memory vms/data is leaving web1 already")


def test_a_volume_of_a_vm_that_is_off_gets_another_name(api: httpx.Client, cluster: Cluster) -> None:
    api.post("/vm/web1/volume", json=DATA)
    seen = api.get("/vm/web1/volume").headers["ETag"]
    answer = api.post("/vm/web1/volume/vda/rename", json={"name": "files"}, headers={"If-Match": seen})
    assert answer.status_code == 200, answer.text
    assert answer.json()["volume"] == {**SHOWN, "name": "files"}
    assert answer.json()["reason"] == "memory vms/data is called files now"
    assert problem(api.post("/vm/web1/volume/vda/rename", json={"name": "logs"}))[:2] == (409, "already_exists")
    stale = api.post("/vm/web1/volume/vda/rename", json={"name": "other"}, headers={"If-Match": seen})
    assert stale.status_code == 412
    assert [one["name"] for one in api.get("/vm/web1/volume").json()["volumes"]] == ["files"]
