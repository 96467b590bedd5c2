# SPDX-License-Identifier: Apache-2.0
"""house: the repository as it is on disk: its folders, packages and modules, for the tests of this folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

PACKAGE_FOLDERS = {
    "pvc_core": ".",
    "pvc_selectors": "selectors",
    "pvc_plugins": "plugins",
    "pvc_storage_backends": "storage_backends",
    "pvc_daemon": "daemon",
    "pvc_api": "api",
    "pvc_cli": "cli",
    "pvc_simulator": "simulator",
    "pvc_lab": "lab",
}
"""Import packages and the top-level folders that hold them."""

MAX_LINES = 400
"""A module that is longer holds more than one idea."""
MAX_TEST_LINES = 600
"""Rules of one subject, one after the other, may go on for longer."""


def package_path(package: str) -> Path:
    """The folder of an import package such as `pvc_selectors`."""
    return ROOT / PACKAGE_FOLDERS[package] / package


def packages_on_disk() -> list[str]:
    """Every import package with its subpackages, dotted."""
    return sorted(
        ".".join(init.parent.relative_to(package_path(package).parent).parts)
        for package in PACKAGE_FOLDERS
        for init in package_path(package).rglob("__init__.py")
    )


def modules(*packages: str) -> Iterator[Path]:
    """Every Python file of these import packages; of all without argument."""
    for package in packages or PACKAGE_FOLDERS:
        yield from sorted(package_path(package).rglob("*.py"))


def python_files() -> list[Path]:
    """Every Python file of the repository, tests included; nothing generated or installed."""
    found = [*modules()]
    for folder in ("tests", "benchmarks", "examples"):
        found += sorted((ROOT / folder).rglob("*.py"))
    return found


def relative(path: Path) -> str:
    """The path as a person writes it."""
    return str(path.relative_to(ROOT))


def lines_allowed(path: Path) -> int:
    """How long a module may be."""
    return MAX_TEST_LINES if path.is_relative_to(ROOT / "tests") else MAX_LINES


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def pyproject() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def setup_cfg() -> ConfigParser:
    """setup.cfg."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def run(
    *argv: str, cwd: Path = ROOT, timeout_s: int = 120, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program as from a shell in the root, in a bare environment; `python` is the one that runs the tests."""
    command = [sys.executable, *argv[1:]] if argv[0] == "python" else list(argv)
    return subprocess.run(
        command,
        cwd=cwd,
        env={**{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
