# SPDX-License-Identifier: Apache-2.0
"""The selector of the ten-minute page: its files are installed and tested as the page says, and it is chosen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, files

PAGE = ROOT / "docs/plugins/selector.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the page's files; the package is installed in `site` inside it, beside this PVC."""
    folder = tmp_path_factory.mktemp("selector")
    for name, text in files(PAGE).items():
        (folder / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # A build needs a folder that it may write to, and this test the sources as the page gives them.
    source = shutil.copytree(folder, folder / "build-here")
    command = [*pip, "install", "--no-deps", "--target", str(folder / "site"), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def python(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the folder of the package, with the package installed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package / "site"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_has_all_files() -> None:
    assert sorted(files(PAGE)) == ["pvc_selector_quiet.py", "pyproject.toml", "test_quiet.py"]


def test_its_own_test_passes(package: Path) -> None:
    result = python(package, "-m", "pytest", "-q", "test_quiet.py", "-p", "no:cacheprovider")
    assert result.returncode == 0, result.stdout


def test_a_vm_that_names_it_is_placed_by_it(package: Path) -> None:
    script = """
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_request, a_snapshot
nodes = [a_node("hv1", memory_mib=16384), a_node("hv2", labels={"zone": "quiet"})]
decision = Placer(Registry.load()).place(a_request(node_selector="quiet"), a_snapshot(nodes))
print(decision.node, decision.selector, decision.degraded or "as wanted")
"""
    result = python(package, "-c", script)
    assert result.stdout == "hv2 quiet as wanted\n", result.stdout + result.stderr


def test_every_tool_sees_where_it_comes_from(package: Path) -> None:
    script = """
from pvc_core.registry import Registry
info = next(plugin for plugin in Registry.load().plugins if plugin.name == "quiet")
print(info.distribution, info.version, info.state)
"""
    assert python(package, "-c", script).stdout == "pvc-selector-quiet 1.0 active\n"
