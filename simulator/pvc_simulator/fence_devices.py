# SPDX-License-Identifier: Apache-2.0
"""fence_devices: the hosts' management controllers, as a fence agent that every simulated daemon has.

They have a network and power of their own: they answer also for a host without either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict
from pvc_core.hookspecs import hookimpl
from pvc_simulator.machine import Machine
from pvc_simulator.scheduler import Scheduler

AGENT = "simulated"
DEADLINE_S = 20.0
ANSWERS_S = (0.2, 1.5)
LATE_S = 5.0
"""A late device does what it was told so long after its deadline."""
FOR_EVER_S = 1e9


class SimulatedFenceAgent:
    """Implements `pvc_core.fencing.FenceAgent` for all hosts, asked from one of them."""

    def __init__(self, machines: Mapping[str, Machine], scheduler: Scheduler, random: Random) -> None:
        self._machines = machines
        self._scheduler = scheduler
        self._random = random

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        """Cut the power. What a silent device was told, it may do long after nobody waits for it any more."""
        machine = self._machines[request.node]
        mode = machine.fence_mode
        self._scheduler.sleep(self._random.uniform(*ANSWERS_S))
        if mode == "refuses":
            return FenceVerdict(False, f"the device of {machine.name} refuses")
        if mode == "late":
            self._scheduler.sleep(DEADLINE_S + LATE_S)
        elif mode != "confirms":
            self._scheduler.sleep(FOR_EVER_S)
        self._scheduler.at(self._scheduler.now_s, machine.power_off)
        self._scheduler.sleep(self._random.uniform(*ANSWERS_S))
        if machine.is_on:
            return FenceVerdict(False, f"{machine.name} is on")
        return FenceVerdict(True, f"the device of {machine.name} says that it is off")

    def status(self, request: FenceRequest) -> FenceStatus:
        """What the device says."""
        machine = self._machines[request.node]
        self._scheduler.sleep(self._random.uniform(*ANSWERS_S))
        if machine.fence_mode in ("silent", "none"):
            self._scheduler.sleep(FOR_EVER_S)
        if machine.fence_mode == "refuses":
            return FenceStatus("unknown", f"the device of {machine.name} refuses")
        return FenceStatus("on" if machine.is_on else "off")


class SimulatedFencing:
    """The plugin."""

    def __init__(self, agent: SimulatedFenceAgent) -> None:
        self._agent = agent

    @hookimpl
    def pvc_fence_agents(self) -> Sequence[FenceAgentEntry]:
        """The one agent."""
        return [FenceAgentEntry(AGENT, "simulated management controllers", self._agent, DEADLINE_S)]
