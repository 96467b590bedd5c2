# SPDX-License-Identifier: Apache-2.0
"""One line per request, and an audit line per change, with the name of the token and never its secret."""

from __future__ import annotations

import httpx
from api_cluster import ApiProcess, xml


def test_every_request_leaves_one_line(process: ApiProcess, api: httpx.Client) -> None:
    process.log.entries.clear()
    answer = api.get("/vm?node=hv1", headers={"X-Request-Id": "abc"})
    assert answer.status_code == 200
    (line,) = process.events("request")
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "request",
        "log_level": "info",
        "request_id": "abc",
        "method": "GET",
        "path": "/api/v1/vm",
        "status": 200,
        "token": "admin-token",
        "remote": "127.0.0.1",
    }
    assert process.events("audit") == []


def test_every_change_leaves_an_audit_line_with_who_and_what(process: ApiProcess, api: httpx.Client) -> None:
    process.log.entries.clear()
    api.post("/vm", json={"definition": xml()})
    (line,) = process.events("audit")
    assert (line["token"], line["role"], line["method"], line["path"]) == ("admin-token", "admin", "POST", "/api/v1/vm")
    assert line["status"] == 201
    assert line["outcome"].startswith("defined;")


def test_what_was_refused_is_audited_too_with_its_code(process: ApiProcess) -> None:
    with process.client(process.token("viewer")) as viewer:
        viewer.post("/vm", json={"definition": xml()})
    with process.client("pvc_guess_0") as nobody:
        nobody.delete("/vm/web1")
    forbidden, unknown = process.events("audit")[-2:]
    assert (forbidden["token"], forbidden["status"], forbidden["code"]) == ("viewer-token", 403, "forbidden")
    assert forbidden["outcome"] == "this needs the role operator; the token has viewer"
    assert (unknown["token"], unknown["role"], unknown["status"]) == ("", "", 401)
    assert "guess" not in str(process.log.entries)


def test_a_new_token_is_audited_by_name(process: ApiProcess, api: httpx.Client) -> None:
    api.post("/token", json={"name": "ci", "role": "operator"})
    api.delete("/token/ci")
    made, removed = process.events("audit")[-2:]
    assert made["outcome"] == "token ci with role operator"
    assert removed["outcome"] == "token ci removed"
