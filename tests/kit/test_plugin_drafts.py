# SPDX-License-Identifier: Apache-2.0
"""Every plugin that `pvc plugin new` begins is installed from its wheel beside PVC's, and works; the example is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pvc_cli.plugin_drafts import KINDS, check_name, draft, write
from pvc_core.errors import InvalidInput
from pvc_lab.demo import LABELS
from pvc_lab.kept_cluster import KeptCluster
from wheel_building import ROOT, Environment, checked

EXAMPLE = ROOT / "examples/pvc-selector-acme"
XML = "<domain><name>web1</name><memory unit='MiB'>128</memory><vcpu>1</vcpu></domain>"
SEEN = """
import sys
from pvc_core.registry import Registry
[found] = [plugin for plugin in Registry.load().plugins if plugin.name == sys.argv[1]]
print(found.distribution, found.state)
"""
GENERATED = ("*.egg-info", "__pycache__", ".pytest_cache", "build")

pytestmark = pytest.mark.timeout(600)  # the first to use it makes the environment, with packages from the network


def texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not any(parent.match(pattern) for parent in path.parents for pattern in GENERATED)
    }


def test_the_example_is_the_selector_that_one_begins_with() -> None:
    assert texts(EXAMPLE) == dict(draft("selector", "acme").files), "stale: make docs"


def test_all_kinds_of_the_templates_can_be_begun() -> None:
    folders = {path.name for path in (ROOT / "cli/pvc_cli/plugin_templates").iterdir()}
    assert folders == {*KINDS, "every-kind"}


@pytest.mark.parametrize(
    "name", ["", "Acme", "1acme", "acme_two", "acme-", "-acme", "a--b", "ac me", "../acme", "acmé", "none", "a" * 41]
)
def test_what_cannot_name_a_distribution_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name of a plugin"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "acme", "acme-2", "class", "two-words-2go"])
def test_other_names_make_valid_python(name: str) -> None:
    for kind in KINDS:
        for path, text in draft(kind, name).files.items():
            assert "{{" not in text
            if path.endswith(".py"):
                compile(text, path, "exec")


@pytest.fixture(scope="module")
def types_known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the type checker keeps what it knows of PVC from one draft to the next."""
    return tmp_path_factory.mktemp("types")


@pytest.mark.parametrize("kind", KINDS)
def test_a_draft_pleases_formatter_linter_and_type_checker(kind: str, tmp_path: Path, types_known: Path) -> None:
    write(draft(kind, "zebra-2"), tmp_path)
    ruff = [sys.executable, "-m", "ruff"]
    checked([*ruff, "format", "--check", "--isolated", "--line-length", "120", "."], cwd=tmp_path)
    rules = "E,F,W,I,B,UP,SIM,RUF,C4"
    checked([*ruff, "check", "--isolated", "--line-length", "120", "--select", rules, "."], cwd=tmp_path)
    mypy = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "src", "tests"]
    checked(mypy, cwd=tmp_path, MYPYPATH=str(ROOT), MYPY_CACHE_DIR=str(types_known))


@pytest.mark.parametrize("kind", KINDS)
def test_a_draft_is_built_installed_tested_and_seen(kind: str, environment: Environment, tmp_path: Path) -> None:
    """In an environment with PVC's wheel and no libvirt, under `python -P`: nothing comes from where it is started."""
    name, folder = f"my-{kind}", tmp_path / "written"
    new = [environment.program("pvc"), "plugin", "new", name, "--kind", kind, "--folder"]
    out = checked([*new, str(folder)], tmp_path)
    assert f"pvc plugin show {name}" in out
    assert texts(folder) == dict(draft(kind, name).files)
    environment.install("--no-deps", str(environment.build(folder, tmp_path)))
    distribution = draft(kind, name).distribution
    try:
        said = environment.run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(folder / "tests"))
        assert " passed" in said
        assert "skipped" not in said
        seen = environment.run("-c", SEEN, name)
        assert seen == f"{distribution} active\n"
        taken = subprocess.run([*new, str(tmp_path / "two")], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert taken.returncode == 5
        assert f"a {kind} {name!r} exists already" in taken.stderr
    finally:
        environment.remove(distribution)


def test_the_example_is_chosen_by_a_vm_and_explained_on_the_demo_cluster(
    environment: Environment, tmp_path: Path
) -> None:
    """All programs are those of the clean environment: daemons, API and command."""
    source = tmp_path / "source"
    write(draft("selector", "acme"), source)
    environment.install("--no-deps", "--no-build-isolation", str(source))
    demo, pvc, root = environment.program("pvc-demo"), environment.program("pvc"), tmp_path / "demo"
    (tmp_path / "web1.xml").write_text(
        "<domain><name>web1</name><memory unit='MiB'>128</memory><vcpu>1</vcpu></domain>"
    )
    try:
        checked([demo, "up", "--root", str(root)], tmp_path)
        access = f". {root}/access.sh; "
        listed = json.loads(checked(["/bin/sh", "-c", access + "pvc plugin list -o json"], tmp_path))
        found = next(plugin for plugin in listed["plugins"] if plugin["name"] == "acme")
        assert (found["state"], found["distribution"], sorted(node["node"] for node in found["nodes"])) == (
            "active",
            "pvc-selector-acme",
            sorted(LABELS),
        )
        checked(["/bin/sh", "-c", access + f"{pvc} vm define web1.xml --node-selector acme --start --wait"], tmp_path)
        explained = checked(["/bin/sh", "-c", access + f"{pvc} vm explain web1"], tmp_path)
        assert "selector acme: hv3" in explained
    finally:
        checked([demo, "down", "--root", str(root)], tmp_path)
        environment.remove("pvc-selector-acme")
    assert not KeptCluster(root).is_up
