# SPDX-License-Identifier: Apache-2.0
"""The hooks' specifications and the public API: every promise is there."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

import pvc_core
from pvc_core import hookspecs

SPECS = [function for name, function in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("pvc_")]


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
