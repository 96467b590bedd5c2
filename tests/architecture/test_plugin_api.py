# SPDX-License-Identifier: Apache-2.0
"""The plugin API: what `pvc_core` promises exists, is documented and typed, and every hook shows how it is used."""

from __future__ import annotations

import ast
import inspect

import pytest
from house import PACKAGE_FOLDERS, package_path, run

import pvc_core
from pvc_core import hookspecs
from pvc_core.plugin_loading import ENTRY_TYPES

HOOKS = [name for name, found in vars(hookspecs).items() if name.startswith("pvc_") and inspect.isfunction(found)]


@pytest.mark.parametrize("name", pvc_core.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(pvc_core, name)
    documentation = (found.__doc__ or "").strip()
    # A dataclass or struct without a docstring of its own gets its signature for one.
    assert documentation, f"{name} has no docstring"
    assert not documentation.startswith(f"{name}("), f"{name} has no docstring"


@pytest.mark.parametrize("name", pvc_core.__all__)
def test_every_method_of_a_public_protocol_is_documented(name: str) -> None:
    found = getattr(pvc_core, name)
    if not getattr(found, "_is_protocol", False):
        return
    source = ast.parse(inspect.getsource(found)).body[0]
    assert isinstance(source, ast.ClassDef)
    methods = [node for node in source.body if isinstance(node, ast.FunctionDef)]
    # One that takes nothing may be said by its name and type alone, such as `connected`.
    undocumented = [m.name for m in methods if len(m.args.args) > 1 and not ast.get_docstring(m)]
    assert not undocumented


def test_the_public_names_are_listed_once() -> None:
    assert len(pvc_core.__all__) == len(set(pvc_core.__all__))
    assert set(pvc_core.__all__) <= set(dir(pvc_core))


def test_a_type_checker_sees_the_same_names() -> None:
    source = ast.parse((package_path("pvc_core") / "__init__.py").read_text())
    guarded = [node for node in source.body if isinstance(node, ast.If)]
    imported = {alias.name for node in ast.walk(guarded[0]) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(pvc_core.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(pvc_core, "no_such_name")  # noqa: B009 - mypy knows that it is missing


def test_every_kind_of_driver_has_its_registration_hook() -> None:
    assert {f"pvc_{kind}" for kind in ENTRY_TYPES} <= set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_shows_a_complete_example(hook: str) -> None:
    documentation = inspect.getdoc(getattr(hookspecs, hook)) or ""
    assert "@hookimpl" in documentation
    example = "\n".join(line[4:] for line in documentation.splitlines() if line.startswith("    ") or not line)
    compile(example, hook, "exec")
    assert f"def {hook}(" in example


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_neither_defaults_nor_keyword_only_parameters(hook: str) -> None:
    for parameter in inspect.signature(getattr(hookspecs, hook)).parameters.values():
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        assert parameter.default is parameter.empty


@pytest.mark.parametrize("package", PACKAGE_FOLDERS)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (package_path(package) / "py.typed").exists()


def test_the_plugin_api_is_cheap_to_import() -> None:
    script = "import sys, pvc_core\nprint(sorted(m for m in sys.modules if m.startswith('pvc_core.')))"
    assert run("python", "-c", script).stdout == "[]\n"
