# SPDX-License-Identifier: Apache-2.0
"""Commands that a plugin adds: there by its entry point alone, at its own cost, and never in the place of PVC's own.

Everything runs as a person runs it: `pvc` as a process, with a distribution on its path, on an embedded cluster.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from acme_machine import AcmeMachine

import acme_distribution

Pvc = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> AcmeMachine:
    """With Acme's distribution."""
    made = AcmeMachine.make(tmp_path_factory.mktemp("machine"))
    acme_distribution.install(made.site)
    return made


@pytest.fixture
def pvc(machine: AcmeMachine) -> Pvc:
    """`pvc` on that machine."""
    return machine.pvc


def test_a_plugins_command_asks_its_own_resource_and_answers_in_every_form(pvc: Pvc) -> None:
    ran = pvc("-o", "json", "storage", "acme", "pools", "--at-least", "50")
    assert json.loads(ran.stdout) == {"pools": [{"name": "slow", "size_gib": 99}]}, ran.stderr
    assert pvc("storage", "acme", "pools").stdout.split() == ["fast", "slow"]


def test_it_stands_in_the_help_of_a_new_group_and_of_one_that_exists(pvc: Pvc) -> None:
    assert "Commands of the plugin acme." in pvc("storage", "--help").stdout
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
    assert "acme" not in pvc("storage", "--help", config="blocked.toml").stdout
    assert "acme" not in pvc("vm", "--help", config="blocked.toml").stdout
    assert pvc("storage", "acme", "pools", config="blocked.toml").returncode == 2
    assert pvc("vm", "acme-report", config="blocked.toml").returncode == 2


def test_a_configuration_that_cannot_be_read_costs_the_commands_of_plugins_only(pvc: Pvc, machine: AcmeMachine) -> None:
    (machine.folder / "broken.toml").write_text("[cluster\n")
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
