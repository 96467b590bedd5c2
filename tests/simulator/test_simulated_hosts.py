# SPDX-License-Identifier: Apache-2.0
"""The simulator's hypervisor does what every hypervisor does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvc_core.testing.hypervisor_suite import HypervisorContract, HypervisorTestbed
from simulator.bridged_hypervisor import SimulatedHosts


class TestSimulatedHosts(HypervisorContract):
    @pytest.fixture
    def testbed(self) -> Iterator[HypervisorTestbed]:
        testbed = SimulatedHosts()
        yield testbed
        assert testbed.ran_twice == []
        testbed.close()
