# SPDX-License-Identifier: Apache-2.0
"""The embedded store keeps the contract of all stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_core.testing.store_suite import StoreContract
from stores.sqlite_harness import SqliteHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    harness = SqliteHarness(tmp_path)
    yield harness
    harness.close()


class TestSqliteStore(StoreContract):
    """All rules of the store port."""
