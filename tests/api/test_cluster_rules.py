# SPDX-License-Identifier: Apache-2.0
"""Rules over the API: added, listed, written anew, removed, and shown wherever they are broken."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, eventually, xml

from pvc_core import layout

APART = {"name": "web-apart", "kind": "apart", "members": ["web1", "web2"], "hard": True}


@pytest.fixture
def webs(api: httpx.Client) -> httpx.Client:
    """web1 and web2, both starting on hv1."""
    for name in ("web1", "web2"):
        body = {"definition": xml(name), "target": "hv1", "start": True}
        assert api.post("/vm", json=body).status_code in (201, 202)
    return api


def rule(api: httpx.Client, name: str = "web-apart") -> Any:
    return api.get(f"/cluster/rule/{name}").json()


def test_a_rule_is_added_and_shown_with_whom_it_is_about(webs: httpx.Client) -> None:
    answer = webs.post("/cluster/rule", json={**APART, "hard": False, "members": "web1, tag:front"})
    assert (answer.status_code, answer.headers["Location"]) == (201, "/api/v1/cluster/rule/web-apart")
    shown = {
        "name": "web-apart",
        "kind": "apart",
        "members": ["web1", "tag:front"],
        "hard": False,
        "nodes": {},
        "vms": ["web1"],
        "missing": [],
        "state": "kept",
        "problems": [],
    }
    assert answer.json()["rule"] == rule(webs) == shown
    assert webs.get("/cluster/rule").json() == {"rules": [shown], "broken": []}
    assert webs.post("/cluster/rule", json=APART).json()["code"] == "already_exists"


def test_a_broken_rule_is_shown_by_itself_by_its_vms_and_by_the_cluster(webs: httpx.Client) -> None:
    sentence = "web1 and web2 are both on hv1, and are to be apart"
    added = webs.post("/cluster/rule", json=APART)
    assert added.json()["reason"] == f"rule web-apart added; it is broken now: {sentence}"
    assert (rule(webs)["state"], rule(webs)["problems"]) == ("broken", [sentence])
    assert webs.get("/vm/web2").json()["rules"] == [
        {"name": "web-apart", "kind": "apart", "hard": True, "problem": sentence}
    ]
    assert f"rule web-apart is broken: {sentence}" in webs.get("/cluster").json()["problems"]


def test_a_rule_decides_where_a_vm_goes_and_explain_says_so(webs: httpx.Client) -> None:
    webs.put("/cluster/rule/all", json={"kind": "apart", "members": "tag:web", "hard": True})
    webs.post("/vm/web1", json={"tags": "web"})
    body = {"definition": xml("web3"), "metadata": {"tags": ["web"]}, "target": "hv1"}
    refused = webs.post("/vm", json=body)
    assert refused.status_code == 409
    assert "rule all keeps it apart from web1, which is on hv1" in refused.json()["detail"]
    webs.put("/cluster/rule/near", json={"kind": "prefer", "members": "web2", "nodes": {"hv2": 10}})
    decision = webs.get("/vm/web2/placement").json()
    assert (decision["node"], decision["reason"]) == ("hv2", "rule near prefers hv2")
    assert decision["ranking"][0]["preference"] == 10


def test_a_rule_is_written_anew_and_removed(webs: httpx.Client) -> None:
    body = {"kind": "together", "members": "web1,web2"}
    assert webs.put("/cluster/rule/pair", json=body).json()["reason"] == "rule pair added"
    assert not webs.put("/cluster/rule/pair", json=body).json()["changed"]
    assert webs.put("/cluster/rule/pair", json={**body, "hard": True}).json()["rule"]["hard"]
    assert webs.delete("/cluster/rule/pair").json() == {"name": "pair", "reason": "rule pair is removed"}
    assert webs.get("/cluster/rule/pair").json()["code"] == "not_found"
    told = [event["kind"] for event in webs.get("/events").json()["events"] if event["kind"].startswith("rule_")]
    assert told == ["rule_added", "rule_changed", "rule_removed"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"members": ["web1", "web7"]}, "is no VM of this cluster; is web2 or web1 meant?"),
        ({"members": ["web1"]}, "must name two VMs or a tag"),
        ({"kind": "near"}, "kind"),
        ({"nodes": {"hv1": 5}}, "belong to a rule that prefers"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(webs: httpx.Client, change: dict[str, Any], detail: str) -> None:
    answer = webs.post("/cluster/rule", json={**APART, **change})
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_rules_are_changed_by_admins_and_seen_by_everybody(process: ApiProcess) -> None:
    with process.client(process.token("operator")) as operator:
        assert operator.post("/cluster/rule", json=APART).json()["code"] == "forbidden"
        assert operator.get("/cluster/rule").status_code == 200


def test_a_rule_that_does_not_parse_is_listed_and_can_be_removed(webs: httpx.Client, cluster: Cluster) -> None:
    cluster.put(layout.rule("odd"), b"rubbish")
    webs.put("/cluster/rule/pair", json={"kind": "apart", "members": "tag:a"})
    eventually(lambda: [one["key"] for one in webs.get("/cluster/rule").json()["broken"]] == ["/rules/odd"])
    assert webs.get("/cluster/rule/odd").json()["code"] == "broken_record"
    assert webs.delete("/cluster/rule/odd").status_code == 200
