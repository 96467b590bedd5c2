# SPDX-License-Identifier: Apache-2.0
"""`pvc storage list`: which backends are installed, and how each is on every node, in every form."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from cli_runner import Cli, FakeApi


def a_backend(name: str, **fields: object) -> dict[str, Any]:
    nodes = [{"node": f"hv{number}", "state": "usable", "detail": ""} for number in (1, 2)]
    view = {"name": name, "plugin": name, "summary": f"volumes in {name}", "capabilities": ["resize", "shared"]}
    return {**view, "nodes": nodes, **fields}


SICK = [
    {"node": "hv1", "state": "unusable", "detail": "no quorum"},
    {"node": "hv2", "state": "absent", "detail": "its plugin is not loaded there"},
    {"node": "hv3", "state": "usable", "detail": ""},
]


@pytest.fixture
def api() -> FakeApi:
    return FakeApi({"GET /storage": {"backends": [a_backend("acme"), a_backend("ceph", nodes=SICK)]}})


def test_for_people_a_line_per_backend_says_on_how_many_nodes_it_is_usable_and_what_is_wrong_elsewhere(
    run: Cli, api: FakeApi
) -> None:
    head, acme, ceph = run("storage", "list", api=api).out.splitlines()
    assert head.split() == ["NAME", "NODES", "CAPABILITIES", "PLUGIN", "SUMMARY"]
    assert acme.split() == ["acme", "2", "of", "2", "usable", "resize,shared", "acme", "volumes", "in", "acme"]
    assert "1 of 3 usable; hv1 unusable: no quorum; hv2 absent: its plugin is not loaded there" in ceph


def test_for_scripts_it_is_the_answer_of_the_api_or_bare_names(run: Cli, api: FakeApi) -> None:
    answer = api.answers["GET /storage"]
    assert run("storage", "list", "-o", "json", api=api).document == answer
    assert yaml.safe_load(run("storage", "list", "-o", "yaml", api=api).out) == answer
    assert run("storage", "list", "-o", "names", api=api).out.split() == ["acme", "ceph"]


def test_without_any_it_says_so(run: Cli) -> None:
    ran = run("storage", "list", api=FakeApi({"GET /storage": {"backends": []}}))
    assert (ran.status, ran.out) == (0, "no storage backends are installed\n")
