# SPDX-License-Identifier: Apache-2.0
"""hypervisor_rules_life: a guest is started, asked to power off, terminated, or ends by itself."""

from __future__ import annotations

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainEventKind, DomainState
from pvc_core.testing.hypervisor_harness import Bench, listed


class LifeRules:
    """What a driver does with the guests of one host."""

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
        events.wait_for(guest.uuid, DomainEventKind.POWERED_OFF)
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
        events.wait_for(guest.uuid, DomainEventKind.POWERED_OFF)
        bench.here.create(guest.xml)

    def test_the_end_of_a_guest_that_is_terminated_is_no_power_off(self, bench: Bench) -> None:
        events = bench.log_of(bench.here)
        guest = bench.started()
        bench.here.destroy(guest.uuid)
        events.wait_for(guest.uuid, DomainEventKind.STOPPED)
        assert DomainEventKind.POWERED_OFF not in events.kinds_of(guest.uuid)

    def test_the_host_tells_what_it_has(self, bench: Bench) -> None:
        facts = bench.here.host()
        assert 0 <= facts.memory_available_mib <= facts.memory_total_mib
        assert facts.memory_total_mib > 0
        assert facts.cores > 0
        assert facts.load_1m >= 0
        assert facts.hypervisor_version
