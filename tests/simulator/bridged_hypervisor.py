# SPDX-License-Identifier: Apache-2.0
"""bridged_hypervisor: two simulated hosts as real threads see them, for the suite of all hypervisors."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

from pvc_core.host_secrets import HostSecret
from pvc_core.ports import (
    Disk,
    Domain,
    DomainEvent,
    DomainEventKind,
    DomainState,
    HostFacts,
    MigrationProgress,
    Subscription,
)
from pvc_simulator.cluster import domain_xml
from pvc_simulator.guests import GuestBehaviour, SimulatedDomain
from pvc_simulator.machine import Machine, MachineShape
from pvc_simulator.migration import TAKES_S
from pvc_simulator.scheduler import Process
from pvc_simulator.simulated_hypervisor import SimulatedHypervisor
from simulator.bridged_store import BridgedSubscription
from simulator.real_time import SPEED, RealTime

T = TypeVar("T")

SLOW_S = 60 * SPEED


class BridgedHypervisor:
    """Implements `pvc_core.ports.Hypervisor`: a simulated program that asks its host's hypervisor what it is told."""

    _numbers = count(1)

    def __init__(self, world: RealTime, inner_of: Callable[[Process], SimulatedHypervisor]) -> None:
        self._world = world
        self._process = Process(world.scheduler, f"driver-{next(self._numbers)}")
        self._inner = inner_of(self._process)

    def start(self) -> None:
        self._call(self._inner.start)

    def close(self) -> None:
        self._call(self._inner.close)

    @property
    def connected(self) -> bool:
        return self._world.act(lambda: self._inner.connected)

    def add_listener(self, listener: Callable[[DomainEvent | None], None]) -> Subscription:
        inner = self._call(lambda: self._inner.add_listener(self._world.listener(listener)))
        return BridgedSubscription(self._world, self._process, inner)

    def host(self) -> HostFacts:
        return self._call(self._inner.host)

    def domains(self) -> tuple[Domain, ...]:
        return self._call(self._inner.domains)

    def create(self, xml: str) -> None:
        self._call(lambda: self._inner.create(xml))

    def shutdown(self, uuid: str) -> None:
        self._call(lambda: self._inner.shutdown(uuid))

    def destroy(self, uuid: str) -> None:
        self._call(lambda: self._inner.destroy(uuid))

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        return self._call(lambda: self._inner.disks(uuid))

    def attach_disk(self, uuid: str, xml: str) -> None:
        self._call(lambda: self._inner.attach_disk(uuid, xml))

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        self._call(lambda: self._inner.detach_disk(uuid, device, timeout_s))

    def freeze(self, uuid: str, timeout_s: float) -> bool:
        return self._call(lambda: self._inner.freeze(uuid, timeout_s))

    def thaw(self, uuid: str, timeout_s: float) -> bool:
        return self._call(lambda: self._inner.thaw(uuid, timeout_s))

    def suspend(self, uuid: str) -> None:
        self._call(lambda: self._inner.suspend(uuid))

    def resume(self, uuid: str) -> bool:
        return self._call(lambda: self._inner.resume(uuid))

    def ensure_secret(self, secret: HostSecret) -> None:
        self._call(lambda: self._inner.ensure_secret(secret))

    def migration_uri(self, node: str) -> str:
        return self._inner.migration_uri(node)

    def migrate(
        self,
        uuid: str,
        target: str,
        max_downtime_ms: int,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
    ) -> None:
        told = self._world.listener(on_progress)
        self._call(lambda: self._inner.migrate(uuid, target, max_downtime_ms, timeout_s, told))

    def cancel_migration(self, uuid: str) -> None:
        self._call(lambda: self._inner.cancel_migration(uuid))

    def peer_domain_state(self, target: str, uuid: str) -> DomainState | None:
        return self._call(lambda: self._inner.peer_domain_state(target, uuid))

    def _call(self, body: Callable[[], T]) -> T:
        return self._world.call(self._process, body)


class SimulatedHosts:
    """A testbed of `pvc_core.testing.hypervisor_suite`. Watches that no guest ever runs on two hosts."""

    source = "hv1"
    target = "hv2"
    unreachable = "hv3"
    deadline_s = 60.0

    def __init__(self) -> None:
        self._world = RealTime()
        self._behaviours: dict[str, GuestBehaviour] = {}
        self.ran_twice: list[str] = []
        self._machines = {name: self._machine(name) for name in (self.source, self.target)}

    def close(self) -> None:
        self._world.close()

    def connect(self, node: str, *, slow_migrations: bool = False) -> BridgedHypervisor:
        world = self._world
        takes_s = (SLOW_S, SLOW_S) if slow_migrations else TAKES_S

        def inner(process: Process) -> SimulatedHypervisor:
            machine = self._machines[node]
            return SimulatedHypervisor(
                machine, self._machines, self._behaviours, process, world.scheduler, world.random, takes_s
            )

        return BridgedHypervisor(world, inner)

    def definition(self, name: str, uuid: str, *, obeys: bool = True, lets_go: bool = True) -> str:
        self._behaviours[name] = GuestBehaviour(ignores_shutdown=not obeys, keeps_disks=not lets_go)
        return domain_xml(name, uuid, 64, 1)

    def disk(self, device: str, alias: str) -> str:
        return f"<disk type='file'><source file='/x'/><target dev='{device}'/><alias name='{alias}'/></disk>"

    def wait_until_up(self, node: str, uuid: str) -> None:
        """A simulated guest is up when its start has returned."""

    def life_of(self, uuid: str) -> str:
        lives = [str(found.life) for found in self._world.act(lambda: self._all(uuid))]
        assert len(lives) == 1
        return lives[0]

    def crash_guest(self, node: str, uuid: str) -> None:
        self._end(node, uuid, DomainEventKind.CRASHED)

    def power_off_guest(self, node: str, uuid: str) -> None:
        self._end(node, uuid, DomainEventKind.POWERED_OFF)

    def secrets(self, node: str) -> list[str]:
        return self._world.act(lambda: sorted(self._machines[node].secrets))

    def take_away(self, node: str) -> None:
        self._world.act(self._machines[node].kill_hypervisor)

    def bring_back(self, node: str) -> None:
        self._world.act(self._machines[node].start_hypervisor)

    def _machine(self, name: str) -> Machine:
        machine = Machine(MachineShape(name), self._world.scheduler, self._world.random)
        machine.on_running = self._runs
        self._world.act(lambda: machine.power_on(boot_s=0.0))
        return machine

    def _runs(self, _machine: Machine, domain: SimulatedDomain) -> None:
        if [each.state for each in self._all(domain.uuid)].count(DomainState.RUNNING) > 1:
            self.ran_twice.append(domain.name)

    def _end(self, node: str, uuid: str, kind: DomainEventKind) -> None:
        machine = self._machines[node]
        self._world.act(lambda: machine.end(machine.domains[uuid], kind))

    def _all(self, uuid: str) -> list[SimulatedDomain]:
        return [machine.domains[uuid] for machine in self._machines.values() if uuid in machine.domains]
