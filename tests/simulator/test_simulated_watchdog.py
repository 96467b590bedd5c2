# SPDX-License-Identifier: Apache-2.0
"""The simulator's watchdog does what every watchdog does."""

from __future__ import annotations

from random import Random

from pvc_core.ports import Watchdog
from pvc_core.testing.watchdog_suite import WatchdogBench, WatchdogSuite
from pvc_simulator.machine import Machine, MachineShape
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.simulated_watchdog import SimulatedWatchdog


class SimulatedBench:
    """One simulated host, which ends when its first boot does: a watchdog resets it, and it boots again."""

    timeout_s = 10.0

    def __init__(self) -> None:
        self._scheduler = Scheduler()
        self._machine = Machine(MachineShape("hv1"), self._scheduler, Random(0))
        self._machine.power_on(boot_s=0.0)
        self._processes: dict[Watchdog, Process] = {}
        self._pass(1.0)

    def watchdog(self) -> SimulatedWatchdog:
        watchdog = SimulatedWatchdog(self._machine, self._scheduler)
        self._processes[watchdog] = Process(self._scheduler, "daemon")
        return watchdog

    def kill(self, watchdog: Watchdog) -> None:
        self._processes[watchdog].kill()

    def lives_for(self, seconds: float) -> bool:
        self._pass(seconds)
        return self._machine.boots == 1

    def ends_within(self, seconds: float) -> bool:
        return not self.lives_for(seconds)

    def close(self) -> None: ...

    def _pass(self, seconds: float) -> None:
        self._scheduler.run_until(self._scheduler.now_s + seconds)


class TestSimulatedWatchdog(WatchdogSuite):
    def bench(self) -> WatchdogBench:
        return SimulatedBench()
