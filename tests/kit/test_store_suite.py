# SPDX-License-Identifier: Apache-2.0
"""The suite for stores catches stores that break its rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kit import broken_stores
from kit.broken_stores import Broken
from kit.suite_proof import verdict_with
from pvc_core.testing.store_harness import DEADLINE_VARIABLE
from pvc_core.testing.store_suite import StoreContract, StoreHarness
from pvc_plugins.stores.embedded import SqliteStore
from stores.sqlite_harness import SqliteHarness

DEADLINE_S = "1.5"
BROKEN = [
    found
    for found in vars(broken_stores).values()
    if isinstance(found, type) and issubclass(found, Broken) and found.breaks
]
CAUGHT = [(f"test_{rule}", broken) for broken in BROKEN for rule in broken.breaks]


def verdict(store: type[SqliteStore], rule: str) -> str:
    @contextmanager
    def given() -> Iterator[Mapping[str, StoreHarness]]:
        with TemporaryDirectory() as folder:
            harness = SqliteHarness(Path(folder), store)
            try:
                yield {"harness": harness}
            finally:
                harness.close()

    return verdict_with(StoreContract, rule, given)


@pytest.mark.parametrize("rule", sorted({rule for rule, _ in CAUGHT}))
def test_a_store_that_does_it_right_keeps_the_rule(rule: str) -> None:
    assert verdict(SqliteStore, rule) == "kept"


@pytest.mark.parametrize(("rule", "broken"), CAUGHT, ids=[f"{broken.__name__}-{rule}" for rule, broken in CAUGHT])
def test_the_suite_catches_a_broken_store(rule: str, broken: type[Broken], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEADLINE_VARIABLE, DEADLINE_S)
    assert verdict(broken, rule) != "kept"
