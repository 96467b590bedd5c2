# SPDX-License-Identifier: Apache-2.0
"""machine: one simulated host: its power, its network, its management controller and the domains active on it.

The domains are the truth about what runs. Guests do not depend on the node daemon, nor on the hypervisor's own daemon;
the power takes everything away at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from pvc_core.host_secrets import HostSecret
from pvc_core.ports import DomainEvent, DomainEventKind, DomainState
from pvc_simulator.guests import SimulatedDomain
from pvc_simulator.scheduler import Process, Scheduler

FenceMode = Literal["confirms", "refuses", "silent", "late", "none"]

BOOT_S = (15.0, 40.0)
"""From power on until the hypervisor and the node daemon are started."""
POWERS_OFF_S = (2.0, 8.0)
"""How long a guest takes to power off when it is asked."""


@dataclass(frozen=True)
class MachineShape:
    """What the host is made of."""

    name: str
    memory_mib: int = 65536
    cores: int = 16
    fence: FenceMode = "confirms"
    load_1m: float = 0.5


class Machine:
    """One host. `on_running` is told of every domain that begins to run here, the others of what their names say."""

    def __init__(self, shape: MachineShape, scheduler: Scheduler, random: Random) -> None:
        self.name = shape.name
        self.shape = shape
        self.fence_mode: FenceMode = shape.fence
        self.load_1m = shape.load_1m
        self.is_on = False
        self.is_networked = True
        self._sees_store = True
        self.boots = 0
        self.watchdog_s: float | None = None
        """The time of its watchdog while that is armed."""
        self.meals = 0
        """How often that was fed."""
        self.hypervisor: Process | None = None
        """The hypervisor's own daemon; None while there is none."""
        self.domains: dict[str, SimulatedDomain] = {}
        self.secrets: dict[str, HostSecret] = {}
        """Those that the hypervisor's daemon knows, by UUID."""
        self.event_listeners: list[Callable[[DomainEvent | None], None]] = []
        self.on_running: Callable[[Machine, SimulatedDomain], None] = lambda _machine, _domain: None
        self.on_booted: Callable[[], None] = lambda: None
        self.on_power_lost: Callable[[], None] = lambda: None
        self.on_link: Callable[[], None] = lambda: None
        self._scheduler = scheduler
        self._random = random

    @property
    def is_reachable(self) -> bool:
        """Whether others can talk to it over the network."""
        return self.is_on and self.is_networked

    @property
    def reaches_store(self) -> bool:
        """Whether its programs can talk to the store's servers."""
        return self.is_reachable and self._sees_store

    # ------------------------------------------------------------------------------------------ power and network

    def power_on(self, boot_s: float | None = None) -> None:
        """Switch it on, if it is off; it boots for a while."""
        if self.is_on:
            return
        self.is_on = True
        self.boots += 1
        boot = self.boots

        def booted() -> None:
            if self.is_on and self.boots == boot:
                self.hypervisor = Process(self._scheduler, f"{self.name}/hypervisor")
                self.on_booted()

        delay_s = self._random.uniform(*BOOT_S) if boot_s is None else boot_s
        self._scheduler.after(delay_s, booted)

    def power_off(self) -> None:
        """Take its power away: nothing runs there any more."""
        if not self.is_on:
            return
        self.is_on = False
        self.watchdog_s = None
        self.domains.clear()
        self.secrets.clear()
        self.event_listeners.clear()
        if self.hypervisor is not None:
            self.hypervisor.kill()
            self.hypervisor = None
        self.on_power_lost()

    def cut_network(self) -> None:
        """It lives on, alone."""
        self.is_networked = False
        self.on_link()

    def mend_network(self) -> None:
        """Others are there again."""
        self.is_networked = True
        self.on_link()

    def see_store(self, *, sees: bool) -> None:
        """Only the way to the store's servers is cut, or mended."""
        self._sees_store = sees
        self.on_link()

    def kill_hypervisor(self) -> None:
        """The hypervisor's daemon dies; guests run on, migrations from here fail."""
        if self.hypervisor is not None:
            self.hypervisor.kill()
            self.hypervisor = None
            self.secrets.clear()
            for domain in self.domains.values():
                domain.leaves = False

    def keep_secret(self, secret: HostSecret) -> None:
        """The hypervisor's daemon knows it from now on, instead of one with the same name."""
        others = {
            uuid: each for uuid, each in self.secrets.items() if (each.kind, each.name) != (secret.kind, secret.name)
        }
        self.secrets = {**others, secret.uuid: secret}

    def start_hypervisor(self) -> None:
        """The hypervisor's daemon is there again; it ends copies that can arrive no more, and lists what runs."""
        if self.is_on and self.hypervisor is None:
            for domain in [each for each in self.domains.values() if each.state is DomainState.PAUSED]:
                del self.domains[domain.uuid]
            self.hypervisor = Process(self._scheduler, f"{self.name}/hypervisor")
            self.tell(None)

    # ------------------------------------------------------------------------------------------ domains

    def put(self, domain: SimulatedDomain) -> None:
        """A domain appears here."""
        domain.began_s = self._scheduler.now_s
        self.domains[domain.uuid] = domain
        if domain.state is DomainState.RUNNING:
            self.on_running(self, domain)
            self.tell(DomainEvent(domain.uuid, DomainEventKind.STARTED))
        else:
            self.tell(DomainEvent(domain.uuid, DomainEventKind.OTHER, "it is arriving"))

    def arrive(self, domain: SimulatedDomain) -> None:
        """An incoming domain begins to run here."""
        domain.state = DomainState.RUNNING
        self.on_running(self, domain)
        self.tell(DomainEvent(domain.uuid, DomainEventKind.STARTED, "it has been migrated here"))

    def end(self, domain: SimulatedDomain, kind: DomainEventKind, detail: str = "") -> None:
        """A domain is gone from here, if it still was."""
        if self.domains.get(domain.uuid) is domain:
            del self.domains[domain.uuid]
            self.tell(DomainEvent(domain.uuid, kind, detail))

    def ask_power_off(self, domain: SimulatedDomain) -> None:
        """Press the guest's power button."""

        def obey() -> None:
            if not domain.hangs and domain.state is DomainState.RUNNING:
                self.end(domain, DomainEventKind.POWERED_OFF)

        if not domain.behaviour.ignores_shutdown:
            self._scheduler.after(self._random.uniform(*POWERS_OFF_S), obey)

    def tell(self, event: DomainEvent | None) -> None:
        """Tell those who listen to the hypervisor."""
        if self.hypervisor is not None:
            for listener in tuple(self.event_listeners):
                listener(event)
