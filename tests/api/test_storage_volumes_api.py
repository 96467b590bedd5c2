# SPDX-License-Identifier: Apache-2.0
"""Pools, volumes and snapshots of a storage backend through the API, which is the same for every backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from pvc_api.authentication import Role
from pvc_core import ApiResource, StorageBackendEntry, StorageCapability, hookimpl
from pvc_core.plugin_loading import FoundPlugin, installed_plugins
from pvc_core.registry import Registry
from pvc_core.storage_resources import volume_resources
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.testing.memory_storage import MIB, MemoryStorage

POOL = "/storage/memory/pool/pool/volume"


class Memory:
    """A third party's plugin: one backend and no line of its own about the API."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.entry = storage.entry()
        self.capabilities = storage.capabilities

    @hookimpl
    def pvc_storage_backends(self) -> Sequence[StorageBackendEntry]:
        return [self.entry]

    @hookimpl
    def pvc_api_resources(self) -> Sequence[ApiResource]:
        return volume_resources(self.entry, tuple(self.capabilities))


def served(cluster: Cluster, storage: MemoryStorage) -> ApiProcess:
    plugin = Memory(storage)
    registry = Registry([*installed_plugins([]), FoundPlugin("memory", lambda: plugin)])
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    return process


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def process(cluster: Cluster, storage: MemoryStorage) -> Iterator[ApiProcess]:
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state="stopped")])
    made = served(cluster, storage)
    yield made
    made.connection.close()


@pytest.fixture
def api(process: ApiProcess) -> Iterator[httpx.Client]:
    with process.client(process.token("operator")) as client:
        yield client


def add(api: httpx.Client, name: str, size_bytes: int = MIB) -> None:
    made = api.post(POOL, json={"name": name, "size_bytes": size_bytes})
    assert made.status_code == 201, made.text


def names(api: httpx.Client) -> list[str]:
    return [volume["name"] for volume in api.get(POOL).json()["volumes"]]


def test_pools_are_listed_with_their_room(api: httpx.Client) -> None:
    add(api, "web1", 4 * MIB)
    assert api.get("/storage/memory/pool").json() == {
        "pools": [{"name": "pool", "shared": True, "total_bytes": 64 * MIB, "free_bytes": 60 * MIB, "problem": ""}]
    }


def test_a_volume_is_made_shown_resized_renamed_cloned_and_removed(api: httpx.Client) -> None:
    add(api, "web1")
    assert api.get(f"{POOL}/web1").json() == {
        "pool": "pool",
        "name": "web1",
        "size_bytes": MIB,
        "used_bytes": MIB,
        "vm": "",
    }
    resized = api.post(f"{POOL}/web1/resize", json={"size_bytes": 2 * MIB}).json()
    assert (resized["volume"]["size_bytes"], resized["reason"]) == (2 * MIB, "volume web1 of pool pool has 2 MiB now")
    assert api.post(f"{POOL}/web1/rename", json={"name": "web2"}).json()["volume"]["name"] == "web2"
    assert api.post(f"{POOL}/web2/clone", json={"name": "copy"}).status_code == 201
    assert names(api) == ["copy", "web2"]
    assert api.delete(f"{POOL}/copy").json() == {"reason": "volume copy is removed from pool pool", "volume": None}
    assert names(api) == ["web2"]


def test_snapshots_are_made_renamed_protected_gone_back_to_and_removed(api: httpx.Client) -> None:
    add(api, "web1")
    at = f"{POOL}/web1/snapshot"
    assert api.post(at, json={"name": "monday"}).status_code == 201
    assert api.post(f"{at}/monday/rename", json={"name": "day1"}).json()["snapshot"]["name"] == "day1"
    assert api.post(f"{at}/day1/protect", json={"protected": True}).json()["snapshot"]["protected"] is True
    assert api.delete(f"{at}/day1").json()["code"] == "refused"
    assert api.get(at).json() == {"snapshots": [{"name": "day1", "size_bytes": MIB, "protected": True}]}
    api.post(f"{POOL}/web1/resize", json={"size_bytes": 2 * MIB})
    assert api.post(f"{at}/day1/rollback", json={}).json()["volume"]["size_bytes"] == MIB
    api.post(f"{at}/day1/protect", json={"protected": False})
    assert api.delete(f"{at}/day1").status_code == 200
    assert api.get(at).json() == {"snapshots": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/storage/memory/pool/none/volume", None, 404, "not_found"),
        ("GET", f"{POOL}/none", None, 404, "not_found"),
        ("POST", POOL, {"name": "web1", "size_bytes": MIB}, 409, "already_exists"),
        ("POST", POOL, {"name": "../up", "size_bytes": MIB}, 422, "invalid_input"),
        ("POST", POOL, {"name": "new", "size_bytes": 0}, 422, "invalid_input"),
        ("POST", POOL, {"name": "new", "size_bytes": 2**50}, 409, "refused"),
        ("POST", POOL, {"name": "new"}, 422, "invalid_input"),
        ("POST", f"{POOL}/web1/resize", {"size_bytes": 1}, 422, "invalid_input"),
        ("POST", f"{POOL}/web1/snapshot/none/rollback", {}, 404, "not_found"),
    ],
)
def test_what_cannot_be_done_is_a_problem_that_says_why(
    api: httpx.Client, method: str, path: str, body: Any, status: int, code: str
) -> None:
    add(api, "web1")
    answer = api.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 201)])
def test_a_viewer_changes_nothing(process: ApiProcess, role: Role, status: int) -> None:
    with process.client(process.token(role)) as api:
        assert api.get("/storage/memory/pool").status_code == 200
        assert api.post(POOL, json={"name": "web1", "size_bytes": MIB}).status_code == status


def test_a_volume_of_a_vm_names_it_and_is_neither_renamed_nor_removed(api: httpx.Client) -> None:
    add(api, "disk")
    added = api.post("/vm/web1/volume", json={"backend": "memory", "pool": "pool", "name": "disk"})
    assert added.status_code == 201, added.text
    assert api.get(POOL).json()["volumes"][0]["vm"] == "web1"
    for answer in (api.delete(f"{POOL}/disk"), api.post(f"{POOL}/disk/rename", json={"name": "new"})):
        assert (answer.status_code, answer.json()["code"]) == (409, "refused")
        assert "belongs to VM web1" in answer.json()["detail"]
    assert names(api) == ["disk"]


def test_what_is_done_stands_in_the_audit_log(api: httpx.Client, process: ApiProcess) -> None:
    add(api, "web1")
    api.delete(f"{POOL}/web1")
    assert [line["outcome"] for line in process.events("audit") if "/storage/" in line["path"]] == [
        "volume web1 of 1 MiB is made in pool pool",
        "volume web1 is removed from pool pool",
    ]


def test_a_pool_of_each_nodes_own_is_out_of_the_apis_reach(cluster: Cluster) -> None:
    storage = MemoryStorage(capabilities={StorageCapability.RESIZE})
    process = served(cluster, storage)
    with process.client(process.token("operator")) as api:
        assert api.get("/storage/memory/pool").json()["pools"][0] == {
            "name": "pool",
            "shared": False,
            "total_bytes": None,
            "free_bytes": None,
            "problem": "",
        }
        for answer in (api.get(POOL), api.post(POOL, json={"name": "web1", "size_bytes": MIB})):
            assert (answer.status_code, answer.json()["code"]) == (409, "refused")
            assert "made and removed there with --node" in answer.json()["detail"]
        assert api.get(f"{POOL}/web1/snapshot").json()["code"] == "no_such_route"
    process.connection.close()


def test_the_resources_of_the_backend_directory_are_served(process: ApiProcess) -> None:
    with process.client(process.token("viewer")) as api:
        assert api.get("/storage/directory/pool").json()["pools"][0]["name"] == "default"
        assert "/api/v1/storage/directory/pool/{pool}/volume" in api.get("/openapi.json").json()["paths"]
