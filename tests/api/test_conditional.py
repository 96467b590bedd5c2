# SPDX-License-Identifier: Apache-2.0
"""If-Match: a change is made to the version its author saw, or not at all."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_core.changes import Change
from pvc_core.snapshot import ClusterSnapshot

CHANGES: list[tuple[str, str, Any]] = [
    ("POST", "/vm/web1", {"priority": 1}),
    ("PUT", "/vm/web1", {"definition": xml("web1", 700)}),
    ("DELETE", "/vm/web1", None),
    ("POST", "/vm/web1/state", {"state": "start"}),
    ("POST", "/vm/web1/node", {"action": "move", "target": "hv2"}),
    ("POST", "/vm/web1/rename", {"name": "web2"}),
    ("POST", "/node/hv1/domain-state", {"state": "flush"}),
    ("POST", "/cluster/settings", {"max_parallel_migrations": 3}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_change_to_another_version_is_refused_and_changes_nothing(
    api: httpx.Client, method: str, path: str, body: Any
) -> None:
    api.post("/vm", json={"definition": xml(), "target": "hv1"})
    before = [api.get(url).text for url in ("/vm", "/node", "/cluster/settings")]
    for wrong in ('"99"', 'W/"0"', '"a", "b"', "garbage", ""):
        answer = api.request(method, path, json=body, headers={"If-Match": wrong})
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), wrong
        assert answer.json()["current"]
    assert [api.get(url).text for url in ("/vm", "/node", "/cluster/settings")] == before


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize("form", ["{}", "*", '"99", {}'])
def test_a_change_to_the_version_that_is_there_is_made(
    api: httpx.Client, method: str, path: str, body: Any, form: str
) -> None:
    api.post("/vm", json={"definition": xml(), "target": "hv1"})
    shown = "/vm/web1" if path.startswith("/vm") else path.removesuffix("/domain-state")
    tag = api.get(shown).headers["ETag"]
    answer = api.request(method, path, json=body, headers={"If-Match": form.format(tag)})
    assert answer.status_code in (200, 202)
    assert answer.json()["changed"] is True
    if method != "DELETE":
        assert answer.headers["ETag"] != tag


def test_of_two_authors_who_saw_the_same_version_one_is_refused(api: httpx.Client) -> None:
    api.post("/vm", json={"definition": xml()})
    tag = api.get("/vm/web1").headers["ETag"]
    first, second = (api.post("/vm/web1", json={"priority": n}, headers={"If-Match": tag}) for n in (1, 2))
    assert (first.status_code, second.status_code) == (200, 412)
    assert api.get("/vm/web1").json()["priority"] == 1


def test_a_change_that_comes_between_looking_and_writing_is_noticed(
    process: ApiProcess, api: httpx.Client, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.post("/vm", json={"definition": xml()})
    eventually(lambda: "web1" in cluster.view.snapshot().uuid_by_name)
    tag = api.get("/vm/web1").headers["ETag"]
    commands = process.services.commands
    checked = commands._checked
    raced: list[bool] = []

    def race(*arguments: Any) -> Any:
        if not raced:
            raced.append(True)
            cluster.view.commit(_rival)
        return checked(*arguments)

    monkeypatch.setattr(commands, "_checked", race)
    answer = api.post("/vm/web1", json={"priority": 2}, headers={"If-Match": tag})
    assert raced
    assert answer.status_code == 412
    assert api.get("/vm/web1").json()["priority"] == 0


def _rival(snapshot: ClusterSnapshot) -> Change:
    """Another author's change of the same VM."""
    import msgspec

    from pvc_core import changes

    stored = snapshot.vm("web1")
    return Change((changes.write_vm(stored, msgspec.structs.replace(stored.value, reason="a rival")),), "a rival")
