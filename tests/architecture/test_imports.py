# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the contracts in pyproject.toml hold, the core is pure, and what is imported is declared."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from house import PACKAGE_FOLDERS, modules, pyproject, relative, run, tree_of

NOT_IN_THE_CORE = (
    "kazoo",
    "libvirt",
    "falcon",
    "click",
    "httpx",
    "gunicorn",
    "rich",
    "spectree",
    "pyroute2",
    "sqlite3",
)


def test_the_import_contracts_hold() -> None:
    result = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_the_core_loads_no_library_that_does_io() -> None:
    script = f"import sys, pvc_core\nprint([m for m in {NOT_IN_THE_CORE} if m in sys.modules])"
    assert run("python", "-c", script).stdout == "[]\n"


@pytest.mark.parametrize("module", ["agent", "leader", "placement", "commands", "registry", "cluster_view"])
def test_the_deciders_load_no_library_that_does_io(module: str) -> None:
    names = set(NOT_IN_THE_CORE) - {"rich"}  # structlog loads it, for its console
    script = f"import sys, pvc_core.{module}\nprint([m for m in {names} if m in sys.modules])"
    assert run("python", "-c", script).stdout == "[]\n"


def test_no_module_of_the_core_imports_a_library_that_does_io() -> None:
    wrong = [
        f"{relative(path)}: {name}"
        for path in modules("pvc_core")
        for name in imported_packages(tree_of(path))
        if name in NOT_IN_THE_CORE
    ]
    assert not wrong


@pytest.mark.parametrize("kind", ["pvc_selectors", "pvc_plugins", "pvc_storage_backends"])
def test_a_plugin_module_names_no_application(kind: str) -> None:
    applications = {"pvc_daemon", "pvc_api", "pvc_cli", "pvc_lab"}
    for path in modules(kind):
        assert not imported_packages(tree_of(path)) & applications, relative(path)


def test_every_library_that_is_imported_is_declared() -> None:
    project = pyproject()["project"]
    declared = {_name(text) for text in project["dependencies"]}
    for extra in ("libvirt", "lab"):
        declared |= {_name(text) for text in project["optional-dependencies"][extra]}
    declared |= {"pytest", "pvc"}  # pvc_core.testing is imported by test suites only
    declared |= {"rados", "rbd"}  # they come with Ceph and are no distributions
    distributions = packages_distributions()
    undeclared = {
        f"{name} ({relative(path)})"
        for path in modules()
        for name in imported_packages(tree_of(path)) - sys.stdlib_module_names - set(PACKAGE_FOLDERS)
        if not {_name(found) for found in distributions.get(name, [name.replace("libvirt", "libvirt-python")])}
        & declared
    }
    assert not undeclared


def test_only_the_test_suites_of_the_core_import_pytest() -> None:
    users = {relative(path) for path in modules() if "pytest" in imported_packages(tree_of(path))}
    assert {user for user in users if not user.startswith("pvc_core/testing/")} == set()


def imported_packages(tree: ast.Module) -> set[str]:
    """The first parts of every absolute import of a module, wherever in the module it stands."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _name(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")
