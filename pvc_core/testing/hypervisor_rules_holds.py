# SPDX-License-Identifier: Apache-2.0
"""hypervisor_rules_holds: a guest that runs holds still, and goes on, whoever has made it hold still."""

from __future__ import annotations

from uuid import uuid4

import pytest

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainState
from pvc_core.testing.hypervisor_harness import Bench, Guest, listed

AGENT_S = 5.0


def state_of(bench: Bench, guest: Guest) -> tuple[DomainState, bool]:
    """What the guest does on the source, and whether a migration is said to have paused it."""
    domain = listed(bench.here, guest)
    assert domain is not None
    return domain.state, domain.paused_by_migration


class HoldRules:
    """What a driver does to a guest of which snapshots are taken."""

    def test_a_guest_that_is_suspended_is_paused_and_goes_on_in_the_same_life(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        bench.here.suspend(guest.uuid)
        assert state_of(bench, guest) == (DomainState.PAUSED, False)
        assert bench.here.resume(guest.uuid)
        bench.assert_runs_only_here(guest, life)

    def test_what_one_has_suspended_another_lets_go_on(self, bench: Bench) -> None:
        guest = bench.started()
        bench.here.suspend(guest.uuid)
        bench.here.close()
        other = bench.connect(bench.testbed.source)
        assert other.resume(guest.uuid)
        domain = listed(other, guest)
        assert domain is not None
        assert domain.state is DomainState.RUNNING

    def test_to_let_go_on_what_does_is_no_error(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        assert not bench.here.resume(guest.uuid)
        assert not bench.here.thaw(guest.uuid, AGENT_S)
        bench.assert_runs_only_here(guest, life)

    def test_a_guest_without_an_agent_is_not_frozen(self, bench: Bench) -> None:
        guest = bench.started()
        life = bench.testbed.life_of(guest.uuid)
        assert not bench.here.freeze(guest.uuid, AGENT_S)
        assert not bench.here.thaw(guest.uuid, AGENT_S)
        bench.assert_runs_only_here(guest, life)

    def test_a_guest_that_is_not_there_cannot_hold_still_and_needs_not_go_on(self, bench: Bench) -> None:
        unknown = str(uuid4())
        for hold in (lambda: bench.here.suspend(unknown), lambda: bench.here.freeze(unknown, AGENT_S)):
            with pytest.raises(HypervisorError) as caught:
                hold()
            assert not caught.value.connection_lost
        assert not bench.here.resume(unknown)
        assert not bench.here.thaw(unknown, AGENT_S)
