# SPDX-License-Identifier: Apache-2.0
"""Commands that a plugin adds: there by its entry point alone, at its own cost, and never in the place of PVC's own.

Everything runs as a person runs it: `pvc` as a process, with a distribution on its path, on an embedded cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import acme_distribution

Pvc = Callable[..., "subprocess.CompletedProcess[str]"]
SCRIPT = (
    "import sys, atexit\n"
    "atexit.register(lambda: print('LOADED', 'pvc_core.registry' in sys.modules, file=sys.stderr))\n"
    "sys.argv[0] = 'pvc'\n"
    "from pvc_cli.main import main\n"
    "main()"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the configuration of a cluster node, and Acme's distribution below it."""
    made = tmp_path_factory.mktemp("machine")
    (made / "site").mkdir()
    acme_distribution.install(made / "site")
    (made / "pvc.toml").write_text(f'[cluster]\nstore = "sqlite://{made}/store.db"\n')
    blocked = f'[cluster]\nstore = "sqlite://{made}/store.db"\n[plugins]\nblocked = ["acme"]\n'
    (made / "blocked.toml").write_text(blocked)
    return made


@pytest.fixture
def pvc(folder: Path) -> Pvc:
    """`pvc` on that machine."""

    def run(*words: str, config: str = "pvc.toml", with_acme: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PVC_CONFIG": str(folder / config),
            **({"PYTHONPATH": str(folder / "site")} if with_acme else {}),
        }
        argv = [sys.executable, "-c", SCRIPT, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)

    return run


def test_a_plugins_command_asks_its_own_resource_and_answers_in_every_form(pvc: Pvc) -> None:
    ran = pvc("-o", "json", "storage", "acme", "pools", "--at-least", "50")
    assert json.loads(ran.stdout) == {"pools": [{"name": "slow", "size_gib": 99}]}, ran.stderr
    assert pvc("storage", "acme", "pools").stdout.split() == ["fast", "slow"]


def test_it_stands_in_the_help_of_a_new_group_and_of_one_that_exists(pvc: Pvc) -> None:
    assert "Commands of the plugin acme." in pvc("--help").stdout
    below = pvc("storage", "acme", "--help").stdout
    assert "List Acme's pools." in below
    assert "Raise." in below
    assert "Below a group of PVC's own." in pvc("vm", "--help").stdout
    assert "the smallest first" in pvc("storage", "acme", "pools", "--help").stdout
    assert pvc("vm", "acme-report").stdout == "reported\n"


def test_plugin_show_names_what_it_adds(pvc: Pvc) -> None:
    shown = pvc("plugin", "show", "acme").stdout
    assert "storage acme pools" in shown
    assert "/storage/acme" in shown
    assert "acme-storage 1.2" in shown


def test_a_command_that_exists_is_not_replaced_and_the_refusal_is_reported(pvc: Pvc) -> None:
    assert pvc("vm", "list").stdout != "reported\n"
    refused = pvc("plugin", "list").stderr
    assert "plugin acme: `pvc vm list` is refused: pvc has that command itself" in refused
    assert "plugin acme: `pvc version acme` is refused: what is above it is no group" in refused
    assert "/vm/acme is not served" in refused


@pytest.mark.parametrize(
    ("command", "said"),
    [("explode", "plugin acme: RuntimeError: boom"), ("missing", "plugin acme: AttributeError")],
)
def test_a_command_that_fails_names_its_plugin_and_costs_nothing_else(pvc: Pvc, command: str, said: str) -> None:
    ran = pvc("storage", "acme", command)
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert pvc("storage", "acme", "pools").returncode == 0


def test_of_a_blocked_plugin_nothing_shows(pvc: Pvc) -> None:
    assert "storage" not in pvc("--help", config="blocked.toml").stdout
    assert pvc("storage", "acme", "pools", config="blocked.toml").returncode == 2
    assert pvc("vm", "acme-report", config="blocked.toml").returncode == 2


def test_a_configuration_that_cannot_be_read_costs_the_commands_of_plugins_only(pvc: Pvc, folder: Path) -> None:
    (folder / "broken.toml").write_text("[cluster\n")
    ran = pvc("--help", config="broken.toml")
    assert ran.returncode == 0
    assert "without the commands of plugins" in ran.stderr
    assert "Virtual machines" in ran.stdout or "vm" in ran.stdout


@pytest.mark.parametrize(
    ("words", "with_acme", "loaded"),
    [
        (("--help",), False, False),
        (("vm", "lsit"), False, False),
        (("vm", "list", "--help"), True, False),
        (("completion", "bash"), True, False),
        (("--help",), True, True),
    ],
    ids=str,
)
def test_plugins_are_loaded_only_where_one_may_be_meant(
    pvc: Pvc, words: tuple[str, ...], with_acme: bool, loaded: bool
) -> None:
    assert f"LOADED {loaded}" in pvc(*words, with_acme=with_acme).stderr
