# SPDX-License-Identifier: Apache-2.0
"""Resources that a plugin adds: authenticated, documented and isolated, and never in the place of PVC's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from api_cluster import ApiProcess, Cluster, eventually
from contributed_process import acme, asking, served_with

from pvc_api.authentication import Role
from pvc_core import ApiResource, hookimpl

PATIENCE_S = 20


@pytest.fixture
def acme_process(cluster: Cluster) -> Iterator[ApiProcess]:
    """An API process that serves Acme's resources."""
    made = served_with(cluster, acme=acme())
    yield made
    made.connection.close()


def test_a_contributed_resource_is_served_with_what_it_declares(acme_process: ApiProcess) -> None:
    with asking(acme_process) as api:
        assert api.get("/storage/acme").json() == {
            "pools": [{"name": "fast", "size_gib": 10}, {"name": "slow", "size_gib": 99}]
        }
        assert [pool["name"] for pool in api.get("/storage/acme?at_least_gib=50").json()["pools"]] == ["slow"]
        made = api.post("/storage/acme", json={"name": "new"})
        assert (made.status_code, made.json()) == (201, {"name": "new", "size_gib": 1})


def test_what_a_request_must_not_hold_is_refused_before_the_plugin_sees_it(acme_process: ApiProcess) -> None:
    with asking(acme_process) as api:
        assert api.post("/storage/acme", json={"name": 7}).json()["field"] == "name"
        assert api.post("/storage/acme", json={"name": "x", "colour": "red"}).json()["field"] == "colour"
        assert api.get("/storage/acme?colour=red").status_code == 422


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        (None, "GET", "/storage/acme", 401),
        ("viewer", "GET", "/storage/acme", 200),
        ("viewer", "POST", "/storage/acme", 403),
        ("operator", "POST", "/storage/acme", 422),
        ("operator", "GET", "/storage/acme/trouble/none", 403),
        ("admin", "GET", "/storage/acme/trouble/none", 200),
    ],
)
def test_it_is_open_to_the_role_it_declares_and_without_a_declaration_to_an_admin(
    acme_process: ApiProcess, role: Role | None, method: str, path: str, status: int
) -> None:
    with asking(acme_process, role) if role else acme_process.client() as api:
        assert api.request(method, path, json={} if method == "POST" else None).status_code == status


@pytest.mark.parametrize("what", ["raise", "exit"])
def test_a_crash_is_a_problem_that_names_the_plugin_and_keeps_the_rest_in_the_log(
    acme_process: ApiProcess, what: str
) -> None:
    with asking(acme_process) as api:
        answer = api.get(f"/storage/acme/trouble/{what}")
        assert (answer.status_code, answer.json()["code"], answer.json()["plugin"]) == (500, "plugin_error", "acme")
        assert "secret" not in answer.text
        assert api.get("/storage/acme").status_code == 200
        eventually(lambda: any(event["plugin"] == "acme" for event in api.get("/events").json()["events"]))


def test_an_error_that_a_plugin_means_is_answered_as_any_other(acme_process: ApiProcess) -> None:
    with asking(acme_process) as api:
        answer = api.get("/storage/acme/trouble/refuse")
        assert (answer.status_code, answer.json()["code"]) == (409, "refused")


def test_an_answer_that_is_not_what_was_declared_is_the_plugins_error(acme_process: ApiProcess) -> None:
    with asking(acme_process) as api:
        answer = api.post("/storage/acme/trouble/none")
        assert (answer.status_code, answer.json()["code"]) == (500, "plugin_error")
        assert "its answer is no Pools" in answer.json()["detail"]


def test_what_would_take_a_path_of_pvc_or_cannot_be_built_is_refused_and_reported(acme_process: ApiProcess) -> None:
    with asking(acme_process) as api:
        assert api.get("/vm/acme").json()["code"] == "not_found"
        assert api.get("/storage/acme-broken").json()["code"] == "no_such_route"
        plugin = api.get("/plugin/acme").json()
        assert "/vm/acme is not served: PVC serves /vm/{vm}" in plugin["error"]
        assert "/storage/acme-broken is not served: RuntimeError: no such device" in plugin["error"]
        assert plugin["state"] == "active"
        assert any("/vm/acme" in problem for problem in api.get("/plugin").json()["problems"])


def test_two_plugins_that_want_the_same_paths_are_both_refused(cluster: Cluster) -> None:
    class One:
        @hookimpl
        def pvc_api_resources(self) -> list[ApiResource]:
            return [ApiResource("/storage/{pool}", lambda site: object(), "one")]

    class Other:
        @hookimpl
        def pvc_api_resources(self) -> list[ApiResource]:
            return [ApiResource("/storage/x", lambda site: object(), "other")]

    process = served_with(cluster, one=One(), other=Other())
    with asking(process) as api:
        assert api.get("/storage/x").json()["code"] == "no_such_route"
        assert "plugin other adds /storage/x" in api.get("/plugin/one").json()["error"]
        assert "plugin one adds /storage/{pool}" in api.get("/plugin/other").json()["error"]
    process.connection.close()


def test_a_plugin_may_name_something_beside_a_field_of_its_own_but_not_twice_the_same(cluster: Cluster) -> None:
    class Pools:
        @hookimpl
        def pvc_api_resources(self) -> list[ApiResource]:
            templates = ("/pool/{pool}", "/pool/status", "/twice/{a}", "/twice/{b}", "/pool/{other}/disk")
            return [ApiResource(template, lambda site: self, "pools") for template in templates]

        def on_get(self, req: Any, resp: Any, pool: str = "", other: str = "") -> None:
            resp.media = {"pool": pool}

    process = served_with(cluster, pools=Pools())
    with asking(process) as api:
        assert api.get("/pool/status").json() == {"pool": ""}
        error = api.get("/plugin/pools").json()["error"]
        assert "/twice/{a} is not served: plugin pools adds /twice/{b}" in error
        assert "the template cannot be served" in error, "falcon knows one name only for a field at one place"
        assert api.get("/vm").status_code == 200
    process.connection.close()


def test_it_stands_in_the_openapi_document_under_names_of_its_own(acme_process: ApiProcess) -> None:
    with asking(acme_process) as api:
        document: dict[str, Any] = api.get("/openapi.json").json()
    operations = document["paths"]["/api/v1/storage/acme"]
    assert operations["get"]["summary"] == "List the pools."
    assert operations["get"]["parameters"][0]["name"] == "at_least_gib"
    schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/acme_storage.Pools"}
    assert "acme_storage.Pool" in document["components"]["schemas"]
    assert document["paths"]["/api/v1/storage/acme/trouble/{what}"]["get"]["summary"] == "Whatever goes wrong."


def test_a_blocked_plugin_shows_nowhere(cluster: Cluster, acme_process: ApiProcess) -> None:
    process = served_with(cluster, blocked=("acme",), acme=acme())
    with asking(process) as api:
        assert api.get("/storage/acme").json()["code"] == "no_such_route"
        assert "acme_storage" not in api.get("/openapi.json").text
        assert api.get("/plugin/acme").json()["state"] == "blocked"
    process.connection.close()


def test_a_plugin_that_hangs_leaves_threads_to_all_others(cluster: Cluster) -> None:
    go_on, arrived = threading.Event(), threading.Semaphore(0)

    class Hanging:
        @hookimpl
        def pvc_api_resources(self) -> list[ApiResource]:
            return [ApiResource("/hang", lambda site: self, "hangs")]

        def on_get(self, req: Any, resp: Any) -> None:
            arrived.release()
            go_on.wait(PATIENCE_S)
            resp.media = {}

    process = served_with(cluster, hanging=Hanging())
    secret = process.token("admin")
    limit = process.waiter.slots // 2

    def ask() -> None:
        with process.client(secret) as client:
            client.get("/hang")

    threads = [threading.Thread(target=ask) for _ in range(limit)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert arrived.acquire(timeout=PATIENCE_S)
    with process.client(secret) as api:
        refused = api.get("/hang")
        assert (refused.status_code, refused.json()["code"]) == (503, "plugin_busy")
        assert api.get("/vm").status_code == 200
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert api.get("/hang").status_code == 200
    process.connection.close()


def test_the_snapshot_and_the_options_are_those_of_now(cluster: Cluster) -> None:
    sites: list[Any] = []

    class Asking:
        @hookimpl
        def pvc_api_resources(self) -> list[ApiResource]:
            return [ApiResource("/asking", lambda site: sites.append(site) or self, "asks")]

        def on_get(self, req: Any, resp: Any) -> None:
            resp.media = {}

    process = served_with(cluster, asking=Asking())
    assert set(sites[0].snapshot().nodes) == {"hv1", "hv2"}
    assert sites[0].options().machine is None
    assert msgspec.json.encode(sorted(sites[0].snapshot().nodes))
    process.connection.close()
