# SPDX-License-Identifier: Apache-2.0
"""What an admin changes about a Ceph cluster through the API: its pools, which OSDs take part, and their flags."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from api_cluster import ApiProcess, Cluster

from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_vm
from pvc_lab.ceph_cluster import MANAGER, MONITOR, CephCluster
from storage.ceph_storage import opened_by_a_guest

pytestmark = pytest.mark.ceph
POOL = "/storage/ceph/pool"


@pytest.fixture
def api(cluster: Cluster, ceph_cluster: CephCluster) -> Iterator[httpx.Client]:
    """An admin's client on a cluster with a stopped VM web1."""
    cluster.has([a_node("hv1")], [a_vm("web1", state="stopped")])
    with client_on(cluster, ceph_cluster) as client:
        yield client


@contextmanager
def client_on(cluster: Cluster, ceph_cluster: CephCluster) -> Iterator[httpx.Client]:
    """An admin's."""
    registry = Registry.load((), {"ceph": {"conf": str(ceph_cluster.conf_path), "timeout_s": 5}}, disabled_env="")
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    with process.client(process.token("admin")) as client:
        yield client
    process.connection.close()


@pytest.fixture
def new_pool(api: httpx.Client, ceph_cluster: CephCluster) -> Iterator[str]:
    """The name of a pool that the API has made."""
    name = f"made-{uuid4().hex[:8]}"
    made = api.post(POOL, json={"name": name, "pg_num": 4, "size": 2})
    assert made.status_code == 201, made.text
    yield name
    ceph_cluster.remove_pool(name)


def test_a_pool_that_is_made_takes_volumes_until_it_is_removed(api: httpx.Client, new_pool: str) -> None:
    shown = pool(api, new_pool)
    assert (shown["volumes"], shown["pg_num"], shown["size"]) == (True, 4, 2)
    assert api.post(POOL, json={"name": new_pool}).json()["code"] == "already_exists"
    made = api.post(f"{POOL}/{new_pool}/volume", json={"name": "disk", "size_bytes": 2**22})
    assert made.status_code == 201, made.text
    assert api.delete(f"{POOL}/{new_pool}").json() == {"reason": f"pool {new_pool} is removed, with all that was in it"}
    assert api.delete(f"{POOL}/{new_pool}").json()["code"] == "not_found"


def test_a_pool_with_a_volume_of_a_vm_is_not_removed_and_the_vm_is_named(api: httpx.Client, new_pool: str) -> None:
    added = api.post(f"{POOL}/{new_pool}/volume", json={"name": "disk", "size_bytes": 2**22})
    assert added.status_code == 201, added.text
    added = api.post("/vm/web1/volume", json={"backend": "ceph", "pool": new_pool, "name": "disk"})
    assert added.status_code == 201, added.text
    refused = api.delete(f"{POOL}/{new_pool}")
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")
    assert "has volumes of VM web1" in refused.json()["detail"]
    assert pool(api, new_pool)["name"] == new_pool


def test_a_pool_with_a_volume_that_somebody_has_open_is_not_removed(
    api: httpx.Client, ceph_cluster: CephCluster, new_pool: str
) -> None:
    api.post(f"{POOL}/{new_pool}/volume", json={"name": "disk", "size_bytes": 2**22})
    with opened_by_a_guest(ceph_cluster, new_pool, "disk"):
        refused = api.delete(f"{POOL}/{new_pool}").json()
    assert refused["code"] == "refused"
    assert "volume disk: is in use by client." in refused["detail"]


def test_where_the_cluster_lets_no_pool_be_removed_that_is_said_with_what_would_allow_it(
    api: httpx.Client, ceph_cluster: CephCluster, new_pool: str
) -> None:
    allow_removals(ceph_cluster, False)
    try:
        refused = api.delete(f"{POOL}/{new_pool}").json()
    finally:
        allow_removals(ceph_cluster, True)
    assert refused["code"] == "refused"
    assert "`ceph config set mon mon_allow_pool_delete true` allows it" in refused["detail"]


def test_a_pool_of_another_application_is_not_removed(api: httpx.Client, ceph_cluster: CephCluster) -> None:
    name = f"other-{uuid4().hex[:8]}"
    ceph_cluster.create_pool(name, application="rgw")
    try:
        assert "it belongs to rgw" in api.delete(f"{POOL}/{name}").json()["detail"]
    finally:
        ceph_cluster.remove_pool(name)


def test_the_settings_of_a_pool_are_changed_one_by_one(api: httpx.Client, new_pool: str) -> None:
    for setting, value in (("size", "3"), ("min_size", "2"), ("pg_autoscale_mode", "warn"), ("quota", "1GiB")):
        answer = api.post(f"{POOL}/{new_pool}", json={"setting": setting, "value": value})
        assert answer.json() == {"reason": f"{setting} of pool {new_pool} is {value} now"}
    shown = pool(api, new_pool)
    assert (shown["size"], shown["min_size"], shown["pg_autoscale_mode"]) == (3, 2, "warn")
    assert shown["quota_bytes"] == 2**30
    api.post(f"{POOL}/{new_pool}", json={"setting": "quota", "value": "none"})
    assert pool(api, new_pool)["quota_bytes"] == 0


@pytest.mark.parametrize(
    ("setting", "value", "status", "said"),
    [
        ("size", "many", 422, "1 to 10"),
        ("size", "1", 409, "data loss"),
        ("min_size", "9", 422, "between 1 and size"),
        ("pg_autoscale_mode", "fast", 422, "on, off, warn"),
        ("quota", "10", 422, "needs a unit"),
        ("crush_rule", "0", 422, "pg_autoscale_mode"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_could(
    api: httpx.Client, new_pool: str, setting: str, value: str, status: int, said: str
) -> None:
    answer = api.post(f"{POOL}/{new_pool}", json={"setting": setting, "value": value})
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


def test_an_osd_goes_out_and_in_again(api: httpx.Client) -> None:
    assert api.post("/storage/ceph/osd/osd.1", json={"in_cluster": False}).json() == {"reason": "osd.1 is out"}
    assert [osd["in_cluster"] for osd in osds(api)["osds"]] == [True, False, True]
    assert api.post("/storage/ceph/osd/1", json={"in_cluster": True}).json() == {"reason": "osd.1 is in"}
    shown = osds(api)["osds"][1]
    assert (shown["name"], shown["up"], shown["in_cluster"], shown["device_class"]) == ("osd.1", True, True, "ssd")
    unknown = api.post("/storage/ceph/osd/9", json={"in_cluster": True}).json()
    assert (unknown["code"], "osd.0" in unknown["detail"]) == ("not_found", True)


def test_an_osd_is_made_by_the_node_with_the_disk_as_a_task(api: httpx.Client) -> None:
    given = api.post("/storage/ceph/osd", json={"node": "hv1", "device": "/dev/sdb", "device_class": "ssd"})
    task = given.json()
    assert (given.status_code, task["node"], task["kind"]) == (202, "hv1", "ceph-osd-add"), given.text
    assert task["parameters"] == {"device": "/dev/sdb", "device_class": "ssd"}
    assert given.headers["Location"] == task["watch"]
    for body, field in (({"node": "hv9", "device": "/dev/sdb"}, "hv9"), ({"node": "hv1", "device": "sdb"}, "device")):
        refused = api.post("/storage/ceph/osd", json=body)
        assert (refused.status_code in (404, 422), field in refused.text) == (True, True), refused.text


def test_an_osd_is_removed_by_the_node_on_whose_host_it_runs_or_by_the_one_that_is_named(api: httpx.Client) -> None:
    host = platform.node()
    refused = api.delete("/storage/ceph/osd/osd.1").json()
    assert (refused["code"], f"is on {host}, which is no node" in refused["detail"]) == ("refused", True), refused
    given = api.delete("/storage/ceph/osd/osd.1", params={"node": "hv1"})
    assert (given.status_code, given.json()["kind"], given.json()["parameters"]) == (202, "ceph-osd-remove", {"osd": 1})
    unknown = api.delete("/storage/ceph/osd/osd.9", params={"node": "hv1"}).json()
    assert (unknown["code"], "osd.0" in unknown["detail"]) == ("not_found", True)


def test_a_node_whose_host_has_the_osd_is_found(cluster: Cluster, ceph_cluster: CephCluster) -> None:
    cluster.has([a_node(platform.node())])
    with client_on(cluster, ceph_cluster) as api:
        assert api.delete("/storage/ceph/osd/2").json()["node"] == platform.node()


def test_a_flag_of_all_osds_is_set_and_taken_away_and_others_are_none(api: httpx.Client) -> None:
    assert api.post("/storage/ceph/flag/noout", json={"set": True}).json() == {"reason": "noout is set"}
    assert osds(api)["flags"] == ["noout"]
    assert api.post("/storage/ceph/flag/noout", json={"set": False}).json() == {"reason": "noout is set no longer"}
    assert osds(api)["flags"] == []
    refused = api.post("/storage/ceph/flag/pause", json={"set": True})
    assert (refused.status_code, "noout" in refused.json()["detail"]) == (422, True)


def test_a_manager_that_does_not_answer_hides_no_osd(api: httpx.Client, ceph_cluster: CephCluster) -> None:
    ceph_cluster.freeze(MANAGER)
    try:
        shown = osds(api)
    finally:
        ceph_cluster.thaw(MANAGER)
    assert [(osd["up"], osd["total_bytes"]) for osd in shown["osds"]] == [(True, None)] * 3
    assert "no manager tells how full they are" in shown["problem"]


def allow_removals(cluster: CephCluster, allowed: bool) -> None:
    """Tell the monitor itself, whose configuration file allows it."""
    told = {"prefix": "injectargs", "injected_args": [f"--mon_allow_pool_delete={str(allowed).lower()}"]}
    code, _, said = cluster.admin.rados.mon_command(json.dumps(told), b"", target=MONITOR.partition(".")[2])
    assert code == 0, said


def pool(api: httpx.Client, name: str) -> dict[str, object]:
    pools: list[dict[str, object]] = api.get(POOL).json()["pools"]
    return next(one for one in pools if one["name"] == name)


def osds(api: httpx.Client) -> dict[str, Any]:
    answer = api.get("/storage/ceph/osd")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
