# SPDX-License-Identifier: Apache-2.0
"""Requests are taken literally, and a refusal names the field, the problem and what is allowed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api_cluster import xml

from pvc_api.bodies import MetadataPatch, SettingsPatch
from pvc_core.model import VmMetadata
from pvc_core.settings_changes import SETTING_NAMES

METADATA_FIELDS = list(VmMetadata.__struct_fields__)

WRONG_BODIES: list[tuple[str, Any, str, list[str]]] = [
    ("/vm", {}, "definition", []),
    ("/vm", [], "body", []),
    ("/vm", "text", "body", []),
    ("/vm", {"definition": 7}, "definition", []),
    ("/vm", {"definition": None}, "definition", []),
    ("/vm", {"definition": "", "start": "yes"}, "start", []),
    ("/vm", {"definition": "", "start": 1}, "start", []),
    ("/vm", {"definition": "", "stop": True}, "stop", ["definition", "metadata", "target", "start"]),
    (
        "/vm",
        {"definition": "", "metadata": {"selector": "mem"}},
        "metadata.selector",
        list(VmMetadata.__struct_fields__),
    ),
    ("/vm", {"definition": "", "metadata": {"max_downtime_ms": "300"}}, "metadata.max_downtime_ms", []),
    ("/vm", {"definition": "", "metadata": {"node_limit": ["hv1", 2]}}, "metadata.node_limit[1]", []),
    ("/vm", {"definition": "", "metadata": None}, "metadata", []),
    ("/vm/web1", {"migration_method": "warp"}, "migration_method", ["live", "none", "shutdown"]),
    ("/vm/web1", {"priority": 1001}, "priority", []),
    ("/vm/web1/state", {"state": "reboot"}, "state", ["disable", "restart", "shutdown", "start", "stop"]),
    ("/vm/web1/state", {"state": "start", "forced": True}, "forced", ["state", "force"]),
    ("/vm/web1/node", {"target": "hv2"}, "action", []),
    ("/vm/web1/node", {"action": "unmigrate", "target": "hv2"}, "target", []),
    ("/vm/web1/rename", {"new_name": "x"}, "new_name", ["name"]),
    ("/node/hv1/domain-state", {"state": "drain"}, "state", ["flush", "ready"]),
    ("/cluster/settings", {"colour": "red"}, "colour", [*SETTING_NAMES, "plugins"]),
    ("/cluster/settings", {"report_interval_s": 0}, "report_interval_s", []),
    ("/token", {"name": "a b", "role": "viewer"}, "name", []),
    ("/token", {"name": "a", "role": "root"}, "role", ["admin", "operator", "viewer"]),
    ("/token", {"name": "a", "role": "viewer", "expires_in_s": 0}, "expires_in_s", []),
]


@pytest.mark.parametrize(("path", "body", "field", "allowed"), WRONG_BODIES)
def test_a_wrong_body_is_refused_naming_field_and_allowed_values(
    api: httpx.Client, path: str, body: Any, field: str, allowed: list[str]
) -> None:
    api.post("/vm", json={"definition": xml("web1")}).raise_for_status()
    before = api.get("/vm").json()
    answer = api.post(path, json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_input"), problem
    assert (problem["field"], problem["allowed"]) == (field, allowed)
    assert field in problem["detail"]
    assert api.get("/vm").json() == before


@pytest.mark.parametrize(
    ("path", "field", "allowed"),
    [
        ("/vm?nod=hv1", "nod", ["node", "state", "tag", "limit", "after"]),
        ("/vm?limit=-1", "limit", []),
        ("/vm?limit=many", "limit", []),
        ("/vm?state=dead", "state", []),
        ("/vm?node=hv1&node=hv2", "node", []),
        ("/vm/web1?verbose=1", "verbose", []),
        ("/vm/web1/state?wait=61", "wait", []),
        ("/vm/web1/state?wait=-1", "wait", []),
        ("/vm/web1/state?wait=nan", "wait", []),
        ("/node/hv1/domain-state?since=now", "since", []),
    ],
)
def test_a_wrong_query_is_refused_naming_the_parameter(
    api: httpx.Client, path: str, field: str, allowed: list[str]
) -> None:
    answer = api.get(path)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "invalid_input", field), problem
    if allowed:
        assert problem["allowed"] == allowed


def test_the_value_that_was_refused_is_in_the_answer_but_never_all_of_a_long_one(api: httpx.Client) -> None:
    problem = api.post("/vm/web1/state", json={"state": "x" * 5000}).json()
    assert problem["value"] == "x" * 80


def test_patches_have_exactly_the_fields_of_the_records_they_change() -> None:
    assert MetadataPatch.__struct_fields__ == VmMetadata.__struct_fields__
    assert SettingsPatch.__struct_fields__ == (*SETTING_NAMES, "plugins")


def test_what_an_empty_state_filter_means_is_said_by_leaving_it_out(api: httpx.Client) -> None:
    assert api.get("/vm?state=").json() == api.get("/vm").json()
