# SPDX-License-Identifier: Apache-2.0
"""While the store is away everything is answered with 503 and a code; when it is back, so is the API, by itself."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_core.model import VmState
from pvc_core.testing.builders import a_node, a_vm


def test_the_api_answers_503_while_the_store_is_away_and_comes_back_by_itself(
    process: ApiProcess, api: httpx.Client, cluster: Cluster
) -> None:
    api.post("/vm", json={"definition": xml()})
    cluster.goes_away()
    eventually(lambda: api.get("/vm").status_code == 503)
    for answer in (
        api.get("/vm"),
        api.get("/vm/web1"),
        api.get("/node"),
        api.get("/cluster"),
        api.post("/vm", json={"definition": xml("web2")}),
        api.post("/vm/web1/state", json={"state": "start"}),
        api.post("/token", json={"name": "ci", "role": "viewer"}),
        api.get("/token"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    health = api.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "unavailable")
    assert health.json()["store"] != "connected"

    cluster.comes_back()
    eventually(lambda: api.get("/health").status_code == 200)
    assert api.get("/vm").json()["total"] == 1
    assert api.post("/vm", json={"definition": xml("web2")}).status_code == 201


def test_losing_the_store_while_waiting_does_not_turn_a_command_that_was_taken_into_an_error(
    api: httpx.Client, cluster: Cluster
) -> None:
    cluster.has([a_node("hv1"), a_node("hv2")], [a_vm("web1", state=VmState.STOPPED)])
    eventually(lambda: api.get("/vm").json()["total"] == 1)
    with ThreadPoolExecutor(2) as pool:
        command = pool.submit(api.post, "/vm/web1/state?wait=30", json={"state": "start"})
        drain = pool.submit(api.post, "/node/hv2/domain-state?wait=30", json={"state": "flush"})
        eventually(lambda: cluster.snapshot.vm("web1").value.state is VmState.STARTING)
        eventually(lambda: cluster.snapshot.node("hv2").mode == "flushing")
        cluster.goes_away()
        answers = [command.result(10), drain.result(10)]
    cluster.comes_back()
    for answer in answers:
        assert (answer.status_code, answer.json()["changed"]) == (202, True), answer.text
        assert answer.json()["watch"]


def test_a_process_that_starts_while_the_store_is_away_serves_as_soon_as_it_is_there(cluster: Cluster) -> None:
    secret = cluster_token(cluster)
    cluster.goes_away()
    store = cluster.registry.open_store(cluster.url.replace("?", "?request_timeout_s=0.2&"))
    process = ApiProcess(store, cluster.registry)
    cluster.file.mkdir()  # nothing can be opened or created there
    process.connection.open_when_possible(patience_s=0.2)
    with process.client(secret) as client:
        assert client.get("/vm").json()["code"] == "store_unavailable"
        assert client.get("/health").status_code == 503
        cluster.file.rmdir()
        cluster.comes_back()
        eventually(lambda: client.get("/vm").status_code == 200)
        assert len(client.get("/node").json()["nodes"]) == 2
    assert process.events("waiting_for_store")
    assert process.events("store_connected")
    process.connection.close()


def test_closing_ends_the_attempts_to_connect(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere") / "a folder"
    nowhere.mkdir()
    process = ApiProcess(cluster.registry.open_store(f"sqlite://{nowhere}?request_timeout_s=0.2"), cluster.registry)
    process.connection.open_when_possible(patience_s=0.1)
    started_s = time.monotonic()
    process.connection.close()
    assert time.monotonic() - started_s < 3


def cluster_token(cluster: Cluster) -> str:
    """A viewer's secret, made before any API runs."""
    process = ApiProcess(cluster.registry.open_store(cluster.url), cluster.registry)
    process.connection.open()
    secret = process.token("viewer")
    process.connection.close()
    return secret
