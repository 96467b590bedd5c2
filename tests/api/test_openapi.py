# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document is well-formed, complete, and true: answers are what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import falcon
import httpx
import pytest
from api_cluster import ApiProcess, xml

PATH_PARAMETER = re.compile(r"\{(\w+)\}")


@pytest.fixture
def document(api: httpx.Client) -> dict[str, Any]:
    answer = api.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    return dict(answer.json())


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def references_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)


def conforms(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str = "$") -> list[str]:
    """Where a value differs from a schema: the part of JSON Schema that the document uses."""
    if "$ref" in schema:
        return conforms(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, at)
    if "anyOf" in schema:
        found = [conforms(value, choice, document, at) for choice in schema["anyOf"]]
        return [] if [] in found else found[0]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value!r} is none of {schema['enum']}"]
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{at}: {value!r} is no {schema['type']}"]
    problems: list[str] = []
    if isinstance(value, list):
        for number, item in enumerate(value):
            problems += conforms(item, schema.get("items", {}), document, f"{at}[{number}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        problems += [f"{at}.{name} is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            if name in properties:
                problems += conforms(inner, properties[name], document, f"{at}.{name}")
            elif isinstance(schema.get("additionalProperties"), dict):
                problems += conforms(inner, schema["additionalProperties"], document, f"{at}.{name}")
            elif schema.get("additionalProperties") is not True:
                problems.append(f"{at}.{name} is not in the document")
    return problems


def test_every_route_and_method_is_in_the_document_and_the_other_way_round(
    process: ApiProcess, document: dict[str, Any]
) -> None:
    served = set()
    pending = list(process.app._router._roots)
    while pending:
        node = pending.pop()
        pending += node.children
        if node.resource is not None:
            methods = [method for method in falcon.HTTP_METHODS if hasattr(node.resource, f"on_{method.lower()}")]
            served |= {(node.uri_template, method) for method in methods}
    assert {(path, method.upper()) for path, method, _ in operations_of(document)} == served


def test_it_says_which_version_of_openapi_and_of_the_api_it_is(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "PVC"
    assert document["info"]["version"]


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    targets = {reference.removeprefix("#/components/schemas/") for reference in references_in(document)}
    assert targets == set(schemas)


def test_every_operation_is_complete(document: dict[str, Any]) -> None:
    ids = []
    for path, method, operation in operations_of(document):
        where = f"{method} {path}"
        ids.append(operation["operationId"])
        assert operation["summary"].endswith("."), where
        assert len(operation["tags"]) == 1, where
        in_path = {found["name"] for found in operation["parameters"] if found["in"] == "path"}
        assert in_path == set(PATH_PARAMETER.findall(path)), where
        assert any(status.startswith("2") for status in operation["responses"]), where
        for status, response in operation["responses"].items():
            media, *others = response["content"]
            assert others == (["text/event-stream"] if (path, status) == ("/api/v1/events", "200") else []), where
            assert response["description"], where
            if int(status) >= 400 and "health" not in path:
                assert media == "application/problem+json", where
        assert ("requestBody" in operation) == (method in ("post", "put")), where
        if path != "/api/v1/health":
            assert {"401", "403", "422", "500", "503"} <= set(operation["responses"]), where
    assert len(set(ids)) == len(ids)


def test_it_says_how_to_authenticate_everywhere_but_at_health(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}]
    open_to_all = [path for path, _, operation in operations_of(document) if operation.get("security") == [{}]]
    assert open_to_all == ["/api/v1/health"]


def test_a_conditional_change_has_the_header_and_the_answer_for_it(document: dict[str, Any]) -> None:
    for path, method, operation in operations_of(document):
        has_header = any(found["name"] == "If-Match" for found in operation["parameters"])
        assert has_header == ("412" in operation["responses"]), f"{method} {path}"


def test_bodies_accept_nothing_that_is_not_in_the_document(document: dict[str, Any]) -> None:
    for path, method, operation in operations_of(document):
        if "requestBody" in operation:
            assert operation["requestBody"]["required"]
            if path.endswith("/contents"):
                assert list(operation["requestBody"]["content"]) == ["application/octet-stream"]
                continue
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
            assert schema["additionalProperties"] is False, f"{method} {path}"


ASKED: list[tuple[str, str, Any]] = [
    ("GET", "/health", None),
    ("GET", "/vm", None),
    ("GET", "/vm/web1", None),
    ("POST", "/vm/web1", {"tags": ["a"]}),
    ("PUT", "/vm/web1", {"definition": xml("web1", 600)}),
    ("GET", "/vm/web1/state", None),
    ("POST", "/vm/web1/state", {"state": "start"}),
    ("POST", "/vm/web1/state", {"state": "disable"}),
    ("GET", "/vm/web1/node", None),
    ("POST", "/vm/web2/node", {"action": "move", "target": "hv2"}),
    ("GET", "/vm/web1/placement", None),
    ("POST", "/vm/web2/rename", {"name": "web3"}),
    ("DELETE", "/vm/web2", None),
    ("GET", "/node", None),
    ("GET", "/node/hv1", None),
    ("GET", "/node/hv1/domain-state", None),
    ("POST", "/node/hv2/domain-state", {"state": "flush"}),
    ("POST", "/node/hv2/domain-state", {"state": "ready"}),
    ("POST", "/node/hv1/fence-device", {"agent": "fence-agents", "parameters": {"agent": "fence_test"}}),
    ("GET", "/node/hv1/fence-device", None),
    ("POST", "/node/hv1/fence-test", {}),
    ("DELETE", "/node/hv1/fence-device", None),
    ("GET", "/cluster", None),
    ("GET", "/cluster/settings", None),
    ("POST", "/cluster/settings", {"max_parallel_migrations": 4}),
    ("GET", "/events", None),
    ("GET", "/storage", None),
    ("GET", "/task", None),
    ("GET", "/plugin", None),
    ("GET", "/plugin/mem", None),
    ("GET", "/token", None),
    ("POST", "/token", {"name": "ci", "role": "viewer", "expires_in_s": 60}),
    ("DELETE", "/token/admin-token", None),
    ("GET", "/node/nix", None),
    ("POST", "/vm", {"definition": xml("big", 999_999)}),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_an_answer_is_what_the_document_says(
    api: httpx.Client, document: dict[str, Any], method: str, path: str, body: Any
) -> None:
    for name in ("web1", "web2"):
        defined = api.post("/vm", json={"definition": xml(name), "metadata": {"node_limit": "hv1, hv2"}})
        assert defined.status_code == 201
    answer = api.request(method, path, json=body)
    template = {"web1": "{vm}", "web2": "{vm}", "mem": "{name}", "admin-token": "{name}"}
    template |= dict.fromkeys(("hv1", "hv2", "nix"), "{node}")
    operation = document["paths"]["/api/v1" + "/".join(template.get(part, part) for part in path.split("/"))]
    described = operation[method.lower()]["responses"][str(answer.status_code)]
    media = next(iter(described["content"]))
    assert answer.headers["Content-Type"] == media
    schema = described["content"][media]["schema"]
    assert conforms(answer.json(), schema, document) == []
    for header in ("ETag", "Location"):
        assert header not in described["headers"] or header in answer.headers
