# SPDX-License-Identifier: Apache-2.0
"""suite_proof: a suite is worth something only if it fails: which of its rules does a given driver break?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import pytest

from pvc_core.plugin_loading import DriverEntry
from pvc_core.testing.driver_suite import registry_of


def rules(suite: type[Any]) -> list[str]:
    """The names of a suite's rules."""
    return sorted(name for name in dir(suite) if name.startswith("test_"))


def suite_of(suite: type[Any], entry: DriverEntry, **overridden: Any) -> type[Any]:
    """The suite as the author of this driver writes it: a subclass with a name."""
    registry = registry_of(entry)
    return type(suite.__name__, (suite,), {"name": entry.name, "registry": lambda self: registry, **overridden})


def verdicts(suite: type[Any], *only: str) -> dict[str, str]:
    """Every rule, or only these, with "kept", "skipped", or what is broken."""
    found = {}
    for rule in only or rules(suite):
        try:
            getattr(suite(), rule)()
        except pytest.skip.Exception:
            found[rule] = "skipped"
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all of it breaks a rule, as under pytest
            found[rule] = f"{type(error).__name__}: {error}"
        else:
            found[rule] = "kept"
    return found


def broken(suite: type[Any]) -> set[str]:
    """The rules that are neither kept nor skipped."""
    return {rule for rule, verdict in verdicts(suite).items() if verdict not in ("kept", "skipped")}


def assert_keeps_all(suite: type[Any]) -> None:
    """Every rule is kept, and none is skipped."""
    not_kept = {rule: verdict for rule, verdict in verdicts(suite).items() if verdict != "kept"}
    assert not not_kept


def assert_every_rule_can_fail(suite: type[Any], proven: Iterable[str]) -> None:
    """For every rule there is a driver that breaks it."""
    assert set(rules(suite)) - set(proven) == set(), "no driver shows that these rules can fail"


def takes(suite: type[Any], rule: str) -> set[str]:
    """The names of the fixtures and parameters that a rule takes."""
    return set(getattr(suite, rule).__annotations__) - {"return"}


def verdict_with(suite: type[Any], rule: str, given: Callable[[], AbstractContextManager[Mapping[str, Any]]]) -> str:
    """A rule that takes fixtures: "kept" with each set of its parameters, or what is broken. given: the fixtures."""
    body = getattr(suite(), rule)
    for parameters in _parameter_sets(body):
        with given() as fixtures:
            try:
                body(**fixtures, **parameters)
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all of it breaks a rule, as under pytest
                return f"{type(error).__name__}: {error}"
    return "kept"


def _parameter_sets(body: Any) -> Iterator[dict[str, Any]]:
    marks = [mark.args for mark in getattr(body, "pytestmark", ()) if mark.name == "parametrize"]
    for values in product(*(values for _, values in marks)):
        found: dict[str, Any] = {}
        for (names, _), value in zip(marks, values, strict=True):
            found.update({names: value} if isinstance(names, str) else zip(names, value, strict=True))
        yield found
