# SPDX-License-Identifier: Apache-2.0
"""Commands that PVC's own plugins add: found by the entry points that say where, and no others cost time for it.

Acme's plugin plays one that ships with PVC: a distribution called pvc, first on the path, has PVC's own entry points
and those of this plugin.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from configparser import ConfigParser
from importlib.metadata import EntryPoint, distribution, entry_points

import pytest
from acme_machine import AcmeMachine

import acme_distribution
from pvc_cli.contributed import OWN_COMMANDS_GROUP
from pvc_core.registry import Registry

Pvc = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> AcmeMachine:
    """With a PVC that Acme's plugin ships with."""
    made = AcmeMachine.make(tmp_path_factory.mktemp("machine"))
    acme_distribution.write_modules(made.site)
    ours = distribution("pvc")
    groups = ConfigParser(delimiters=("=",))
    groups.read_string(ours.read_text("entry_points.txt") or "")
    groups.read_dict({"pvc": {"acme": "acme_storage"}, OWN_COMMANDS_GROUP: {"storage.acme": "acme_storage"}})
    info = made.site / f"pvc-{ours.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pvc\nVersion: {ours.version}\n")
    with (info / "entry_points.txt").open("w") as file:
        groups.write(file)
    return made


@pytest.fixture
def pvc(machine: AcmeMachine) -> Pvc:
    """`pvc` on that machine."""
    return machine.pvc


def test_they_are_there_like_any_others(pvc: Pvc) -> None:
    assert "Commands of the plugin acme." in pvc("storage", "--help").stdout
    assert "List Acme's pools." in pvc("storage", "acme", "--help").stdout
    assert pvc("storage", "acme", "pools").stdout.split() == ["fast", "slow"]


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (("--help",), False),
        (("vm", "--help"), False),
        (("vm", "lsit"), False),
        (("vm", "list", "--help"), False),
        (("completion", "bash"), False),
        (("storage", "--help"), True),
        (("storage", "acme", "poosl"), True),
    ],
    ids=str,
)
def test_plugins_are_loaded_only_below_the_group_that_one_is_known_to_add_to(
    pvc: Pvc, words: tuple[str, ...], loaded: bool
) -> None:
    assert f"LOADED {loaded}" in pvc(*words).stderr


@pytest.mark.parametrize(
    "how", [{"config": "blocked.toml"}, {"PVC_DISABLED_PLUGINS": "acme"}], ids=["configuration", "environment"]
)
def test_of_a_blocked_one_neither_help_nor_completion_shows_anything(pvc: Pvc, how: dict[str, str]) -> None:
    completing = {"_PVC_COMPLETE": "bash_complete", "COMP_WORDS": "pvc storage a", "COMP_CWORD": "2"}
    assert "acme" in pvc(**completing).stdout
    assert "acme" not in pvc(**completing, **how).stdout
    assert "acme" not in pvc("storage", "--help", **how).stdout
    assert pvc("storage", "acme", "pools", **how).returncode == 2


def test_each_place_that_is_named_has_commands_of_that_plugin_and_each_command_has_its_place() -> None:
    """Of the plugins that really ship with PVC."""
    points = entry_points()
    plugin_of = {point.value: point.name for point in points.select(group="pvc") if _is_ours(point)}
    places = {tuple(point.name.split(".")): plugin_of[point.value] for point in points.select(group=OWN_COMMANDS_GROUP)}
    commands = [
        entry for entry in Registry.load(disabled_env="").cli_commands.values() if entry.plugin in plugin_of.values()
    ]
    without = [entry.name for entry in commands if not any(_holds(place, entry.path) for place in places)]
    assert without == []
    for place, plugin in places.items():
        assert any(entry.plugin == plugin and _holds(place, entry.path) for entry in commands), place


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "pvc"


def _holds(place: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return path[: len(place)] == place
