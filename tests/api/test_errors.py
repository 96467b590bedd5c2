# SPDX-License-Identifier: Apache-2.0
"""Every failure is a problem with a stable code, and none tells the client what only the log should know."""

from __future__ import annotations

import httpx
import pytest
from api_cluster import ApiProcess, Cluster, xml

from pvc_api.problems import OWN_MEANINGS, RESERVED_FIELDS, all_codes
from pvc_core import layout
from pvc_core.errors import MEANINGS
from pvc_core.testing.builders import a_vm, uuid_of


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an answer that is a problem in every respect."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:pvc:problem:{document['code']}"
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert all_codes()[document["code"]] == answer.status_code
    return answer.status_code, document["code"]


def test_an_unknown_route(api: httpx.Client) -> None:
    answer = api.get("/nix")
    assert problem_of(answer) == (404, "no_such_route")
    assert "/api/v1/nix" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "allowed"), [("PUT", "/vm", "POST"), ("DELETE", "/node/hv1", "GET")])
def test_a_method_that_is_not_served_names_those_that_are(
    api: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = api.request(method, path)
    assert problem_of(answer) == (405, "method_not_allowed")
    assert allowed in answer.headers["Allow"]


def test_a_body_that_is_not_json(api: httpx.Client) -> None:
    answer = api.post("/vm", content=b"<domain/>", headers={"Content-Type": "text/xml"})
    assert problem_of(answer) == (415, "unsupported_media_type")


def test_a_form_is_not_accepted(api: httpx.Client) -> None:
    assert problem_of(api.post("/vm", data={"definition": xml()})) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"definition": ',
        b"nope",
        b'{"definition": "\xff"}',
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"definition": "\\ud800"}',
        b'{"definition": 1e400}',
    ],
    ids=["open", "cut", "word", "not UTF-8", "deep arrays", "deep objects", "half a surrogate", "huge number"],
)
def test_malformed_json(api: httpx.Client, text: bytes) -> None:
    answer = api.post("/vm", content=text, headers={"Content-Type": "application/json"})
    assert problem_of(answer) == (400, "malformed_request")


def test_a_body_over_the_limit_is_refused_before_it_is_read(api: httpx.Client) -> None:
    answer = api.post("/vm", json={"definition": "x" * 1024 * 1024})
    assert problem_of(answer) == (413, "too_large")
    assert "1048576" in answer.json()["detail"]


def test_a_body_of_unknown_length_is_refused(api: httpx.Client) -> None:
    answer = api.post("/vm", content=iter([b"{}"]), headers={"Content-Type": "application/json"})
    assert problem_of(answer) == (411, "length_required")


def test_an_unexpected_error_is_in_the_log_under_an_id_and_not_in_the_answer(
    process: ApiProcess, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(process.services.commands, "questions", crash)
    process.services.commands.define(xml(), a_vm().metadata)
    answer = api.get("/vm/web1/placement")
    assert problem_of(answer) == (500, "internal")
    assert "secret detail" not in answer.text
    assert "Traceback" not in answer.text
    (line,) = process.events("request_crashed")
    assert line["request_id"] == answer.json()["request_id"]
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert line["request_id"] in answer.json()["detail"]


def test_an_unknown_vm(api: httpx.Client) -> None:
    for reference in ("nix", uuid_of("nix"), "a b", "%2e%2e", "ü", "x" * 300):
        assert problem_of(api.get(f"/vm/{reference}")) == (404, "not_found")


def test_an_unknown_node_is_answered_with_the_known_ones(api: httpx.Client) -> None:
    for answer in (api.get("/node/nix"), api.post("/node/nix/domain-state", json={"state": "flush"})):
        assert problem_of(answer) == (404, "not_found")
        assert answer.json()["known"] == ["hv1", "hv2"]
    answer = api.post("/vm", json={"definition": xml(), "target": "nix"})
    assert problem_of(answer) == (404, "not_found")
    assert answer.json()["known"] == ["hv1", "hv2"]


def test_a_command_on_a_broken_record_says_so(api: httpx.Client, cluster: Cluster) -> None:
    uuid = uuid_of("wreck")
    cluster.put(layout.vm(uuid), b'{"name": 1}')
    answer = api.post(f"/vm/{uuid}/state", json={"state": "start"})
    assert problem_of(answer) == (409, "broken_record")
    assert answer.json()["key"] == layout.vm(uuid)


def test_a_request_keeps_the_id_it_comes_with_if_it_is_one(api: httpx.Client) -> None:
    assert api.get("/health", headers={"X-Request-Id": "abc-1.2_3"}).headers["X-Request-Id"] == "abc-1.2_3"
    forged = api.get("/health", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"]
    assert forged != "a b\tc"
    assert forged


def test_no_error_has_a_field_that_hides_one_of_the_problem() -> None:
    for kind in (*MEANINGS, *OWN_MEANINGS):
        assert not RESERVED_FIELDS & set(getattr(kind, "__dataclass_fields__", ()))


def test_codes_are_unique_and_lower_case() -> None:
    codes = [meaning.code for meaning in (*MEANINGS.values(), *OWN_MEANINGS.values())]
    assert len(set(codes)) == len(codes)
    assert all(code == code.lower() and " " not in code for code in all_codes())
