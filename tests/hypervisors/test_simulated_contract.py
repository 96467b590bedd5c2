# SPDX-License-Identifier: Apache-2.0
"""The simulated hypervisor does what every hypervisor does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_core.ports import Hypervisor
from pvc_core.testing.hypervisor_suite import HypervisorContract, HypervisorTestbed
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor, SimulatedWorld


class SimulatedTestbed:
    """Two hosts of one simulated world."""

    source = "hv1"
    target = "hv2"
    unreachable = "hv3"
    deadline_s = 30.0

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.world = SimulatedWorld(folder)

    def connect(self, node: str, *, slow_migrations: bool = False) -> Hypervisor:
        migrate_s = 600 if slow_migrations else 0.2
        return SimulatedHypervisor(f"simulated://{self._folder}?boot_s=0.02&migrate_s={migrate_s}", node)

    def definition(self, name: str, uuid: str, *, obeys: bool = True) -> str:
        behaviour = f"ignores-shutdown='{'no' if obeys else 'yes'}'"
        return (
            f"<domain type='simulated'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>"
            f"<metadata><sim:guest xmlns:sim='https://pvc.example/simulated/1' {behaviour}/></metadata></domain>"
        )

    def wait_until_up(self, node: str, uuid: str) -> None:
        """A simulated guest is up when its start has returned."""

    def life_of(self, uuid: str) -> str:
        return self.world.console(uuid).boot_id

    def crash_guest(self, node: str, uuid: str) -> None:
        self.world.crash_guest(uuid)

    def power_off_guest(self, node: str, uuid: str) -> None:
        self.world.power_off_guest(uuid)

    def take_away(self, node: str) -> None:
        self.world.take_hypervisor_away(node)

    def bring_back(self, node: str) -> None:
        self.world.bring_hypervisor_back(node)


class TestSimulatedHypervisor(HypervisorContract):
    @pytest.fixture
    def testbed(self, tmp_path: Path) -> Iterator[HypervisorTestbed]:
        testbed = SimulatedTestbed(tmp_path / "world")
        yield testbed
        assert testbed.world.ran_on_two_nodes() == []
        testbed.world.close()
