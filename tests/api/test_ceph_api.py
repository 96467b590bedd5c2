# SPDX-License-Identifier: Apache-2.0
"""The resources of a Ceph cluster in the API: what they tell, to whom, and how they end when there is no cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from pvc_api.authentication import Role
from pvc_core.registry import Registry
from pvc_lab.ceph_cluster import MONITOR, CephCluster
from pvc_lab.waiting import wait_for

ClientOf = Callable[..., httpx.Client]


@pytest.fixture
def client_of(cluster: Cluster) -> Iterator[ClientOf]:
    """A client of an API process that uses the cluster of this configuration file."""
    with ExitStack() as stack:

        def client(conf: Path, role: Role = "admin", blocked: tuple[str, ...] = ()) -> httpx.Client:
            sections = {"ceph": {"conf": str(conf), "timeout_s": 2}}
            registry = Registry.load(blocked, sections, disabled_env="")
            process = ApiProcess(registry.open_store(cluster.url), registry)
            process.connection.open()
            stack.callback(process.connection.close)
            return stack.enter_context(process.client(process.token(role)))

        yield client


@pytest.mark.ceph
def test_the_status_says_why_the_health_is_bad_and_a_pool_what_it_has(
    client_of: ClientOf, ceph_cluster: CephCluster, ceph_pool: str
) -> None:
    api = client_of(ceph_cluster.conf_path, "viewer")
    ceph_cluster.admin.command("osd set", key="noscrub")
    try:
        wait_for(lambda: "OSDMAP_FLAGS" in checks(api), "the cluster is warned of its flag")
        assert checks(api)["OSDMAP_FLAGS"] == "noscrub flag(s) set"
    finally:
        ceph_cluster.admin.command("osd unset", key="noscrub")
    status = api.get("/storage/ceph/status").json()
    assert status["monitors"] == [{"name": "a", "in_quorum": True}]
    assert (status["osds"], status["osds_up"], status["osds_in"]) == (3, 3, 3)
    wait_for(lambda: pool(api, ceph_pool)["free_bytes"], "the pool has figures")
    shown = pool(api, ceph_pool)
    assert (shown["size"], shown["pg_num"], shown["volumes"], shown["applications"]) == (3, 8, True, ["rbd"])
    util = api.get("/storage/ceph/util").json()
    assert 0 < util["free_bytes"] < util["total_bytes"]
    assert [one["name"] for one in util["classes"]] == ["ssd"]
    assert pool(api, ceph_pool)["name"] in [one["name"] for one in util["pools"]]


@pytest.mark.ceph
def test_a_volume_is_made_and_shown_as_in_every_backend(
    client_of: ClientOf, ceph_cluster: CephCluster, ceph_pool: str
) -> None:
    api = client_of(ceph_cluster.conf_path, "operator")
    at = f"/storage/ceph/pool/{ceph_pool}/volume"
    assert api.post(at, json={"name": "web1", "size_bytes": 2**22}).status_code == 201
    assert api.get(f"{at}/web1").json()["size_bytes"] == 2**22


@pytest.mark.ceph
def test_nothing_that_a_viewer_reads_holds_a_key(
    client_of: ClientOf, ceph_cluster: CephCluster, ceph_pool: str
) -> None:
    api = client_of(ceph_cluster.conf_path, "viewer")
    key = ceph_cluster.admin.command("auth get-key", entity="client.admin")["key"]
    for path in ("/storage", "/storage/ceph/status", "/storage/ceph/util", "/storage/ceph/pool", "/cluster/settings"):
        answer = api.get(path)
        assert answer.status_code == 200, answer.text
        assert key not in answer.text


@pytest.mark.ceph
def test_without_its_monitors_a_cluster_is_a_problem_in_time_also_on_a_connection_from_before(
    client_of: ClientOf, tmp_path: Path
) -> None:
    with CephCluster(tmp_path / "ceph", osds=1) as harmed:
        api = client_of(harmed.conf_path)
        assert api.get("/storage/ceph/status").status_code == 200
        harmed.kill(MONITOR)
        for path in ("status", "util", "pool"):
            answer = api.get(f"/storage/ceph/{path}")
            assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable"), answer.text
        assert api.get("/vm").status_code == 200
    harmed.remove()


def test_a_cluster_that_is_not_there_is_a_problem_of_its_own_resources_alone(
    client_of: ClientOf, tmp_path: Path
) -> None:
    api = client_of(tmp_path / "none.conf")
    answer = api.get("/storage/ceph/pool")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert "none.conf cannot be read" in answer.json()["detail"]
    assert api.get("/storage/directory/pool").status_code == 200


def test_of_a_blocked_plugin_no_resource_is_served_or_documented(client_of: ClientOf, tmp_path: Path) -> None:
    assert "/storage/ceph/" in client_of(tmp_path / "none.conf").get("/openapi.json").text
    blocked = client_of(tmp_path / "none.conf", "viewer", blocked=("ceph",))
    assert "ceph" not in blocked.get("/openapi.json").text
    assert blocked.get("/storage/ceph/pool").json()["code"] == "no_such_route"


def checks(api: httpx.Client) -> dict[str, str]:
    return {check["name"]: check["summary"] for check in api.get("/storage/ceph/status").json()["checks"]}


def pool(api: httpx.Client, name: str) -> dict[str, object]:
    pools: list[dict[str, object]] = api.get("/storage/ceph/pool").json()["pools"]
    return next(one for one in pools if one["name"] == name)
