# SPDX-License-Identifier: Apache-2.0
"""The wheel holds everything that is on disk, and works where the repository is far away."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from house import PACKAGE_FOLDERS, ROOT, package_path, pyproject

from wheel_building import TOP_LEVEL


def test_the_wheel_holds_exactly_the_files_of_the_packages(wheel: Path) -> None:
    on_disk = {
        str(path.relative_to(package_path(package).parent))
        for package in PACKAGE_FOLDERS
        for path in package_path(package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == on_disk


def test_the_wheel_is_built_from_the_folders_of_all_packages() -> None:
    assert {"pvc_core" if folder == "." else folder for folder in PACKAGE_FOLDERS.values()} == set(TOP_LEVEL)


def test_the_wheel_is_for_any_machine(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_the_installed_wheel_imports_and_brings_its_commands(wheel: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "venv"
    venv.create(fresh, with_pip=False, symlinks=True)
    python = str(fresh / "bin/python")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, cwd=tmp_path)
    script = "import pvc_core, sys; print(pvc_core.__file__)"
    imported = subprocess.run([python, "-P", "-I", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert imported.stdout.startswith(str(fresh)), "it imported the repository instead of what was installed"
    for command in pyproject()["project"]["scripts"]:
        assert (fresh / "bin" / command).exists()


def test_every_command_and_entry_point_leads_somewhere() -> None:
    project = pyproject()["project"]
    targets = [*project["scripts"].values()]
    targets += [target for points in project["entry-points"].values() for target in points.values()]
    script = f"from pkgutil import resolve_name\nfor target in {targets}: resolve_name(target)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/", check=False)
    assert result.returncode == 0, result.stderr
