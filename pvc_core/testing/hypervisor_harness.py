# SPDX-License-Identifier: Apache-2.0
"""hypervisor_harness: two hosts to test a hypervisor driver on, and the steps of which the rules are made.

Nothing here sleeps and hopes: what takes time is awaited, with the testbed's deadline.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.ports import Domain, DomainEvent, DomainEventKind, DomainState, Hypervisor, MigrationProgress

DOWNTIME_MS = 300
PATIENCE = 3
"""How many times longer a migration may take than a rule waits for its end: a timeout is not to pass for a cancel."""


class HypervisorTestbed(Protocol):
    """Two hosts, without guests at the beginning of every test, and what can happen on them."""

    source: str
    target: str
    unreachable: str
    """The name of a node to which no migration can go."""
    deadline_s: float
    """How long anything may take on a busy machine before it counts as not happening."""

    def connect(self, node: str, *, slow_migrations: bool = False) -> Hypervisor:
        """A new driver for the host, not started; the suite starts and closes it.

        With `slow_migrations`, those that it begins take a minute or more.
        """

    def definition(self, name: str, uuid: str, *, obeys: bool = True, lets_go: bool = True) -> str:
        """A small guest without disks. Not `obeys`: it ignores shutdowns. Not `lets_go`: it never lets go of a disk."""

    def disk(self, device: str, alias: str) -> str:
        """A `<disk>` element with this alias, of something that both hosts reach and that may be on both at once."""

    def wait_until_up(self, node: str, uuid: str) -> None:
        """Return when the guest's own software runs: it would obey a shutdown now."""

    def life_of(self, uuid: str) -> str:
        """Names the guest's present run: another one after every start, the same one after a migration."""

    def crash_guest(self, node: str, uuid: str) -> None: ...

    def power_off_guest(self, node: str, uuid: str) -> None:
        """Not through the driver: as the guest's own administrator would."""

    def secrets(self, node: str) -> list[str]:
        """The UUIDs of the secrets that the host's hypervisor knows, not by the driver's word."""

    def take_away(self, node: str) -> None:
        """The host's hypervisor ends, as when its daemon is killed; guests run on."""

    def bring_back(self, node: str) -> None: ...


class EventLog:
    """Collects a driver's events for a test that waits for one of them."""

    def __init__(self, hypervisor: Hypervisor, deadline_s: float) -> None:
        self._events: queue.SimpleQueue[DomainEvent | None] = queue.SimpleQueue()
        self._deadline_s = deadline_s
        self._heard: list[DomainEvent | None] = []
        self.subscription = hypervisor.add_listener(self._events.put)

    def wait_for(self, uuid: str, kind: DomainEventKind) -> None:
        self._wait(lambda event: event is not None and (event.uuid, event.kind) == (uuid, kind), str(kind))

    def wait_for_list_anew(self) -> None:
        """Until the None that says: events may have been missed."""
        self._wait(lambda event: event is None, "None")

    def kinds_of(self, uuid: str) -> list[DomainEventKind]:
        """Of the events so far, up to the one that was waited for last."""
        return [event.kind for event in self._heard if event is not None and event.uuid == uuid]

    def _wait(self, matches: Callable[[DomainEvent | None], bool], what: str) -> None:
        ends_at = time.monotonic() + self._deadline_s
        while True:
            try:
                event = self._events.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no event {what} within {self._deadline_s} s, only {self._heard}")
            self._heard.append(event)
            if matches(event):
                return


@dataclass
class Guest:
    """A guest that a test has started."""

    name: str
    uuid: str
    xml: str


class Bench:
    """Both hosts with started drivers, and the steps of which the tests are made."""

    def __init__(self, testbed: HypervisorTestbed, cleanup: ExitStack, *, slow_migrations: bool = False) -> None:
        self.testbed = testbed
        self._cleanup = cleanup
        self._threads = cleanup.enter_context(ThreadPoolExecutor(max_workers=8))
        self.here = self.connect(testbed.source, slow_migrations=slow_migrations)
        self.there = self.connect(testbed.target)
        self._migrations: list[tuple[Guest, Future[None]]] = []
        cleanup.callback(self._give_up_migrations)

    def connect(self, node: str, *, slow_migrations: bool = False) -> Hypervisor:
        """One more driver for a host, as a restarted daemon would have; started and connected."""
        hypervisor = self.testbed.connect(node, slow_migrations=slow_migrations)
        hypervisor.start()
        self._cleanup.callback(hypervisor.close)
        self.until(lambda: hypervisor.connected, f"connected to {node}")
        return hypervisor

    def log_of(self, hypervisor: Hypervisor) -> EventLog:
        return EventLog(hypervisor, self.testbed.deadline_s)

    def started(self, name: str = "web1", *, obeys: bool = True) -> Guest:
        """A guest that runs on the source, its own software included."""
        guest = self.defined(name, obeys=obeys)
        self.here.create(guest.xml)
        self.testbed.wait_until_up(self.testbed.source, guest.uuid)
        return guest

    def defined(self, name: str = "web1", *, obeys: bool = True, lets_go: bool = True) -> Guest:
        uuid = str(uuid4())
        return Guest(name, uuid, self.testbed.definition(name, uuid, obeys=obeys, lets_go=lets_go))

    def migrating(self, guest: Guest, timeout_s: float | None = None) -> Future[None]:
        """A migration to the target that is under way: it has reported progress."""
        progress: queue.SimpleQueue[MigrationProgress] = queue.SimpleQueue()
        migration = self.begin_migration(guest, timeout_s, progress.put)
        self.until(lambda: not progress.empty() or migration.done(), "progress")
        return migration

    def begin_migration(
        self,
        guest: Guest,
        timeout_s: float | None = None,
        on_progress: Callable[[MigrationProgress], None] = lambda _progress: None,
    ) -> Future[None]:
        timeout_s = PATIENCE * self.testbed.deadline_s if timeout_s is None else timeout_s
        target = self.testbed.target
        migration = self._threads.submit(self.here.migrate, guest.uuid, target, DOWNTIME_MS, timeout_s, on_progress)
        self._migrations.append((guest, migration))
        return migration

    def _give_up_migrations(self) -> None:
        """So that a test which has failed ends soon."""
        for guest, migration in self._migrations:
            if not migration.done():
                self.here.cancel_migration(guest.uuid)

    def failure_of(self, migration: Future[None]) -> HypervisorError:
        """The error with which a migration ends."""
        with pytest.raises(HypervisorError) as caught:
            migration.result(self.testbed.deadline_s)
        return caught.value

    def until(self, condition: Callable[[], bool], what: str) -> None:
        ends_at = time.monotonic() + self.testbed.deadline_s
        while not condition():
            assert time.monotonic() < ends_at, f"not within {self.testbed.deadline_s} s: {what}"
            time.sleep(0.01)

    def domain_here(self, guest: Guest) -> Domain | None:
        return listed(self.here, guest)

    def assert_runs_only_here(self, guest: Guest, life: str) -> None:
        """It runs on the source as before, and the target has nothing of it."""
        domain = self.domain_here(guest)
        assert domain is not None
        assert (domain.state, domain.job_active) == (DomainState.RUNNING, False)
        assert listed(self.there, guest) is None
        assert self.testbed.life_of(guest.uuid) == life

    def assert_runs_only_there(self, guest: Guest, life: str) -> None:
        domain = listed(self.there, guest)
        assert domain is not None
        assert domain.state is DomainState.RUNNING
        assert self.domain_here(guest) is None
        assert self.testbed.life_of(guest.uuid) == life


def listed(hypervisor: Hypervisor, guest: Guest) -> Domain | None:
    return next((domain for domain in hypervisor.domains() if domain.uuid == guest.uuid), None)
