# SPDX-License-Identifier: Apache-2.0
"""migration: a live migration between two simulated hosts, which either may not survive.

The guest runs on the source until the switch, and on the target from then on. What is left on the target of a
migration whose source is gone stays there, paused, until the target's hypervisor notices. Its time is kept by the
program that has asked for it: when that dies, the migration goes on, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from pvc_core.errors import HypervisorError
from pvc_core.hypervisor_events import tell_progress
from pvc_core.ports import DomainEventKind, DomainState, MigrationProgress
from pvc_simulator.guests import SimulatedDomain
from pvc_simulator.machine import Machine
from pvc_simulator.scheduler import Scheduler

TAKES_S = (2.0, 15.0)
PROGRESS_EVERY_S = 1.0
KEEPALIVE_S = (5.0, 35.0)
"""After so long without an answer one end gives the other up."""


class Migration:
    """One attempt."""

    def __init__(
        self,
        source: Machine,
        target: Machine | None,
        uuid: str,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
        takes_s: tuple[float, float] = TAKES_S,
        is_watched: Callable[[], bool] = lambda: True,
    ) -> None:
        """takes_s: least and most. is_watched: whether the program that has asked for it can still do anything."""
        self._source = source
        self._target = target
        self._uuid = uuid
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._takes_s = takes_s
        self._is_watched = is_watched

    def run(self, scheduler: Scheduler, random: Random) -> None:
        """Until the guest runs on the target. Raises `HypervisorError`; then it still runs on the source."""
        domain, target = self._begin()
        incoming = replace(domain, state=DomainState.PAUSED, leaves=False, cancelled="")
        target.put(incoming)
        domain.leaves, domain.cancelled = True, ""
        arrived = False
        try:
            self._copy(domain, incoming, target, scheduler, random)
            self._switch(domain, incoming, target)
            arrived = True
        finally:
            domain.leaves = False
            if not arrived:
                self._clean_up(incoming, target, scheduler, random)

    def _begin(self) -> tuple[SimulatedDomain, Machine]:
        domain, target = self._source.domains.get(self._uuid), self._target
        if domain is None or domain.state is not DomainState.RUNNING:
            raise HypervisorError("the domain does not run here")
        if domain.leaves:
            raise HypervisorError("it is being migrated already")
        if target is None or target is self._source or not self._is_connected(target) or target.hypervisor is None:
            raise HypervisorError("unable to connect to the target's hypervisor")
        if domain.uuid in target.domains:
            raise HypervisorError(f"the domain is active on {target.name} already")
        return domain, target

    def _is_connected(self, target: Machine) -> bool:
        return self._source.is_reachable and target.is_reachable

    def _copy(
        self, domain: SimulatedDomain, incoming: SimulatedDomain, target: Machine, scheduler: Scheduler, random: Random
    ) -> None:
        takes_s, began_s, silent_s = random.uniform(*self._takes_s), scheduler.now_s, 0.0
        gives_up_s = random.uniform(*KEEPALIVE_S)
        fails = domain.behaviour.migrate_failures > 0
        copied_s = 0.0
        while copied_s < takes_s:
            step_s = min(PROGRESS_EVERY_S, takes_s - copied_s)
            scheduler.sleep(step_s)
            problem = domain.cancelled
            if self._source.domains.get(domain.uuid) is not domain:
                problem = "the domain has ended"
            elif self._is_connected(target):
                copied_s, silent_s = copied_s + step_s, 0.0
                if target.hypervisor is None or target.domains.get(domain.uuid) is not incoming:
                    problem = "the target's hypervisor has given it up"
            else:
                silent_s += step_s
                if silent_s > gives_up_s:
                    problem = "the target does not answer any more"
            if fails and copied_s >= takes_s / 2:
                domain.behaviour.migrate_failures -= 1
                problem = f"migration failure, {domain.behaviour.migrate_failures} more to come"
            if scheduler.now_s - began_s > self._timeout_s and self._is_watched():
                problem = f"it took longer than {self._timeout_s:g} s"
            if problem:
                raise HypervisorError(problem)
            self._tell(MigrationProgress(int(100 * copied_s / takes_s), domain.memory_mib))

    def _tell(self, progress: MigrationProgress) -> None:
        if self._is_watched():
            tell_progress(self._on_progress, self._uuid, progress)

    def _switch(self, domain: SimulatedDomain, incoming: SimulatedDomain, target: Machine) -> None:
        self._source.end(domain, DomainEventKind.OTHER, "it has been migrated away")
        target.arrive(incoming)

    def _clean_up(self, incoming: SimulatedDomain, target: Machine, scheduler: Scheduler, random: Random) -> None:
        """The target gives it up: at once when it is told or the connection is closed, else when it notices."""

        def give_up() -> None:
            if incoming.state is DomainState.PAUSED and target.hypervisor is not None:
                target.end(incoming, DomainEventKind.OTHER, "its migration has failed")

        if self._is_connected(target):
            give_up()
        else:
            scheduler.after(random.uniform(*KEEPALIVE_S), give_up)
