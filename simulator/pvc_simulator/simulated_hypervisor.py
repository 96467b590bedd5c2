# SPDX-License-Identifier: Apache-2.0
"""simulated_hypervisor: what a node daemon sees of its host's hypervisor, and of others over the network.

What it asks for is done by the hypervisor's own daemon, and goes on when the node daemon dies meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from pvc_core.disk_xml import disks_in, with_disks, without_disk
from pvc_core.domain_xml import parse_domain
from pvc_core.errors import HypervisorError, InvalidInput
from pvc_core.host_secrets import HostSecret
from pvc_core.hypervisor_events import EventDispatcher
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
from pvc_simulator.guests import GuestBehaviour, SimulatedDomain
from pvc_simulator.machine import Machine
from pvc_simulator.migration import TAKES_S, Migration
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.virtual_threads import VirtualThreads

START_S = (0.3, 2.0)
DESTROY_S = (0.05, 0.5)
DISK_S = (0.05, 0.5)
LOOK_S = 0.002
CONNECT_TIMEOUT_S = 5.0
"""How long a host that does not answer keeps one waiting."""


class SimulatedHypervisor:
    """Implements `pvc_core.ports.Hypervisor` for the program `process` on `machine`."""

    def __init__(
        self,
        machine: Machine,
        machines: Mapping[str, Machine],
        behaviours: Mapping[str, GuestBehaviour],
        process: Process,
        scheduler: Scheduler,
        random: Random,
        migrates_s: tuple[float, float] = TAKES_S,
    ) -> None:
        """migrates_s: how long the migrations take that it begins, least and most."""
        self._machine = machine
        self._machines = machines
        self._behaviours = behaviours
        self._process = process
        self._scheduler = scheduler
        self._random = random
        self._migrates_s = migrates_s
        self._is_open = False
        self._events = EventDispatcher("domain-events", VirtualThreads(scheduler, process))

    def start(self) -> None:
        self._is_open = True
        self._machine.event_listeners.append(self._events.post)
        self._events.start()

    def close(self) -> None:
        self._is_open = False
        if self._events.post in self._machine.event_listeners:
            self._machine.event_listeners.remove(self._events.post)
        self._events.close()

    @property
    def connected(self) -> bool:
        return self._is_open and self._machine.hypervisor is not None

    def add_listener(self, listener: Callable[[DomainEvent | None], None]) -> Subscription:
        return self._events.subscribe(listener)

    # ------------------------------------------------------------------------------------------- what is

    def host(self) -> HostFacts:
        self._running_daemon()
        shape = self._machine.shape
        used_mib = sum(domain.memory_mib for domain in self._machine.domains.values())
        return HostFacts(
            shape.memory_mib, max(0, shape.memory_mib - used_mib), shape.cores, self._machine.load_1m, "simulated"
        )

    def domains(self) -> tuple[Domain, ...]:
        self._running_daemon()
        return tuple(domain.seen(self._scheduler.now_s) for domain in self._machine.domains.values())

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        self._running_daemon()
        return disks_in(self._active(uuid).xml)

    def migration_uri(self, node: str) -> str:
        return f"simulated://{node}"

    def peer_domain_state(self, target: str, uuid: str) -> DomainState | None:
        peer = self._machines.get(target)
        self._scheduler.sleep(LOOK_S)
        if peer is None or not (self._machine.is_reachable and peer.is_reachable):
            self._scheduler.sleep(CONNECT_TIMEOUT_S)
            raise HypervisorError(f"{target} does not answer", connection_lost=True)
        if peer.hypervisor is None:
            raise HypervisorError(f"the hypervisor of {target} does not answer", connection_lost=True)
        domain = peer.domains.get(uuid)
        return domain.state if domain else None

    # -------------------------------------------------------------------------------------- what is done

    def create(self, xml: str) -> None:
        self._by_daemon("create", lambda: self._create(xml))

    def _create(self, xml: str) -> None:
        try:
            definition = parse_domain(xml)
        except InvalidInput as error:
            raise HypervisorError(error.sentence()) from error
        behaviour = self._behaviours.get(definition.name) or GuestBehaviour()
        self._scheduler.sleep(self._random.uniform(*START_S))
        if definition.uuid in self._machine.domains:
            raise HypervisorError(f"domain '{definition.name}' is active already")
        if behaviour.starts_only_on not in ("", self._machine.name):
            raise HypervisorError(f"it starts only on {behaviour.starts_only_on}")
        if behaviour.start_failures > 0:
            behaviour.start_failures -= 1
            raise HypervisorError(f"start failure, {behaviour.start_failures} more to come")
        domain = SimulatedDomain(
            definition.uuid or "", definition.name, xml, definition.memory_mib, definition.vcpus, behaviour
        )
        self._machine.put(domain)

    def shutdown(self, uuid: str) -> None:
        self._running_daemon()
        domain = self._machine.domains.get(uuid)
        if domain is not None:
            self._machine.ask_power_off(domain)

    def destroy(self, uuid: str) -> None:
        self._by_daemon("destroy", lambda: self._destroy(uuid))

    def _destroy(self, uuid: str) -> None:
        domain = self._machine.domains.get(uuid)
        self._scheduler.sleep(self._random.uniform(*DESTROY_S))
        if domain is not None:
            self._machine.end(domain, DomainEventKind.STOPPED, "it was terminated")

    def attach_disk(self, uuid: str, xml: str) -> None:
        self._by_daemon("attach", lambda: self._attach(uuid, xml))

    def _attach(self, uuid: str, xml: str) -> None:
        self._scheduler.sleep(self._random.uniform(*DISK_S))
        domain = self._active(uuid)
        try:
            domain.xml = with_disks(domain.xml, [xml])
        except InvalidInput as error:
            raise HypervisorError(error.sentence()) from error
        self._machine.tell(DomainEvent(uuid, DomainEventKind.DISKS, "a disk was attached"))

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        self._by_daemon("detach", lambda: self._detach(uuid, device, timeout_s))

    def _detach(self, uuid: str, device: str, timeout_s: float) -> None:
        domain = self._active(uuid)
        if device not in [disk.device for disk in disks_in(domain.xml)]:
            return
        if domain.hangs or domain.behaviour.keeps_disks:
            self._scheduler.sleep(timeout_s)
            raise HypervisorError(f"the guest has not let go of {device} within {timeout_s:g} s")
        self._scheduler.sleep(self._random.uniform(*DISK_S))
        domain.xml = without_disk(domain.xml, device)
        self._machine.tell(DomainEvent(uuid, DomainEventKind.DISKS, "a disk was detached"))

    def freeze(self, uuid: str, timeout_s: float) -> bool:
        """No guest here has an agent."""
        self._running_daemon()
        self._active(uuid)
        return False

    def thaw(self, uuid: str, timeout_s: float) -> bool:
        self._running_daemon()
        return False

    def suspend(self, uuid: str) -> None:
        self._running_daemon()
        self._active(uuid).is_suspended = True

    def resume(self, uuid: str) -> bool:
        self._running_daemon()
        domain = self._machine.domains.get(uuid)
        if domain is None or not domain.is_suspended:
            return False
        domain.is_suspended = False
        return True

    def _active(self, uuid: str) -> SimulatedDomain:
        domain = self._machine.domains.get(uuid)
        if domain is None:
            raise HypervisorError(f"no domain {uuid} runs on {self._machine.name}")
        return domain

    def ensure_secret(self, secret: HostSecret) -> None:
        try:
            secret.decoded()
        except InvalidInput as error:
            raise HypervisorError(error.sentence()) from error
        self._running_daemon()
        self._machine.keep_secret(secret)

    def migrate(
        self,
        uuid: str,
        target: str,
        max_downtime_ms: int,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
    ) -> None:
        process = self._process
        migration = Migration(
            self._machine,
            self._machines.get(target),
            uuid,
            timeout_s,
            on_progress,
            self._migrates_s,
            lambda: not (process.is_dead or process.is_stopped),
        )
        self._by_daemon("migrate", lambda: migration.run(self._scheduler, self._random))

    def cancel_migration(self, uuid: str) -> None:
        self._running_daemon()
        domain = self._machine.domains.get(uuid)
        if domain is not None and domain.leaves:
            domain.cancelled = "it was cancelled"

    def _running_daemon(self) -> Process:
        if not self._is_open:
            raise HypervisorError("the connection to the hypervisor is closed", connection_lost=True)
        daemon = self._machine.hypervisor
        if daemon is None:
            raise HypervisorError(f"the hypervisor of {self._machine.name} does not answer", connection_lost=True)
        return daemon

    def _by_daemon(self, name: str, job: Callable[[], None]) -> None:
        """Have the hypervisor's daemon do it, and wait. Raises what it raised, or that it died."""
        outcomes: list[HypervisorError | None] = []

        def run() -> None:
            try:
                job()
            except HypervisorError as error:
                outcomes.append(error)
            else:
                outcomes.append(None)

        self._running_daemon().spawn(name, run).join()
        if not outcomes:
            raise HypervisorError(f"the hypervisor of {self._machine.name} has died", connection_lost=True)
        if outcomes[0] is not None:
            raise outcomes[0]
