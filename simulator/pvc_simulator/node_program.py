# SPDX-License-Identifier: Apache-2.0
"""node_program: one run of the node daemon on a simulated host, from its start until it stops or is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import structlog

from pvc_core.configuration import ClusterSection, Configuration, NodeSection
from pvc_core.errors import PvcError
from pvc_core.host_shutdown import Policy
from pvc_core.ports import ClusterStore, Hypervisor, Threads
from pvc_core.registry import Registry
from pvc_daemon.node_daemon import NodeDaemon
from pvc_daemon.starting import start_when_possible
from pvc_simulator.machine import Machine
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.simulated_store import SimulatedStore
from pvc_simulator.simulated_watchdog import SimulatedWatchdog
from pvc_simulator.store_server import StoreServer
from pvc_simulator.virtual_threads import VirtualClock, VirtualThreads

log = structlog.get_logger(__name__)
STARTED_AGAIN_S = 5.0
"""How soon a daemon that gave up is started again, as by systemd."""


@dataclass(frozen=True)
class Site:
    """Where the program runs and what it is given."""

    machine: Machine
    labels: dict[str, str]
    has_watchdog: bool
    clock: VirtualClock
    server: StoreServer
    scheduler: Scheduler
    random: Random
    registry_for: Callable[[VirtualThreads], Registry]
    hypervisor_for: Callable[[Process], Hypervisor]
    connected_s: float | None = None
    """Of a daemon with which the run begins: as of `NodeDaemon`."""


class NodeProgram:
    """`pvc-node` on one host, once."""

    def __init__(self, site: Site, number: int) -> None:
        name = site.machine.name
        self._site = site
        self.process = Process(site.scheduler, f"{name}/pvc-node")
        self._threads = VirtualThreads(site.scheduler, self.process)
        self._stores: list[SimulatedStore] = []
        self._stopping = self._threads.event()
        self._daemon: NodeDaemon | None = None
        self._host = f"{name}/{site.machine.boots}"
        self._number = number
        self.process.spawn("main", self._run)

    @property
    def leads(self) -> bool:
        """Whether its daemon believes that it is the leader."""
        return self._daemon is not None and self._daemon.leads

    def _run(self) -> None:
        while True:
            try:
                self._daemon = start_when_possible(self._build, self._stopping)
                return
            except PvcError as error:
                log.warning("daemon_gave_up", node=self._site.machine.name, problem=error.sentence())
                for store in self._stores:
                    store.close()
                self._site.scheduler.sleep(STARTED_AGAIN_S)

    def _build(self) -> NodeDaemon:
        site = self._site
        configuration = Configuration(
            ClusterSection("simulated:"), NodeSection(site.machine.name, labels=site.labels, address=site.machine.name)
        )
        store = SimulatedStore(
            site.server, site.scheduler, site.random, self.process, site.clock, lambda: site.machine.reaches_store
        )
        self._stores.append(store)
        return NodeDaemon(
            configuration,
            _as_store(store),
            site.hypervisor_for(self.process),
            site.registry_for(self._threads),
            site.clock,
            "simulated",
            _as_threads(self._threads),
            self._host,
            watchdog=SimulatedWatchdog(site.machine, site.scheduler) if site.has_watchdog else None,
            writer=f"{self._site.machine.name}-{self._number}",
            connected_s=site.connected_s,
            storage_backends={},
        )

    def link_changed(self) -> None:
        """The host's network was cut or mended, or this program was stopped or continued."""
        for store in self._stores:
            store.link_changed()

    def stop(self, when_done: Callable[[], None]) -> None:
        """SIGTERM: let it stop cleanly."""

        def stop() -> None:
            self._stopping.set()
            if self._daemon is not None:
                self._daemon.stop()
            self._site.scheduler.after(0, when_done)

        self.process.spawn("sigterm", stop)

    def go_down(self, policy: Policy, when_done: Callable[[], None]) -> None:
        """SIGTERM while the host goes down: let it deal with its guests first, as `--on-shutdown` says."""

        def go_down() -> None:
            self._stopping.set()
            if self._daemon is not None:
                self._daemon.go_down(policy, NodeSection().on_shutdown_deadline_s)
            self._site.scheduler.after(0, when_done)

        self.process.spawn("sigterm", go_down)

    def kill(self) -> None:
        """SIGKILL, or the host's power is gone."""
        self.process.kill()
        for store in self._stores:
            store.vanish()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.stop()
        self.link_changed()

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.go_on()
        self.link_changed()


def _as_store(store: ClusterStore) -> ClusterStore:
    """The type checker's proof that the simulated store is one."""
    return store


def _as_threads(threads: Threads) -> Threads:
    """The same of the threads."""
    return threads
