# SPDX-License-Identifier: Apache-2.0
"""wheel_building: PVC's wheel, and an environment far from the repository in which it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED_TO_BUILD = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")
TOP_LEVEL = ("pvc_core", "selectors", "plugins", "storage_backends", "daemon", "api", "cli", "simulator", "lab")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def build_wheel(source: Path, target: Path) -> Path:
    """Built from a copy in `source`, so that no build folder of an earlier build can add anything."""
    for name in NEEDED_TO_BUILD:
        shutil.copy(ROOT / name, source / name)
    for folder in TOP_LEVEL:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    checked([*PIP, "wheel", "--no-deps", "--wheel-dir", str(target), str(source)], cwd=target)
    (built,) = target.glob("*.whl")
    return built


def checked(command: list[str], cwd: Path, **environment: str) -> str:
    """What a command that must succeed prints."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own. Started with `-P`, Python imports nothing from the folder it is in."""

    folder: Path

    @property
    def python(self) -> str:
        return self.program("python")

    def program(self, name: str) -> str:
        """A console script."""
        return str(self.folder / "bin" / name)

    def install(self, *what: str) -> None:
        """With pip, from PyPI where it must."""
        checked([*PIP, "--python", self.python, "install", *what], cwd=self.folder)

    def build(self, source: Path, target: Path) -> Path:
        """A distribution's wheel."""
        pip = [self.python, *PIP[1:]]
        checked(
            [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source)], cwd=target
        )
        (built,) = target.glob("*.whl")
        return built

    def remove(self, *distributions: str) -> None:
        """The opposite."""
        checked([*PIP, "--python", self.python, "uninstall", "--yes", *distributions], cwd=self.folder)

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> str:
        """What `python -P ...` prints; it must succeed."""
        return checked([self.python, "-P", *arguments], cwd=cwd or self.folder, **environment)


def make_environment(folder: Path, wheel: Path) -> Environment:
    """PVC from its wheel with what it needs, and what an author of a plugin needs; no libvirt."""
    venv.create(folder, with_pip=True, symlinks=True)
    environment = Environment(folder)
    environment.install(str(wheel), "pytest>=8.2", "setuptools>=77")
    return environment
