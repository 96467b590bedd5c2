# SPDX-License-Identifier: Apache-2.0
"""The folders of the house: each top-level folder holds one import package and shadows nothing of Python's own."""

from __future__ import annotations

import pytest
from house import PACKAGE_FOLDERS, ROOT, package_path, packages_on_disk, pyproject, run, setup_cfg

TOP_LEVEL = [folder for folder in PACKAGE_FOLDERS.values() if folder != "."]


@pytest.mark.parametrize("folder", TOP_LEVEL)
def test_a_top_level_folder_is_no_package_itself(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would shadow other modules"
    assert not list((ROOT / folder).glob("*.py")), f"{folder}/ may hold a package, no modules of its own"


@pytest.mark.parametrize("folder", TOP_LEVEL)
def test_a_top_level_folder_holds_exactly_the_package_named_after_it(folder: str) -> None:
    held = sorted(init.parent.name for init in (ROOT / folder).glob("*/__init__.py"))
    assert held == [f"pvc_{folder}"]


@pytest.mark.parametrize("package", PACKAGE_FOLDERS)
def test_every_folder_with_python_in_a_package_is_a_package(package: str) -> None:
    bare = {path.parent for path in package_path(package).rglob("*.py") if not (path.parent / "__init__.py").exists()}
    assert not bare, f"without __init__.py, so not installed: {bare}"


@pytest.mark.parametrize(
    "argv",
    [
        ["-c", "import selectors; selectors.DefaultSelector"],
        ["-c", "import asyncio; asyncio.run(asyncio.sleep(0))"],
        ["-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import selectors'], check=True)"],
        ["-c", "import kazoo.client"],
        ["-m", "pytest", "--version"],
        ["-m", "gunicorn", "--version"],
    ],
    ids=["selectors", "asyncio", "subprocess", "kazoo", "pytest", "gunicorn"],
)
def test_python_started_in_the_root_finds_its_own_selectors_module(argv: list[str]) -> None:
    result = run("python", *argv)
    assert result.returncode == 0, result.stderr


def test_setup_cfg_lists_exactly_the_packages_on_disk() -> None:
    listed = setup_cfg()["options"]["packages"].split()
    assert len(listed) == len(set(listed)), "a package is listed twice"
    assert sorted(listed) == packages_on_disk()


def test_setup_cfg_says_which_folder_holds_which_package() -> None:
    lines = setup_cfg()["options"]["package_dir"].strip().splitlines()
    folders = dict(line.replace(" ", "").split("=", 1) for line in lines)
    assert folders == {package: str(package_path(package).relative_to(ROOT)) for package in PACKAGE_FOLDERS}


def test_setup_cfg_says_nothing_else() -> None:
    assert {name: sorted(section) for name, section in setup_cfg().items() if section} == {
        "options": ["package_dir", "packages"]
    }


def test_every_tool_looks_in_the_folders_of_the_packages() -> None:
    tools = pyproject()["tool"]
    roots = sorted(PACKAGE_FOLDERS)
    assert sorted(tools["mypy"]["packages"]) == roots
    assert sorted(tools["importlinter"]["root_packages"]) == roots
    mypy_path = [
        entry.removeprefix("$MYPY_CONFIG_FILE_DIR").strip("/") for entry in tools["mypy"]["mypy_path"].split(":")
    ]
    assert sorted(filter(None, mypy_path)) == sorted(TOP_LEVEL)
    assert sorted(tools["pyright"]["extraPaths"]) == sorted(TOP_LEVEL)
    assert set(tools["ruff"]["src"]) >= {*TOP_LEVEL, "."}
