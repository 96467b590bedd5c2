# SPDX-License-Identifier: Apache-2.0
"""A third party's storage backend is in the list, the commands, the API and the documentation by its entry point alone.

Whatever blocks its plugin takes it out of all of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from acme_machine import AcmeMachine

import acme_distribution

PAGE = Path(__file__).parents[2] / "docs/cli.md"
OPENAPI = (
    "import json, sys\n"
    "from pvc_api.wsgi import create_local_application\n"
    "from falcon.testing import TestClient\n"
    "app, close = create_local_application(sys.argv[1])\n"
    "print(json.dumps(sorted(TestClient(app).simulate_get('/api/v1/openapi.json').json['paths'])))\n"
    "close()\n"
)
HOWS = [{"config": "blocked.toml"}, {"PVC_DISABLED_PLUGINS": "acme"}, {"with_acme": False}]
BLOCKED = pytest.mark.parametrize("how", HOWS, ids=["configuration", "environment", "not-installed"])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> AcmeMachine:
    """With Acme's distribution, which nothing of PVC names."""
    made = AcmeMachine.make(tmp_path_factory.mktemp("machine"))
    acme_distribution.install(made.site)
    return made


def listed(machine: AcmeMachine, **how: Any) -> dict[str, Any]:
    ran = machine.pvc("storage", "list", "-o", "json", **how)
    return {one["name"]: one for one in json.loads(ran.stdout)["backends"]}


def paths(machine: AcmeMachine, config: str = "pvc.toml", with_acme: bool = True, **variables: str) -> list[str]:
    """Those of the API's OpenAPI document."""
    path = {"PYTHONPATH": str(machine.site)} if with_acme else {}
    argv = [sys.executable, "-c", OPENAPI, str(machine.folder / config)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True, env={**path, **variables}, timeout=60)
    found: list[str] = json.loads(ran.stdout)
    return found


def page(machine: AcmeMachine, folder: Path, with_acme: bool = True, config: str = "pvc.toml", **variables: str) -> str:
    """The page of all commands, made where it is installed."""
    copy = Path(shutil.copy(PAGE, folder))
    path = {"PYTHONPATH": str(machine.site)} if with_acme else {}
    environment = {"PVC_CONFIG": str(machine.folder / config), **path, **variables}
    subprocess.run([sys.executable, "-m", "pvc_cli.reference", str(copy)], check=True, env=environment, timeout=60)
    return copy.read_text()


def test_it_is_in_the_list_beside_pvcs_own(machine: AcmeMachine) -> None:
    found = listed(machine)
    assert {"acme", "directory"} <= set(found)
    assert (found["acme"]["plugin"], found["acme"]["summary"]) == ("acme", "volumes in Acme's memory")


def test_its_commands_resources_and_documentation_are_there(machine: AcmeMachine, tmp_path: Path) -> None:
    assert "List Acme's pools." in machine.pvc("storage", "acme", "--help").stdout
    assert machine.pvc("storage", "acme", "pools").stdout.split() == ["fast", "slow"]
    assert "/api/v1/storage/acme" in paths(machine)
    assert "### pvc storage acme pools" in page(machine, tmp_path)


@BLOCKED
def test_blocked_it_is_nowhere(machine: AcmeMachine, tmp_path: Path, how: dict[str, Any]) -> None:
    found = listed(machine, **how)
    assert "acme" not in found
    assert "directory" in found
    assert "acme" not in machine.pvc("storage", "--help", **how).stdout
    assert machine.pvc("storage", "acme", "pools", **how).returncode == 2
    assert not [path for path in paths(machine, **how) if "acme" in path]
    assert "### pvc storage acme" not in page(machine, tmp_path, **how)
