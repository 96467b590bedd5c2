# SPDX-License-Identifier: Apache-2.0
"""hypervisor_suite: what every hypervisor driver must do, as tests that the driver's own package runs.

    class TestMyHypervisor(HypervisorContract):
        @pytest.fixture
        def testbed(self, tmp_path): return MyTestbed(tmp_path)

The testbed stands for two hosts that can migrate to one another, and for the hands that break things on them.
Nothing here sleeps and hopes: what takes time is awaited, with the testbed's deadline.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.ports import Domain, DomainEvent, DomainEventKind, DomainState, Hypervisor, MigrationProgress

DOWNTIME_MS = 300
CANCEL_DELAYS_S = (0.0, 0.02, 0.1, 0.5, 2.0)


class HypervisorTestbed(Protocol):
    """Two hosts, without guests at the beginning of every test, and what can happen on them."""

    source: str
    target: str
    unreachable: str
    """The name of a node to which no migration can go."""
    deadline_s: float
    """How long anything may take on a busy machine before it counts as not happening."""

    def connect(self, node: str) -> Hypervisor:
        """A new driver for the host, not started; the suite starts and closes it."""

    def definition(self, name: str, uuid: str, *, obeys: bool = True, slow: bool = False) -> str:
        """A small guest. Not `obeys`: it ignores shutdowns. `slow`: migrating it takes seconds."""

    def wait_until_up(self, node: str, uuid: str) -> None:
        """Return when the guest's own software runs: it would obey a shutdown now."""

    def life_of(self, uuid: str) -> str:
        """Names the guest's present run: another one after every start, the same one after a migration."""

    def crash_guest(self, node: str, uuid: str) -> None: ...

    def power_off_guest(self, node: str, uuid: str) -> None:
        """Not through the driver: as the guest's own administrator would."""

    def take_away(self, node: str) -> None:
        """The host's hypervisor ends, as when its daemon is killed; guests run on."""

    def bring_back(self, node: str) -> None: ...


class EventLog:
    """Collects a driver's events for a test that waits for one of them."""

    def __init__(self, hypervisor: Hypervisor, deadline_s: float) -> None:
        self._events: queue.SimpleQueue[DomainEvent | None] = queue.SimpleQueue()
        self._deadline_s = deadline_s
        self.subscription = hypervisor.add_listener(self._events.put)

    def wait_for(self, uuid: str, kind: DomainEventKind) -> None:
        self._wait(lambda event: event is not None and (event.uuid, event.kind) == (uuid, kind), str(kind))

    def wait_for_list_anew(self) -> None:
        """Until the None that says: events may have been missed."""
        self._wait(lambda event: event is None, "None")

    def _wait(self, matches: Callable[[DomainEvent | None], bool], what: str) -> None:
        ends_at = time.monotonic() + self._deadline_s
        others: list[DomainEvent | None] = []
        while True:
            try:
                event = self._events.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no event {what} within {self._deadline_s} s, only {others}")
            if matches(event):
                return
            others.append(event)


@dataclass
class Guest:
    """A guest that a test has started."""

    name: str
    uuid: str
    xml: str


class Bench:
    """Both hosts with started drivers, and the steps of which the tests are made."""

    def __init__(self, testbed: HypervisorTestbed, cleanup: ExitStack) -> None:
        self.testbed = testbed
        self._cleanup = cleanup
        self._threads = cleanup.enter_context(ThreadPoolExecutor(max_workers=8))
        self.here = self.connect(testbed.source)
        self.there = self.connect(testbed.target)

    def connect(self, node: str) -> Hypervisor:
        """One more driver for a host, as a restarted daemon would have; started and connected."""
        hypervisor = self.testbed.connect(node)
        hypervisor.start()
        self._cleanup.callback(hypervisor.close)
        self.until(lambda: hypervisor.connected, f"connected to {node}")
        return hypervisor

    def log_of(self, hypervisor: Hypervisor) -> EventLog:
        return EventLog(hypervisor, self.testbed.deadline_s)

    def started(self, name: str = "web1", *, obeys: bool = True, slow: bool = False) -> Guest:
        """A guest that runs on the source, its own software included."""
        guest = self.defined(name, obeys=obeys, slow=slow)
        self.here.create(guest.xml)
        self.testbed.wait_until_up(self.testbed.source, guest.uuid)
        return guest

    def defined(self, name: str = "web1", *, obeys: bool = True, slow: bool = False) -> Guest:
        uuid = str(uuid4())
        return Guest(name, uuid, self.testbed.definition(name, uuid, obeys=obeys, slow=slow))

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
        timeout_s = self.testbed.deadline_s if timeout_s is None else timeout_s
        target = self.testbed.target
        return self._threads.submit(self.here.migrate, guest.uuid, target, DOWNTIME_MS, timeout_s, on_progress)

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


class HypervisorContract:
    """Inherit, and give a fixture `testbed`."""

    @pytest.fixture
    def bench(self, testbed: HypervisorTestbed) -> Iterator[Bench]:
        with ExitStack() as cleanup:
            yield Bench(testbed, cleanup)

    # ------------------------------------------------------------------------------------ start and stop

    def test_a_created_domain_is_listed_with_what_it_is(self, bench: Bench) -> None:
        guest = bench.defined()
        bench.here.create(guest.xml)
        domain = bench.domain_here(guest)
        assert domain is not None
        assert (domain.name, domain.state, domain.job_active) == ("web1", DomainState.RUNNING, False)
        assert domain.memory_mib > 0
        assert domain.vcpus == 1
        assert listed(bench.there, guest) is None

    def test_a_domain_that_is_active_is_not_created_again(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        with pytest.raises(HypervisorError) as caught:
            bench.here.create(guest.xml)
        assert not caught.value.connection_lost
        bench.assert_runs_only_here(guest, life)

    @pytest.mark.parametrize("xml", ["", "<domain", "<domain/>", "<network><name>x</name></network>"])
    def test_a_definition_that_makes_no_sense_is_refused_with_a_reason(self, bench: Bench, xml: str) -> None:
        with pytest.raises(HypervisorError) as caught:
            bench.here.create(xml)
        assert caught.value.reason
        assert not caught.value.connection_lost
        assert bench.here.domains() == ()

    def test_a_guest_powers_off_when_asked(self, bench: Bench) -> None:
        events = bench.log_of(bench.here)
        guest = bench.started()
        events.wait_for(guest.uuid, DomainEventKind.STARTED)
        bench.here.shutdown(guest.uuid)
        events.wait_for(guest.uuid, DomainEventKind.STOPPED)
        assert bench.domain_here(guest) is None

    def test_a_stubborn_guest_runs_on_until_it_is_destroyed(self, bench: Bench) -> None:
        guest, obedient = bench.started("stubborn", obeys=False), bench.started("obedient")
        life = bench.testbed.life_of(guest.uuid)
        bench.here.shutdown(guest.uuid)
        bench.here.shutdown(obedient.uuid)
        bench.until(lambda: bench.domain_here(obedient) is None, "the obedient one is off")
        bench.assert_runs_only_here(guest, life)
        bench.here.destroy(guest.uuid)
        assert bench.domain_here(guest) is None

    def test_shutting_down_or_destroying_what_is_gone_is_no_error(self, bench: Bench) -> None:
        guest = bench.started(obeys=False)
        bench.here.destroy(guest.uuid)
        bench.here.destroy(guest.uuid)
        bench.here.shutdown(guest.uuid)
        bench.here.cancel_migration(guest.uuid)

    def test_a_crash_is_told_from_a_power_off_and_both_leave_room_for_a_new_start(self, bench: Bench) -> None:
        events = bench.log_of(bench.here)
        guest = bench.started()
        bench.testbed.crash_guest(bench.testbed.source, guest.uuid)
        events.wait_for(guest.uuid, DomainEventKind.CRASHED)
        bench.here.create(guest.xml)
        bench.testbed.wait_until_up(bench.testbed.source, guest.uuid)
        bench.testbed.power_off_guest(bench.testbed.source, guest.uuid)
        events.wait_for(guest.uuid, DomainEventKind.STOPPED)
        bench.here.create(guest.xml)

    def test_the_host_tells_what_it_has(self, bench: Bench) -> None:
        facts = bench.here.host()
        assert 0 <= facts.memory_available_mib <= facts.memory_total_mib
        assert facts.memory_total_mib > 0
        assert facts.cores > 0
        assert facts.load_1m >= 0
        assert facts.hypervisor_version

    # -------------------------------------------------------------------------- listeners and connections

    def test_a_cancelled_listener_hears_nothing_more_and_the_others_go_on(self, bench: Bench) -> None:
        heard: list[DomainEvent | None] = []
        bench.here.add_listener(heard.append).cancel()
        events = bench.log_of(bench.here)
        guest = bench.started()
        events.wait_for(guest.uuid, DomainEventKind.STARTED)
        assert heard == []

    def test_a_listener_may_list_anew_and_may_fail_without_harm(self, bench: Bench) -> None:
        lists: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

        def list_and_fail(_event: DomainEvent | None) -> None:
            lists.put([domain.name for domain in bench.here.domains()])
            raise RuntimeError("a listener's own fault")

        bench.here.add_listener(list_and_fail)
        events = bench.log_of(bench.here)
        guest = bench.started()
        events.wait_for(guest.uuid, DomainEventKind.STARTED)
        while "web1" not in lists.get(timeout=bench.testbed.deadline_s):
            pass

    def test_guests_survive_the_driver_and_the_next_one_finds_them(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        bench.here.close()
        assert not bench.here.connected
        bench.here = bench.connect(bench.testbed.source)
        bench.assert_runs_only_here(guest, life)

    def test_a_closed_driver_refuses_and_may_be_closed_again(self, bench: Bench) -> None:
        bench.here.close()
        bench.here.close()
        with pytest.raises(HypervisorError) as caught:
            bench.here.domains()
        assert caught.value.connection_lost

    def test_while_the_hypervisor_is_away_calls_say_so_and_guests_run_on(self, bench: Bench) -> None:
        events = bench.log_of(bench.here)
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        bench.testbed.take_away(bench.testbed.source)
        bench.until(lambda: not bench.here.connected, "the loss is noticed")
        calls: tuple[Callable[[], object], ...] = (
            bench.here.domains,
            bench.here.host,
            lambda: bench.here.create(guest.xml),
            lambda: bench.here.shutdown(guest.uuid),
            lambda: bench.here.destroy(guest.uuid),
            lambda: bench.here.cancel_migration(guest.uuid),
            lambda: bench.begin_migration(guest).result(),
        )
        for call in calls:
            with pytest.raises(HypervisorError) as caught:
                call()
            assert caught.value.connection_lost
        bench.testbed.bring_back(bench.testbed.source)
        events.wait_for_list_anew()
        assert bench.here.connected
        bench.assert_runs_only_here(guest, life)

    def test_events_arrive_again_after_the_hypervisor_was_away(self, bench: Bench) -> None:
        guest = bench.started(obeys=False)
        events = bench.log_of(bench.here)
        bench.testbed.take_away(bench.testbed.source)
        bench.until(lambda: not bench.here.connected, "the loss is noticed")
        bench.testbed.bring_back(bench.testbed.source)
        events.wait_for_list_anew()
        bench.here.destroy(guest.uuid)
        events.wait_for(guest.uuid, DomainEventKind.STOPPED)

    def test_a_driver_that_starts_while_the_hypervisor_is_away_connects_when_it_is_there(self, bench: Bench) -> None:
        bench.testbed.take_away(bench.testbed.source)
        early = bench.testbed.connect(bench.testbed.source)
        events = bench.log_of(early)
        try:
            early.start()
            assert not early.connected
            bench.testbed.bring_back(bench.testbed.source)
            events.wait_for_list_anew()
            assert early.connected
            assert early.domains() == ()
        finally:
            early.close()

    # ----------------------------------------------------------------------------------------- migration

    def test_a_migration_moves_the_running_guest_and_tells_its_progress(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        left, arrived = bench.log_of(bench.here), bench.log_of(bench.there)
        told: list[MigrationProgress] = []
        bench.begin_migration(guest, on_progress=told.append).result(bench.testbed.deadline_s)
        bench.assert_runs_only_there(guest, life)
        assert told
        assert all(0 <= progress.percent <= 100 and progress.remaining_mib >= 0 for progress in told)
        arrived.wait_for(guest.uuid, DomainEventKind.STARTED)
        left.wait_for(guest.uuid, DomainEventKind.OTHER)

    def test_a_guest_may_come_back_and_still_obeys(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        bench.begin_migration(guest).result(bench.testbed.deadline_s)
        source, deadline_s = bench.testbed.source, bench.testbed.deadline_s
        bench.there.migrate(guest.uuid, source, DOWNTIME_MS, deadline_s, lambda _progress: None)
        bench.assert_runs_only_here(guest, life)
        bench.here.shutdown(guest.uuid)
        bench.until(lambda: bench.domain_here(guest) is None, "the guest is off")

    def test_guests_migrate_side_by_side_while_others_are_started_and_listed(self, bench: Bench) -> None:
        guests = [bench.started(f"web{number}") for number in range(1, 4)]
        slow = bench.started("slow", slow=True)
        migrations = [bench.migrating(slow), *(bench.begin_migration(guest) for guest in guests)]
        other = bench.started("other", obeys=False)
        bench.here.destroy(other.uuid)
        for migration in migrations[1:]:
            migration.result(bench.testbed.deadline_s)
        assert not migrations[0].done()
        bench.here.cancel_migration(slow.uuid)
        bench.failure_of(migrations[0])
        assert [domain.name for domain in bench.here.domains()] == ["slow"]
        assert sorted(domain.name for domain in bench.there.domains()) == ["web1", "web2", "web3"]

    def test_a_migration_is_seen_on_both_hosts_while_it_is_under_way(self, bench: Bench) -> None:
        guest = bench.started(slow=True)
        migration = bench.migrating(guest)
        leaving = bench.domain_here(guest)
        assert leaving is not None
        assert leaving.job_active
        bench.until(lambda: listed(bench.there, guest) is not None, "the target has a copy")
        arriving = listed(bench.there, guest)
        assert arriving is not None
        assert (arriving.state, arriving.job_active) == (DomainState.PAUSED, False)
        bench.here.cancel_migration(guest.uuid)
        bench.failure_of(migration)

    def test_a_cancelled_migration_leaves_the_guest_as_it_was_and_may_be_repeated(self, bench: Bench) -> None:
        guest = bench.started(slow=True)
        life = bench.testbed.life_of(guest.uuid)
        for _ in range(2):
            migration = bench.migrating(guest)
            bench.here.cancel_migration(guest.uuid)
            assert not bench.failure_of(migration).connection_lost
            bench.assert_runs_only_here(guest, life)

    @pytest.mark.parametrize("delay_s", CANCEL_DELAYS_S)
    def test_whenever_a_cancel_comes_the_guest_runs_in_exactly_one_place(self, bench: Bench, delay_s: float) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        migration = bench.begin_migration(guest)
        cancels_at = time.monotonic() + delay_s
        bench.until(lambda: time.monotonic() >= cancels_at or migration.done(), "the moment of the cancel")
        bench.here.cancel_migration(guest.uuid)
        error = migration.exception(bench.testbed.deadline_s)
        if error is None:
            bench.assert_runs_only_there(guest, life)
        else:
            assert isinstance(error, HypervisorError)
            assert not error.connection_lost
            bench.assert_runs_only_here(guest, life)

    def test_a_migration_that_takes_too_long_is_given_up(self, bench: Bench) -> None:
        guest = bench.started(slow=True)
        life = bench.testbed.life_of(guest.uuid)
        failure = bench.failure_of(bench.begin_migration(guest, timeout_s=0.5))
        assert "longer than 0.5 s" in failure.reason
        assert not failure.connection_lost
        bench.assert_runs_only_here(guest, life)

    def test_the_next_daemon_sees_and_cancels_a_migration_that_it_did_not_begin(self, bench: Bench) -> None:
        guest = bench.started(slow=True)
        life = bench.testbed.life_of(guest.uuid)
        migration = bench.migrating(guest)
        next_one = bench.connect(bench.testbed.source)
        domain = listed(next_one, guest)
        assert domain is not None
        assert domain.job_active
        next_one.cancel_migration(guest.uuid)
        bench.failure_of(migration)
        bench.until(lambda: not any(each.job_active for each in next_one.domains()), "its end is seen")
        bench.assert_runs_only_here(guest, life)

    def test_a_migration_to_a_host_that_does_not_answer_fails_and_the_guest_runs_on(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        with pytest.raises(HypervisorError) as caught:
            bench.here.migrate(
                guest.uuid, bench.testbed.unreachable, DOWNTIME_MS, bench.testbed.deadline_s, lambda _progress: None
            )
        assert not caught.value.connection_lost
        bench.assert_runs_only_here(guest, life)

    def test_a_migration_ends_when_the_targets_hypervisor_dies_and_the_guest_runs_on(self, bench: Bench) -> None:
        guest = bench.started(slow=True)
        life = bench.testbed.life_of(guest.uuid)
        migration = bench.migrating(guest)
        bench.testbed.take_away(bench.testbed.target)
        assert bench.failure_of(migration).reason
        bench.testbed.bring_back(bench.testbed.target)
        bench.until(lambda: bench.there.connected, "the target is back")
        bench.until(lambda: listed(bench.there, guest) is None, "the copy on the target is gone")
        bench.assert_runs_only_here(guest, life)

    def test_only_what_runs_here_can_be_migrated(self, bench: Bench) -> None:
        with pytest.raises(HypervisorError) as caught:
            bench.begin_migration(bench.defined()).result(bench.testbed.deadline_s)
        assert not caught.value.connection_lost

    def test_the_other_hosts_domains_can_be_looked_at(self, bench: Bench) -> None:
        guest = bench.started()
        assert bench.there.peer_domain_state(bench.testbed.source, guest.uuid) is DomainState.RUNNING
        assert bench.here.peer_domain_state(bench.testbed.target, guest.uuid) is None
        bench.testbed.take_away(bench.testbed.source)
        with pytest.raises(HypervisorError) as caught:
            bench.there.peer_domain_state(bench.testbed.source, guest.uuid)
        assert caught.value.connection_lost
        bench.testbed.bring_back(bench.testbed.source)
