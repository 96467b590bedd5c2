# SPDX-License-Identifier: Apache-2.0
"""simulated_testbed: the hypervisor's conformance suite on two hosts of one simulated world."""

from __future__ import annotations

from pathlib import Path

from pvc_core.ports import Hypervisor
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor, SimulatedWorld


class SimulatedTestbed:
    """Two hosts of one simulated world."""

    source = "hv1"
    target = "hv2"
    unreachable = "hv3"

    def __init__(
        self, folder: Path, driver: type[SimulatedHypervisor] = SimulatedHypervisor, deadline_s: float = 30.0
    ) -> None:
        self._folder = folder
        self._driver = driver
        self.deadline_s = deadline_s
        self.world = SimulatedWorld(folder)

    def connect(self, node: str, *, slow_migrations: bool = False) -> Hypervisor:
        migrate_s = 600 if slow_migrations else 0.2
        return self._driver(f"simulated://{self._folder}?boot_s=0.02&migrate_s={migrate_s}", node)

    def definition(self, name: str, uuid: str, *, obeys: bool = True, lets_go: bool = True) -> str:
        words = {True: "no", False: "yes"}
        behaviour = f"ignores-shutdown='{words[obeys]}' keeps-disks='{words[lets_go]}'"
        return (
            f"<domain type='simulated'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory>"
            f"<metadata><sim:guest xmlns:sim='https://pvc.example/simulated/1' {behaviour}/></metadata></domain>"
        )

    def disk(self, device: str, alias: str) -> str:
        return f"<disk type='file'><source file='/x'/><target dev='{device}'/><alias name='{alias}'/></disk>"

    def wait_until_up(self, node: str, uuid: str) -> None:
        """A simulated guest is up when its start has returned."""

    def life_of(self, uuid: str) -> str:
        return self.world.console(uuid).boot_id

    def crash_guest(self, node: str, uuid: str) -> None:
        self.world.crash_guest(uuid)

    def power_off_guest(self, node: str, uuid: str) -> None:
        self.world.power_off_guest(uuid)

    def secrets(self, node: str) -> list[str]:
        return self.world.secrets(node)

    def take_away(self, node: str) -> None:
        self.world.take_hypervisor_away(node)

    def bring_back(self, node: str) -> None:
        self.world.bring_hypervisor_back(node)
