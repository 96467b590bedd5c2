# SPDX-License-Identifier: Apache-2.0
"""agent: when a node takes the snapshot that the record of one of its VMs says is to be taken."""

from __future__ import annotations

import pytest
from played_guest import D, S, a_domain, action

from pvc_core.agent_actions import LetGo, Start, TakeSnapshot
from pvc_core.model import VmRecord, VmState
from pvc_core.ports import Domain
from pvc_core.testing.builders import a_vm, a_volume, uuid_of
from pvc_core.vm_snapshot_standing import SnapshotStanding

TAKING = SnapshotStanding(names=("monday",), taking="monday")
TAKES = TakeSnapshot(uuid_of("web1"), "monday", "its snapshot monday is to be taken")


def a_vm_taking(state: VmState = S.RUNNING, **more: object) -> VmRecord:
    return a_vm(state=state, snapshots=TAKING, **more)


@pytest.mark.parametrize("domain", [a_domain(), a_domain(state=D.PAUSED)])
def test_it_is_taken_of_a_guest_that_runs_and_ended_of_one_that_was_left_standing_still(domain: Domain) -> None:
    assert action(a_vm_taking(), domains=[domain]) == TAKES


def test_it_comes_before_the_disks_of_the_guest() -> None:
    assert action(a_vm_taking(volumes=(a_volume("vdb"),)), domains=[a_domain()]) == TAKES


def test_it_waits_for_a_migration_that_libvirt_still_works_on() -> None:
    assert action(a_vm_taking(), domains=[a_domain(job_active=True)]) is None


@pytest.mark.parametrize("state", [S.STOPPED, S.FAILED, S.DISABLED])
def test_of_a_guest_that_has_ended_it_is_ended_before_its_volumes_leave(state: VmState) -> None:
    leaving = a_vm_taking(state, volumes=(a_volume("vdb", leaving=True),))
    assert action(leaving) == TAKES
    assert isinstance(action(a_vm(state=state, volumes=(a_volume("vdb", leaving=True),))), LetGo)


@pytest.mark.parametrize("state", [S.SHUTTING_DOWN, S.RESTARTING, S.MIGRATING])
def test_a_guest_on_its_way_goes_it(state: VmState) -> None:
    done = action(a_vm_taking(state, target="hv2" if state is S.MIGRATING else ""), domains=[a_domain()])
    assert not isinstance(done, TakeSnapshot)


def test_one_that_starts_does_so_first() -> None:
    assert isinstance(action(a_vm_taking(S.STARTING)), Start)


def test_nothing_is_taken_of_a_vm_of_which_none_is_to_be() -> None:
    done = SnapshotStanding(names=("monday",), problem="volume logs: is busy")
    assert action(a_vm(snapshots=done), domains=[a_domain()]) is None
