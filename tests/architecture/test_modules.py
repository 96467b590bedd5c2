# SPDX-License-Identifier: Apache-2.0
"""What every module looks like: its licence, what it decides, its size, and that a library does not print."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from house import ROOT, lines_allowed, modules, python_files, relative, tree_of

SPDX = "# SPDX-License-Identifier: Apache-2.0"
VAGUE_MODULE = re.compile(r"(^|_)(util|utils|helper|helpers|common|misc|manager)(_|$)")
VAGUE_CLASS = re.compile(r"(Manager|Helper|Helpers|Util|Utils)$")
LIBRARIES = ("pvc_core", "pvc_selectors", "pvc_plugins", "pvc_daemon", "pvc_api")


def test_every_module_names_its_licence() -> None:
    without = [relative(path) for path in python_files() if not is_empty(path) and SPDX not in first_lines(path)]
    assert not without


def test_every_module_says_what_it_is_for() -> None:
    silent = [relative(path) for path in python_files() if not is_empty(path) and not ast.get_docstring(tree_of(path))]
    assert not silent


def test_every_module_holds_one_idea() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in python_files()}
    too_long = {relative(path): lines for path, lines in lengths.items() if lines > lines_allowed(path)}
    assert not too_long, f"split them by their ideas: {too_long}"


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """pytest imports them by their bare names, where they do not stand in packages."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


def test_every_name_says_what_is_behind_it() -> None:
    vague = [relative(path) for path in python_files() if VAGUE_MODULE.search(path.stem)]
    vague += [
        f"{relative(path)}: {node.name}"
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name)
    ]
    assert not vague, f"name them after what they decide: {vague}"


def test_a_library_does_not_print() -> None:
    prints = [
        f"{relative(path)}:{node.lineno}"
        for path in modules(*LIBRARIES)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints


def is_empty(path: Path) -> bool:
    """As the `__init__.py` of a folder of tests may be; one that is installed says what its package is for."""
    return "tests" in path.parts and not path.read_text().strip()


def first_lines(path: Path) -> list[str]:
    """The first line, or the first two where a program names its interpreter."""
    lines = path.read_text().splitlines()
    return lines[:2] if lines and lines[0].startswith("#!") else lines[:1]
