# SPDX-License-Identifier: Apache-2.0
"""The simulator's store keeps the contract of all stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvc_core.testing.store_suite import StoreContract
from simulator.bridged_store import SimulatedStoreHarness


@pytest.fixture
def harness() -> Iterator[SimulatedStoreHarness]:
    harness = SimulatedStoreHarness()
    yield harness
    harness.close()


class TestSimulatedStore(StoreContract):
    """All rules of the store port."""
