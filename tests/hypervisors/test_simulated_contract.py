# SPDX-License-Identifier: Apache-2.0
"""The simulated hypervisor does what every hypervisor does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisors.simulated_testbed import SimulatedTestbed
from pvc_core.testing.hypervisor_suite import HypervisorContract, HypervisorTestbed


class TestSimulatedHypervisor(HypervisorContract):
    @pytest.fixture
    def testbed(self, tmp_path: Path) -> Iterator[HypervisorTestbed]:
        testbed = SimulatedTestbed(tmp_path / "world")
        yield testbed
        assert testbed.world.ran_on_two_nodes() == []
        testbed.world.close()
