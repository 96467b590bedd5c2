# SPDX-License-Identifier: Apache-2.0
"""hypervisor_rules_connections: listeners, restarts of the driver, and a hypervisor that goes away."""

from __future__ import annotations

import queue
from collections.abc import Callable

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.host_secrets import HostSecret
from pvc_core.ports import DomainEvent, DomainEventKind
from pvc_core.testing.hypervisor_harness import Bench


class ConnectionRules:
    """What a driver does when the daemon, the hypervisor or a listener does not do its part."""

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
            lambda: bench.here.ensure_secret(HostSecret(guest.uuid, "ceph", "client.vm", "a2V5")),
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
