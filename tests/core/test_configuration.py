# SPDX-License-Identifier: Apache-2.0
"""configuration: one TOML file per machine; what is wrong with it is said with the file and the field."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pvc_core.configuration import DEFAULT_PATH, configuration_path, load_configuration
from pvc_core.errors import InvalidInput

SMALLEST = '[cluster]\nstore = "sqlite:///x"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pvc.toml"


def test_the_smallest_file_names_the_store_and_the_rest_has_defaults(file: Path) -> None:
    file.write_text(SMALLEST)
    configuration = load_configuration(str(file))
    assert configuration.cluster.store == "sqlite:///x"
    assert (configuration.node.hypervisor, configuration.node.coordinator) == ("qemu:///system", True)
    assert (configuration.api.listen, configuration.log.format) == ("127.0.0.1:7370", "json")
    assert configuration.plugins.blocked == ()


def test_everything_in_it_is_read(file: Path) -> None:
    file.write_text(
        SMALLEST
        + """
[node]
name = "hv1"
hypervisor = "simulated:///world"
address = "10.0.0.1"
coordinator = false
labels = { rack = "r1" }
[watchdog]
driver = "device"
timeout_s = 30
[api]
listen = "0.0.0.0:443"
workers = 4
[plugins]
blocked = ["acme"]
[log]
format = "console"
level = "debug"
"""
    )
    configuration = load_configuration(str(file))
    assert (configuration.node_name, configuration.node.labels) == ("hv1", {"rack": "r1"})
    assert not configuration.node.coordinator
    assert (configuration.watchdog.driver, configuration.watchdog.timeout_s) == ("device", 30.0)
    assert (configuration.api.workers, configuration.plugins.blocked) == (4, ("acme",))


def test_a_node_without_a_name_is_called_like_its_host(file: Path) -> None:
    file.write_text(SMALLEST)
    assert load_configuration(str(file)).node_name == os.uname().nodename.split(".")[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ": cluster: is required"),
        ("[cluster]\n", ": cluster.store: is required"),
        ("[cluster\n", "is not TOML"),
        (SMALLEST + "[nodes]\n", ": nodes: is not a key of this; is node meant?"),
        (SMALLEST + "[node]\nnmae = 'x'\n", ": node.nmae: is not a key of this; is name meant?"),
        (SMALLEST + "[log]\ncolour = 'x'\n", ": log.colour: is not a key of this (allowed: format, level)"),
        (SMALLEST + "[node]\nname = 'a/b'\n", ": node.name 'a/b': expected str matching regex"),
        (SMALLEST + "[node]\ncoordinator = 'yes'\n", ": node.coordinator 'yes': expected bool, got str"),
        (SMALLEST + "[node]\nlabels = {rack = 1}\n", ": node.labels.rack '1': expected str, got int (allowed: text)"),
        (SMALLEST + "[log]\nlevel = 'loud'\n", "(allowed: debug, error, info, warning)"),
        (SMALLEST + "[plugins]\nblocked = 'acme'\n", ": plugins.blocked 'acme': expected array, got str"),
        (SMALLEST + "[plugins]\nblocked = ['a', 2]\n", ": plugins.blocked[1] '2': expected str, got int"),
        (SMALLEST + "[plugins.acme]\n", ": plugins.acme: is not a key of this; is [plugin.acme] meant?"),
        (SMALLEST + "node = 5\n", "cluster.node: is not a key of this"),
        ("node = 5\n" + SMALLEST, ": node '5': expected object, got int (allowed: table)"),
    ],
)
def test_a_mistake_is_named_with_the_file_and_the_field(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_configuration(str(file))
    assert problem in caught.value.sentence()
    assert str(file) in caught.value.sentence()


def test_what_it_says_to_plugins_is_theirs_to_judge(file: Path) -> None:
    file.write_text(SMALLEST + "[plugin.acme]\nwieght = 'no number'\n[plugin.gone]\n")
    assert load_configuration(str(file)).plugin == {"acme": {"wieght": "no number"}, "gone": {}}


def test_a_file_that_is_missing_a_folder_or_no_text_is_named(file: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no such file"):
        load_configuration(str(file))
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_configuration(str(file.parent))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_configuration(str(file))


def test_the_argument_counts_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PVC_CONFIG", raising=False)
    assert configuration_path() == DEFAULT_PATH
    monkeypatch.setenv("PVC_CONFIG", "/from/environment")
    assert configuration_path() == Path("/from/environment")
    assert configuration_path("/from/argument") == Path("/from/argument")
