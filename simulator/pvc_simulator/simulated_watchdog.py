# SPDX-License-Identifier: Apache-2.0
"""simulated_watchdog: a host's watchdog: it resets the host, which then boots again, unless it is fed in time."""

from __future__ import annotations

from pvc_core.errors import WatchdogError
from pvc_simulator.machine import Machine
from pvc_simulator.scheduler import Scheduler


class SimulatedWatchdog:
    """Implements `pvc_core.ports.Watchdog` for one run of a machine."""

    def __init__(self, machine: Machine, scheduler: Scheduler) -> None:
        self._machine = machine
        self._scheduler = scheduler

    def arm(self, timeout_s: float) -> float:
        """Start, or begin anew."""
        self._machine.watchdog_s = timeout_s
        self.feed()
        return timeout_s

    def feed(self) -> None:
        """Begin its time anew."""
        machine, timeout_s = self._machine, self._machine.watchdog_s
        if timeout_s is None:
            raise WatchdogError("it is not armed")
        machine.meals += 1
        meal, boot = machine.meals, machine.boots

        def starve() -> None:
            if machine.watchdog_s is not None and (machine.meals, machine.boots) == (meal, boot) and machine.is_on:
                machine.power_off()
                machine.power_on()

        self._scheduler.after(timeout_s, starve)

    def disarm(self) -> None:
        """Stop it."""
        self._machine.watchdog_s = None
