# SPDX-License-Identifier: Apache-2.0
"""/vm/{vm}/snapshot: what a VM is is remembered, shown, put back and forgotten; on two kinds of storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from pvc_core import StorageBackendEntry, hookimpl
from pvc_core.plugin_types import PluginOptions
from pvc_core.registry import Registry
from pvc_core.storage import StorageSite
from pvc_core.testing.builders import a_node, a_vm, uuid_of
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_storage_backends.directory.options import Options, PoolOptions

MIB = 2**20


class InMemory:
    """A plugin whose storage is in memory."""

    def __init__(self) -> None:
        self.memory = MemoryStorage({"vms": 2**30}, name="storage")

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.memory.entry()]


class InFolders:
    """A plugin whose storage is a folder that all nodes share."""

    def __init__(self, folder: Path) -> None:
        entry = Registry.load().storage_backends["directory"]
        options = PluginOptions(machine=Options(pools={"vms": PoolOptions(str(folder), True)}))
        self._entry = StorageBackendEntry(
            "storage", "volumes in a folder", lambda site: entry.open(StorageSite(site.node, options)), plugin="storage"
        )

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self._entry]


@pytest.fixture(params=["memory", "directory"])
def process(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API process whose plugins have storage, on a cluster with web1, which is off."""
    (tmp_path / "volumes").mkdir()
    storage = InMemory() if request.param == "memory" else InFolders(tmp_path / "volumes")
    cluster.has([a_node("hv1")], [a_vm("web1", state="stopped")])
    made = ApiProcess(cluster.registry.open_store(cluster.url), registry_with(storage=storage))
    made.connection.open()
    yield made
    made.waiter.stop()
    made.connection.close()


@pytest.fixture
def api(api: httpx.Client) -> httpx.Client:
    for name in ("data", "logs"):
        body = {"backend": "storage", "pool": "vms", "name": name, "size_bytes": MIB}
        assert api.post("/vm/web1/volume", json=body).status_code == 201
    return api


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    document: dict[str, Any] = answer.json()
    return answer.status_code, document["code"], document["detail"]


def names(api: httpx.Client) -> list[str]:
    return [each["name"] for each in api.get("/vm/web1/snapshot").json()["snapshots"]]


def test_a_snapshot_is_taken_shown_gone_back_to_and_removed(api: httpx.Client) -> None:
    answer = api.post("/vm/web1/snapshot", json={"name": "monday"})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/vm/{uuid_of('web1')}/snapshot/monday"
    made = answer.json()
    assert (made["reason"], made["watch"], made["warnings"]) == ("snapshot monday of web1 is taken", "", [])
    volume = made["snapshot"]["volumes"][0]
    assert volume.pop("snapshot").startswith("vm.monday.")
    assert volume == {"device": "vda", "backend": "storage", "pool": "vms", "name": "data", "size_bytes": MIB}

    listed = api.get("/vm/web1/snapshot")
    (shown,) = listed.json()["snapshots"]
    assert (shown["name"], shown["state"], shown["consistency"]) == ("monday", "ready", "off")
    assert (listed.json()["settled"], listed.json()["problem"]) == (True, "")
    assert listed.headers["etag"] == api.get("/vm/web1").headers["etag"]
    whole = api.get("/vm/web1/snapshot/monday").json()
    assert whole["definition"] == api.get("/vm/web1/definition").text
    assert whole["metadata"]["priority"] == 0

    api.post("/vm/web1", json={"priority": 9})
    answer = api.post("/vm/web1/snapshot/monday/rollback", json={})
    assert answer.status_code == 200, answer.text
    assert answer.json()["reason"].startswith("web1 is what it was at its snapshot monday of ")
    assert api.get("/vm/web1").json()["priority"] == 0

    removed = api.delete("/vm/web1/snapshot/monday").json()
    assert (removed["reason"], removed["snapshot"]) == ("snapshot monday of web1 is removed", None)
    assert names(api) == []
    kinds = [event["kind"] for event in api.get("/events").json()["events"] if event["vm"] == "web1"]
    wanted = ["vm_snapshot_begun", "vm_snapshot_taken", "vm_rolling_back", "vm_rolled_back", "vm_snapshot_removed"]
    assert [kind for kind in kinds if kind in wanted] in (wanted, wanted[::-1])


def test_what_there_is_not_or_cannot_be_is_said(api: httpx.Client) -> None:
    api.post("/vm/web1/snapshot", json={"name": "monday"})
    assert problem(api.post("/vm/nobody/snapshot", json={}))[:2] == (404, "not_found")
    assert problem(api.post("/vm/web1/snapshot", json={"name": "monday"}))[:2] == (409, "already_exists")
    assert problem(api.post("/vm/web1/snapshot", json={"name": "/"}))[:2] == (422, "invalid_input")
    assert problem(api.post("/vm/web1/snapshot", json={"keep": -1}))[:2] == (422, "invalid_input")
    missing = (404, "not_found", "no snapshot of web1 is called 'sunday' (known: monday)")
    assert problem(api.get("/vm/web1/snapshot/sunday")) == missing
    assert problem(api.delete("/vm/web1/snapshot/sunday")) == missing
    assert problem(api.post("/vm/web1/snapshot/sunday/rollback", json={})) == missing
    has = (409, "refused", "web1: has snapshots, which are to be removed before: monday")
    assert problem(api.delete("/vm/web1")) == has
    kept = (409, "refused", "storage vms/data: is in snapshots of web1, to be removed before: monday")
    assert problem(api.delete("/vm/web1/volume/vda", params={"delete": "true"})) == kept


def test_work_begins_only_in_the_version_that_its_author_has_seen(api: httpx.Client) -> None:
    seen = api.get("/vm/web1").headers["etag"]
    api.post("/vm/web1", json={"priority": 9})
    assert api.post("/vm/web1/snapshot", json={}, headers={"If-Match": seen}).status_code == 412
    newest = api.get("/vm/web1").headers["etag"]
    assert api.post("/vm/web1/snapshot", json={"name": "monday"}, headers={"If-Match": newest}).status_code == 201
    assert api.post("/vm/web1/snapshot/monday/rollback", json={}, headers={"If-Match": newest}).status_code == 412, (
        "it has a snapshot by now"
    )
    newest = api.get("/vm/web1").headers["etag"]
    assert api.post("/vm/web1/snapshot/monday/rollback", json={}, headers={"If-Match": newest}).status_code == 200


def test_automatic_ones_make_room_and_a_vm_is_removed_with_all(api: httpx.Client) -> None:
    api.post("/vm/web1/snapshot", json={"name": "mine"})
    for number in range(3):
        assert api.post("/vm/web1/snapshot", json={"name": f"auto{number}", "keep": 2}).json()["warnings"] == []
    assert names(api) == ["mine", "auto1", "auto2"]
    answer = api.delete("/vm/web1", params={"volumes": "delete"})
    assert answer.json()["warnings"] == []
    assert api.get("/cluster/volume-repair").json() == {"volumes": []}
