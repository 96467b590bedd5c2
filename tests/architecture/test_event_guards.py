# SPDX-License-Identifier: Apache-2.0
"""No change without its event: whoever builds one says what has happened."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from house import package_path

BUILT_IN = ("pvc_core", "pvc_daemon", "pvc_api")


def changes_built() -> Iterator[tuple[str, ast.Call]]:
    """Every `Change(...)` of the code that is shipped but for the fake cluster, whose agents are no agents."""
    for package in BUILT_IN:
        for path in sorted(package_path(package).rglob("*.py")):
            if "testing" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Change":
                    yield f"{path.name}:{node.lineno}", node


def test_every_change_that_has_operations_has_an_event() -> None:
    found = list(changes_built())
    assert len(found) > 10, "the harness finds no changes any more"
    for where, call in found:
        changes_nothing = isinstance(call.args[0], ast.Tuple) and not call.args[0].elts
        says_what = any(keyword.arg == "happenings" for keyword in call.keywords)
        assert changes_nothing or says_what, f"{where}: a change without `happenings`"
