# SPDX-License-Identifier: Apache-2.0
"""hypervisor_rules_migration: live migration: whatever happens, the guest runs in exactly one place."""

from __future__ import annotations

import time

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainEventKind, DomainState, MigrationProgress
from pvc_core.testing.hypervisor_harness import DOWNTIME_MS, Bench, Guest, listed

CANCEL_DELAYS_S = (0.0, 0.02, 0.1, 0.5, 2.0)


def _waits_for_the_rest(bench: Bench, guest: Guest) -> bool:
    copy = listed(bench.there, guest)
    return copy is not None and copy.paused_by_migration


class MigrationRules:
    """What a driver does with a running guest that is to go to another host."""

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

    def test_guests_migrate_side_by_side(self, bench: Bench) -> None:
        guests = [bench.started(f"web{number}") for number in range(1, 4)]
        for migration in [bench.begin_migration(guest) for guest in guests]:
            migration.result(bench.testbed.deadline_s)
        assert bench.here.domains() == ()
        assert sorted(domain.name for domain in bench.there.domains()) == ["web1", "web2", "web3"]

    def test_other_work_does_not_wait_for_migrations(self, slow: Bench) -> None:
        guests = [slow.started(f"web{number}") for number in range(1, 4)]
        migrations = [slow.migrating(guest) for guest in guests]
        other = slow.started("other")
        slow.here.shutdown(other.uuid)
        slow.until(lambda: slow.domain_here(other) is None, "the other one is off")
        assert all(domain.job_active for domain in slow.here.domains())
        assert not any(migration.done() for migration in migrations)
        for guest in guests:
            slow.here.cancel_migration(guest.uuid)
        for migration in migrations:
            slow.failure_of(migration)

    def test_a_migration_is_seen_on_both_hosts_while_it_is_under_way(self, slow: Bench) -> None:
        guest = slow.started()
        migration = slow.migrating(guest)
        leaving = slow.domain_here(guest)
        assert leaving is not None
        assert leaving.job_active
        slow.until(lambda: listed(slow.there, guest) is not None, "the target has a copy")
        arriving = listed(slow.there, guest)
        assert arriving is not None
        assert (arriving.state, arriving.job_active) == (DomainState.PAUSED, False)
        slow.until(lambda: _waits_for_the_rest(slow, guest), "the copy is known to be one")
        slow.here.cancel_migration(guest.uuid)
        slow.failure_of(migration)

    def test_a_cancelled_migration_leaves_the_guest_as_it_was_and_may_be_repeated(self, slow: Bench) -> None:
        guest = slow.started()
        life = slow.testbed.life_of(guest.uuid)
        for _ in range(2):
            migration = slow.migrating(guest)
            slow.here.cancel_migration(guest.uuid)
            assert not slow.failure_of(migration).connection_lost
            slow.assert_runs_only_here(guest, life)

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

    def test_a_migration_that_takes_too_long_is_given_up(self, slow: Bench) -> None:
        guest = slow.started()
        life = slow.testbed.life_of(guest.uuid)
        failure = slow.failure_of(slow.begin_migration(guest, timeout_s=0.5))
        assert "longer than 0.5 s" in failure.reason
        assert not failure.connection_lost
        slow.assert_runs_only_here(guest, life)

    def test_the_next_daemon_sees_and_cancels_a_migration_that_it_did_not_begin(self, slow: Bench) -> None:
        guest = slow.started()
        life = slow.testbed.life_of(guest.uuid)
        migration = slow.migrating(guest)
        next_one = slow.connect(slow.testbed.source)
        domain = listed(next_one, guest)
        assert domain is not None
        assert domain.job_active
        next_one.cancel_migration(guest.uuid)
        slow.failure_of(migration)
        slow.until(lambda: not any(each.job_active for each in next_one.domains()), "its end is seen")
        slow.assert_runs_only_here(guest, life)

    def test_a_migration_to_a_host_that_does_not_answer_fails_and_the_guest_runs_on(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        with pytest.raises(HypervisorError) as caught:
            bench.here.migrate(
                guest.uuid, bench.testbed.unreachable, DOWNTIME_MS, bench.testbed.deadline_s, lambda _progress: None
            )
        assert not caught.value.connection_lost
        bench.assert_runs_only_here(guest, life)

    def test_a_migration_ends_when_the_targets_hypervisor_dies_and_the_guest_runs_on(self, slow: Bench) -> None:
        guest = slow.started()
        life = slow.testbed.life_of(guest.uuid)
        migration = slow.migrating(guest)
        slow.testbed.take_away(slow.testbed.target)
        assert slow.failure_of(migration).reason
        slow.testbed.bring_back(slow.testbed.target)
        slow.until(lambda: slow.there.connected, "the target is back")
        slow.until(lambda: listed(slow.there, guest) is None, "the copy on the target is gone")
        slow.assert_runs_only_here(guest, life)

    def test_a_migration_ends_when_the_sources_hypervisor_dies_and_the_guest_runs_on(self, slow: Bench) -> None:
        events = slow.log_of(slow.here)
        guest = slow.started()
        life = slow.testbed.life_of(guest.uuid)
        migration = slow.migrating(guest)
        slow.testbed.take_away(slow.testbed.source)
        assert slow.failure_of(migration).connection_lost
        slow.testbed.bring_back(slow.testbed.source)
        events.wait_for_list_anew()
        slow.until(lambda: not any(each.job_active for each in slow.here.domains()), "its end is seen")
        slow.until(lambda: listed(slow.there, guest) is None, "the copy on the target is gone")
        slow.assert_runs_only_here(guest, life)

    def test_a_guest_that_dies_on_its_way_is_gone_on_both_hosts(self, slow: Bench) -> None:
        guest = slow.started()
        migration = slow.migrating(guest)
        slow.testbed.crash_guest(slow.testbed.source, guest.uuid)
        assert not slow.failure_of(migration).connection_lost
        assert slow.domain_here(guest) is None
        slow.until(lambda: listed(slow.there, guest) is None, "the copy on the target is gone")

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
