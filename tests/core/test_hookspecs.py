# SPDX-License-Identifier: Apache-2.0
"""The hooks' specifications and the public API: every example runs, every promise is there."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import pvc_core
from pvc_core import hookspecs
from pvc_core.registry import Registry

SPECS = [function for name, function in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("pvc_")]


def example_in(documentation: str) -> str:
    """The indented code of a docstring, from its first import on."""
    lines = inspect.cleandoc(documentation).splitlines()
    code = [line for line in lines if line.startswith("    ") or not line]
    return textwrap.dedent("\n".join(code)).strip()


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Some code as the module that it would be in a distribution."""

    def imported(code: str) -> ModuleType:
        file = tmp_path / "example.py"
        file.write_text(code)
        spec = importlib.util.spec_from_file_location("example", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "example", module)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_the_example_in_every_hooks_documentation_is_a_working_plugin(
    spec: Callable[..., object], imported: Callable[[str], ModuleType]
) -> None:
    registry = Registry.of(imported(example_in(spec.__doc__ or "")))
    assert registry.problems == ()
    assert spec.__name__ in registry.plugins[0].hooks


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_no_hook_has_defaults_keywords_only_or_a_first_result(spec: Callable[..., object]) -> None:
    for parameter in inspect.signature(spec).parameters.values():
        assert parameter.default is parameter.empty
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    options = spec.pvc_spec  # type: ignore[attr-defined]
    assert not options["firstresult"]
    assert not options["historic"]


def test_every_name_of_the_public_api_exists() -> None:
    for name in pvc_core.__all__:
        assert getattr(pvc_core, name) is not None
    assert set(pvc_core.__all__) <= set(dir(pvc_core))
    with pytest.raises(AttributeError, match="nonsense"):
        pvc_core.nonsense  # noqa: B018


def test_a_module_of_the_core_can_be_imported_without_loading_the_plugin_api() -> None:
    code = "import sys, pvc_core.errors; print([m for m in ('pluggy', 'msgspec', 'lxml') if m in sys.modules])"
    # -I -S would hide the installed package; the editable finder itself loads none of these.
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
