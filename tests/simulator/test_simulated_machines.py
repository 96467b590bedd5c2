# SPDX-License-Identifier: Apache-2.0
"""What the hypervisor's suite cannot reach: hosts without power or network, and what their fence devices say then."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.fencing import FenceRequest, FenceStatus, FenceVerdict
from pvc_core.ports import DomainEvent, DomainState
from pvc_simulator.cluster import domain_xml
from pvc_simulator.fence_devices import SimulatedFenceAgent
from pvc_simulator.machine import FenceMode, Machine, MachineShape
from pvc_simulator.migration import KEEPALIVE_S, TAKES_S
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.simulated_hypervisor import SimulatedHypervisor
from pvc_simulator.simulated_watchdog import SimulatedWatchdog

VM = "5ee1b6f6-38f4-4d4b-8c33-6f6c4fdb4b0a"
FOR_EVER_S = 10_000.0


class Hosts:
    """Two, hv1 and hv2, each with a program that has a hypervisor, and time that passes when a test says so."""

    def __init__(self, fence: FenceMode = "confirms") -> None:
        self.scheduler = Scheduler()
        self.random = Random(0)
        self.machines: dict[str, Machine] = {}
        for name in ("hv1", "hv2"):
            self.machines[name] = Machine(MachineShape(name, fence=fence), self.scheduler, self.random)
            self.machines[name].power_on(boot_s=0.0)
        self.passes(1)
        self.hv1, self.hv2 = self.machines.values()
        self.program = Process(self.scheduler, "program")
        self.here = self.driver(self.hv1)
        self.does(lambda: self.here.create(domain_xml("web1", VM, 64, 1)))
        self.passes(5)

    def driver(self, machine: Machine) -> SimulatedHypervisor:
        driver = SimulatedHypervisor(machine, self.machines, {}, self.program, self.scheduler, self.random)
        self.does(driver.start)
        self.passes(0)
        return driver

    def does(self, body: Callable[[], object]) -> list[object]:
        """On a thread of the program: in time, what comes of it, or why nothing does."""
        outcome: list[object] = []

        def do() -> None:
            try:
                outcome.append(body())
            except HypervisorError as error:
                outcome.append(error)

        self.program.spawn("does", do)
        return outcome

    def migrates(self, timeout_s: float = 600.0) -> list[object]:
        outcome = self.does(lambda: self.here.migrate(VM, "hv2", 300, timeout_s, lambda _progress: None))
        self.passes(1.5)
        assert self.hv2.domains[VM].state is DomainState.PAUSED
        return outcome

    def passes(self, seconds: float) -> None:
        self.scheduler.run_until(self.scheduler.now_s + seconds)
        assert self.scheduler.failures == []

    def places(self) -> dict[str, DomainState]:
        return {name: host.domains[VM].state for name, host in self.machines.items() if VM in host.domains}


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


def test_a_host_without_power_runs_nothing_and_boots_empty(hosts: Hosts) -> None:
    lost = []
    hosts.hv1.on_power_lost = lambda: lost.append(hosts.scheduler.now_s)
    assert hosts.places() == {"hv1": DomainState.RUNNING}
    hosts.hv1.power_off()
    assert (hosts.places(), hosts.hv1.hypervisor, len(lost)) == ({}, None, 1)
    hosts.hv1.power_on()
    hosts.passes(60)
    assert hosts.hv1.hypervisor is not None
    assert hosts.places() == {}


def test_a_boot_that_is_interrupted_does_not_end(hosts: Hosts) -> None:
    booted = []
    hosts.hv1.power_off()
    hosts.hv1.on_booted = lambda: booted.append(hosts.scheduler.now_s)
    hosts.hv1.power_on(boot_s=20)
    hosts.passes(10)
    hosts.hv1.power_off()
    hosts.hv1.power_on(boot_s=20)
    began_s = hosts.scheduler.now_s
    hosts.passes(60)
    assert booted == [began_s + 20]


def test_what_a_dead_source_has_left_stays_paused_until_the_target_notices(hosts: Hosts) -> None:
    hosts.migrates()
    hosts.hv1.power_off()
    hosts.passes(KEEPALIVE_S[0] - 0.1)
    assert hosts.places() == {"hv2": DomainState.PAUSED}
    hosts.passes(KEEPALIVE_S[1])
    assert hosts.places() == {}


def test_a_copy_on_a_target_whose_hypervisor_is_away_goes_when_that_is_back(hosts: Hosts) -> None:
    outcome = hosts.migrates()
    hosts.hv2.kill_hypervisor()
    hosts.passes(60)
    assert isinstance(outcome[0], HypervisorError)
    assert hosts.places() == {"hv1": DomainState.RUNNING, "hv2": DomainState.PAUSED}
    hosts.hv2.start_hypervisor()
    assert hosts.places() == {"hv1": DomainState.RUNNING}


def test_a_migration_over_a_network_that_is_cut_is_given_up_by_both_ends(hosts: Hosts) -> None:
    outcome = hosts.migrates()
    hosts.hv2.cut_network()
    hosts.passes(3 * KEEPALIVE_S[1])
    assert isinstance(outcome[0], HypervisorError)
    assert hosts.places() == {"hv1": DomainState.RUNNING}


def test_a_migration_goes_on_without_the_program_that_wanted_it(hosts: Hosts) -> None:
    hosts.migrates(timeout_s=2.0)
    hosts.program.kill()
    hosts.passes(2 * TAKES_S[1])
    assert hosts.places() == {"hv2": DomainState.RUNNING}


def test_a_listener_hears_events_in_their_order_however_long_it_takes(hosts: Hosts) -> None:
    heard: list[str] = []

    def slow(event: DomainEvent | None) -> None:
        begins = event.kind.value if event else "list anew"
        hosts.scheduler.sleep(3.0 if not heard else 0.0)
        heard.append(begins)

    hosts.here.add_listener(slow)
    hosts.does(lambda: hosts.here.destroy(VM))
    hosts.passes(1)
    hosts.hv1.kill_hypervisor()
    hosts.hv1.start_hypervisor()
    assert heard == []
    hosts.passes(5)
    assert heard == ["stopped", "list anew"]


def test_the_watchdog_of_a_host_that_was_switched_off_does_not_end_its_next_life(hosts: Hosts) -> None:
    SimulatedWatchdog(hosts.hv1, hosts.scheduler).arm(30)
    hosts.passes(20)
    hosts.hv1.power_off()
    hosts.hv1.power_on(boot_s=1)
    hosts.passes(60)
    assert hosts.hv1.boots == 2


def asked(hosts: Hosts) -> tuple[list[object], list[object]]:
    """What the device says when it is to switch hv2 off, and then of its state; empty: nothing, ever."""
    agent = SimulatedFenceAgent(hosts.machines, hosts.scheduler, hosts.random)
    request = FenceRequest("hv2")
    verdict = hosts.does(lambda: agent.power_off(request))
    hosts.passes(FOR_EVER_S)
    status = hosts.does(lambda: agent.status(request))
    hosts.passes(FOR_EVER_S)
    return verdict, status


def test_a_device_that_confirms_has_switched_the_host_off() -> None:
    hosts = Hosts("confirms")
    (verdict,), (status,) = asked(hosts)
    assert isinstance(verdict, FenceVerdict)
    assert verdict.confirmed
    assert status == FenceStatus("off")
    assert not hosts.hv2.is_on


def test_a_device_that_refuses_leaves_the_host_on_and_knows_nothing() -> None:
    hosts = Hosts("refuses")
    (verdict,), (status,) = asked(hosts)
    assert isinstance(verdict, FenceVerdict)
    assert not verdict.confirmed
    assert isinstance(status, FenceStatus)
    assert status.power == "unknown"
    assert hosts.hv2.is_on


@pytest.mark.parametrize("mode", ["silent", "none"])
def test_a_device_that_is_silent_says_nothing_and_does_nothing(mode: FenceMode) -> None:
    hosts = Hosts(mode)
    assert asked(hosts) == ([], [])
    assert hosts.hv2.is_on
