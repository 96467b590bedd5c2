# SPDX-License-Identifier: Apache-2.0
"""docs/api.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from pvc_api.media import MAX_BODY_BYTES
from pvc_api.problems import all_codes
from pvc_api.waiting import MAX_WAIT_S
from pvc_core.configuration import ApiSection

GUIDE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def section(title: str) -> str:
    return GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_its_table_of_errors_has_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| \S", section("Errors"), re.MULTILINE)
    assert {code: int(status) for code, status in rows} == all_codes()
    assert [status for _, status in rows] == sorted(status for _, status in rows)


@pytest.mark.parametrize(("method", "path"), re.findall(r"`(GET|POST|PUT|DELETE) (/[\w/{}-]+)`", GUIDE))
def test_every_request_it_names_is_served(api: httpx.Client, method: str, path: str) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert method.lower() in paths[f"/api/v1{path.removeprefix('/api/v1')}"]


def test_its_configuration_has_every_field_of_the_section() -> None:
    named = set(re.findall(r"^(\w+) = ", section("Serving it").split("[api]")[1].split("```")[0], re.MULTILINE))
    assert named == set(ApiSection.__struct_fields__)


def test_its_limits_are_those_of_the_code() -> None:
    assert MAX_BODY_BYTES == 1024 * 1024
    assert "at most 1 MiB" in GUIDE
    assert f"(at most {MAX_WAIT_S})" in GUIDE
