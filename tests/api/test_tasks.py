# SPDX-License-Identifier: Apache-2.0
"""/task: a plugin's resource gives a node a task and answers 202; it can be looked at, listed and called off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster
from contributed_process import asking, served_with

from pvc_core import ApiBody, ApiResource, NodeTask, TaskView, answer_task, api_method, hookimpl
from pvc_core.contributions import ApiSite
from task_plugin import TaskPlugin


class NewWork(ApiBody, frozen=True):
    """What to do where."""

    node: str
    kind: str = "work"


class Works:
    """/works"""

    def __init__(self, site: ApiSite) -> None:
        self._site = site

    @api_method("operator", TaskView, status=202, body=NewWork, problems=(404, 409))
    def on_post(self, req: Any, resp: Any) -> None:
        """Have something wiped."""
        body: NewWork = req.context.json
        answer_task(resp, self._site.give_task(NodeTask(body.node, body.kind, "wipe sdb", {"device": "sdb"})))


class Plugin(TaskPlugin):
    """Its tasks with a resource that gives them."""

    @hookimpl
    def pvc_api_resources(self) -> list[ApiResource]:
        return [ApiResource("/works", Works, "Work for nodes")]


@pytest.fixture
def process(cluster: Cluster) -> Iterator[ApiProcess]:
    made = served_with(cluster, acme=Plugin())
    yield made
    made.connection.close()


@pytest.fixture
def api(process: ApiProcess) -> Iterator[httpx.Client]:
    with asking(process, "operator") as client:
        yield client


def test_it_is_answered_with_202_the_task_and_where_to_look(api: httpx.Client) -> None:
    answer = api.post("/works", json={"node": "hv1"})
    task = answer.json()
    assert (answer.status_code, task["state"], task["settled"]) == (202, "waiting", False)
    assert answer.headers["Location"] == task["watch"] == f"/api/v1/task/{task['id']}"
    assert api.get(f"/task/{task['id']}").json() == task


def test_tasks_are_listed_of_all_nodes_or_of_one(api: httpx.Client) -> None:
    for node in ("hv1", "hv2"):
        api.post("/works", json={"node": node})
    assert [task["node"] for task in api.get("/task").json()["tasks"]] == ["hv1", "hv2"]
    assert [task["node"] for task in api.get("/task?node=hv2").json()["tasks"]] == ["hv2"]
    assert api.get("/task?node=hv9").status_code == 404


def test_one_is_called_off(api: httpx.Client) -> None:
    identity = api.post("/works", json={"node": "hv1"}).json()["id"]
    answer = api.delete(f"/task/{identity}").json()
    assert (answer["task"]["state"], answer["reason"]) == ("cancelled", "called off before it began")
    assert api.delete(f"/task/{identity}").json()["code"] == "refused"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"node": "hv9"}, 404, "not_found"),
        ({"node": "hv1", "kind": "paint"}, 422, "invalid_input"),
    ],
)
def test_a_task_for_nobody_is_a_problem_and_gives_nothing(
    api: httpx.Client, body: dict[str, str], status: int, code: str
) -> None:
    answer = api.post("/works", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert api.get("/task").json()["tasks"] == []


@pytest.mark.parametrize("identity", ["1700000000000-0123abcd", "..", "x"])
def test_one_that_is_not_there_is_not_found(api: httpx.Client, identity: str) -> None:
    assert api.get(f"/task/{identity}").status_code == 404


def test_one_that_does_not_parse_is_named_and_hides_no_other(cluster: Cluster, api: httpx.Client) -> None:
    api.post("/works", json={"node": "hv1"})
    cluster.put("/tasks/1700000000000-0123abcd", b"{")
    listed = api.get("/task").json()
    assert [broken["key"] for broken in listed["broken"]] == ["/tasks/1700000000000-0123abcd"]
    assert len(listed["tasks"]) == 1
