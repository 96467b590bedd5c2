# SPDX-License-Identifier: Apache-2.0
"""GET /storage: the installed backends, what they can do, and how each is on every node, as reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually
from contributed_process import acme, asking, served_with

from pvc_core.model import Member, NodeReport
from pvc_core.snapshot import NodeView
from pvc_core.storage_reports import BackendReport
from pvc_core.testing.builders import a_node, stored


@pytest.fixture
def process(cluster: Cluster) -> Iterator[ApiProcess]:
    made = served_with(cluster, acme=acme())
    yield made
    made.connection.close()


@pytest.fixture
def api(process: ApiProcess) -> Iterator[httpx.Client]:
    with asking(process, "viewer") as client:
        yield client


def acme_in(api: httpx.Client) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {one["name"]: one for one in api.get("/storage").json()["backends"]}
    return found["acme"]


def with_storage(node: NodeView, **storage: BackendReport) -> NodeView:
    assert node.report is not None
    report: NodeReport = msgspec.structs.replace(node.report.value, storage=storage)
    return replace(node, report=stored(node.report.key, report))


def with_drivers(node: NodeView, *backends: str) -> NodeView:
    assert node.member is not None
    member: Member = msgspec.structs.replace(node.member.value, drivers={"storage_backends": backends})
    return replace(node, member=stored(node.member.key, member))


def test_a_backend_is_listed_with_its_plugin_and_what_it_can_do_where_it_runs(
    cluster: Cluster, api: httpx.Client
) -> None:
    cluster.has([with_storage(a_node("hv1"), acme=BackendReport(usable=True, capabilities=("resize", "shared")))])
    eventually(lambda: acme_in(api)["nodes"][0] == {"node": "hv1", "state": "usable", "detail": ""})
    found = acme_in(api)
    assert (found["plugin"], found["summary"]) == ("acme", "volumes in Acme's memory")
    assert found["capabilities"] == ["resize", "shared"]


def test_each_node_says_whether_it_can_use_it_and_why_not(cluster: Cluster, api: httpx.Client) -> None:
    cluster.has(
        [
            with_storage(a_node("hv1"), acme=BackendReport(usable=False, detail="no quorum")),
            with_drivers(a_node("hv2"), "directory"),
            a_node("hv3", alive=False),
            with_drivers(a_node("hv4"), "acme"),
        ]
    )
    wanted = {
        "hv1": ("unusable", "no quorum"),
        "hv2": ("absent", "its plugin is not loaded there"),
        "hv3": ("unknown", "its daemon is lost"),
        "hv4": ("unknown", "its daemon has not reported on it lately"),
    }
    eventually(lambda: {each["node"]: (each["state"], each["detail"]) for each in acme_in(api)["nodes"]} == wanted)


def test_a_blocked_backend_is_not_listed(cluster: Cluster) -> None:
    made = served_with(cluster, blocked=("acme",), acme=acme())
    with asking(made) as api:
        assert "acme" not in {one["name"] for one in api.get("/storage").json()["backends"]}
    made.connection.close()
