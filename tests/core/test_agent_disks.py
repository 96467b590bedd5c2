# SPDX-License-Identifier: Apache-2.0
"""agent_disks: a guest that runs gets the volumes of its VM's record and lets go of those that leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from played_guest import NOW_S, D, S, a_domain, action, decided

from pvc_core.agent_actions import AttachDisk, DetachDisk, LetGo, LookAtDisks, Start
from pvc_core.agent_disks import TRY_AGAIN_MAX_S, changed, disks_of_running, in_trouble, volumes_seen
from pvc_core.agent_memory import NO_MEMORY, VmMemory, created, heard, starting
from pvc_core.model import VmRecord, VmState
from pvc_core.ports import Domain, DomainEvent, DomainEventKind
from pvc_core.testing.builders import a_vm, uuid_of
from pvc_core.vm_volumes import VmVolume

UUID = uuid_of("web1")
OFF_STATES = [S.STOPPED, S.FAILED, S.DISABLED]


def volume(device: str = "vdb", *, leaving: bool = False, id: str = "1") -> VmVolume:
    return VmVolume(device=device, backend="ceph", pool="vms", name=f"{device}{id}", id=id, leaving=leaving)


def has(*volumes: VmVolume) -> VmMemory:
    """The guest is known to have these."""
    return VmMemory(transition=0, disks={each.mark: each.device for each in volumes})


def does(*volumes: VmVolume, memory: VmMemory = NO_MEMORY, domain: Domain | None = None, **vm: Any) -> object:
    """What the agent does for web1, which runs."""
    return action(a_vm(volumes=volumes, **vm), domains=[domain or a_domain()], memory=memory)


def test_a_guest_without_volumes_is_not_looked_at() -> None:
    assert does() is None


def test_which_volumes_a_guest_has_is_found_out_first() -> None:
    assert isinstance(does(volume()), LookAtDisks)


def test_a_guest_with_its_volumes_needs_nothing() -> None:
    assert does(volume("vdb"), volume("vdc"), memory=has(volume("vdb"), volume("vdc"))) is None


def test_a_volume_that_the_guest_lacks_is_attached() -> None:
    done = does(volume("vdb"), volume("vdc"), memory=has(volume("vdb")))
    assert done == AttachDisk(UUID, volume("vdc"), "ceph vms/vdc1 is a volume of it")


def test_another_volume_of_the_same_device_is_not_taken_for_this_one() -> None:
    assert does(volume("vdb", id="2"), memory=has(volume("vdb", id="1"))) == AttachDisk(
        UUID, volume("vdb", id="2"), "ceph vms/vdb2 is a volume of it"
    )


def test_a_volume_that_leaves_is_detached_before_others_are_attached() -> None:
    leaving = volume("vdc", leaving=True)
    done = does(volume("vdb"), leaving, memory=has(leaving))
    assert done == DetachDisk(UUID, leaving, "ceph vms/vdc1 is no volume of it any more")


def test_a_volume_that_leaves_has_left_once_the_guest_has_let_go_of_it() -> None:
    leaving = volume("vdc", leaving=True)
    assert does(volume("vdb"), leaving, memory=has(volume("vdb"))) == LetGo(
        UUID, (leaving,), "the guest has let go of ceph vms/vdc1"
    )


@pytest.mark.parametrize("domain", [a_domain(state=D.PAUSED), a_domain(job_active=True)])
def test_nothing_is_changed_about_the_disks_of_a_guest_that_is_paused_or_leaves(domain: Domain) -> None:
    assert does(volume(), memory=has(), domain=domain) is None


@pytest.mark.parametrize("state", [S.SHUTTING_DOWN, S.RESTARTING, S.MIGRATING])
def test_a_guest_that_ends_or_migrates_comes_to_that_first(state: VmState) -> None:
    done = does(volume(), memory=has(), state=state, target="hv2")
    assert not isinstance(done, AttachDisk | LookAtDisks)


@pytest.mark.parametrize("state", OFF_STATES)
def test_a_guest_that_has_ended_has_let_go_of_everything(state: VmState) -> None:
    leaving = volume("vdc", leaving=True)
    assert action(a_vm(volumes=(volume("vdb"), leaving), state=state)) == LetGo(
        UUID, (leaving,), "the guest has ended, and with it its use of ceph vms/vdc1"
    )
    assert action(a_vm(volumes=(volume("vdb"),), state=state)) is None


def test_a_vm_starts_only_once_what_was_leaving_has_left() -> None:
    leaving = volume("vdc", leaving=True)
    assert isinstance(action(a_vm(volumes=(leaving,), state=S.STARTING)), LetGo)
    assert isinstance(action(a_vm(volumes=(volume(),), state=S.STARTING)), Start)


# ---------------------------------------------------------------------------------------------- what goes wrong


def failed(times: int, mark: str = "ua-pvc-vdb-1") -> VmMemory:
    memory = has()
    for _ in range(times):
        memory = replace(in_trouble(memory, mark, "no quorum", NOW_S), disks={})
    return memory


@pytest.mark.parametrize(("times", "pause_s"), [(1, 5.0), (2, 10.0), (3, 20.0), (40, TRY_AGAIN_MAX_S)])
def test_what_fails_is_tried_again_after_a_pause_that_grows(times: int, pause_s: float) -> None:
    waits = decided(a_vm(volumes=(volume(),)), domains=[a_domain()], memory=failed(times))
    assert (waits.actions, waits.wake_at_s) == ((), NOW_S + pause_s)
    again = decided(a_vm(volumes=(volume(),)), domains=[a_domain()], memory=failed(times), now_s=NOW_S + pause_s)
    assert isinstance(again.actions[0], AttachDisk)


def test_one_disk_that_fails_does_not_hold_up_another() -> None:
    done = does(volume("vdb"), volume("vdc"), memory=failed(3))
    assert isinstance(done, AttachDisk)
    assert done.volume.device == "vdc"


def test_what_is_seen_of_volumes_are_those_that_the_guest_has_and_those_in_trouble() -> None:
    record = a_vm(volumes=(volume("vdb"), volume("vdc", id="2"), volume("vdd", id="3")))
    memory = in_trouble(has(), volume("vdc", id="2").mark, "no quorum", NOW_S)
    known = replace(memory, disks={volume("vdb").mark: "vdb"})
    assert volumes_seen(record, known) == {"1": "", "2": "no quorum"}
    assert volumes_seen(record, changed(known, volume("vdc", id="2").mark)) == {}


# ----------------------------------------------------------------------------------------- what is remembered


@pytest.mark.parametrize("kind", [kind for kind in DomainEventKind if kind is not DomainEventKind.OTHER])
def test_what_was_known_of_disks_does_not_outlive_a_change_or_the_guest(kind: DomainEventKind) -> None:
    assert heard(has(volume()), DomainEvent(UUID, kind)).disks is None


def test_a_new_life_begins_without_what_was_known_of_the_last() -> None:
    memory = created(starting(in_trouble(has(), volume().mark, "no quorum", NOW_S)), NOW_S)
    assert (memory.disks, memory.troubles) == (None, ())


# ------------------------------------------------------------------------------------------- all that can happen


class PlayedDisks:
    """A guest and its record, as commands and the agent change them."""

    def __init__(self) -> None:
        self.record: VmRecord = a_vm()
        self.guest: dict[str, str] = {}
        self.memory = NO_MEMORY
        self.now_s = NOW_S
        self._count = 0

    def command(self, device: str) -> None:
        """Add a volume as this device if it is free, else let the one there leave."""
        there = [each for each in self.record.volumes if each.device == device]
        if not there:
            self._count += 1
            self._write((*self.record.volumes, volume(device, id=str(self._count))))
        else:
            left = [replace_leaving(each) if each in there else each for each in self.record.volumes]
            self._write(tuple(left))

    def step(self, works: bool) -> bool:
        """What the agent decides now; whether it was anything."""
        done, at_s = disks_of_running(self.record, self.memory, self.now_s)
        match done:
            case None:
                self.now_s = at_s if at_s is not None else self.now_s
                return at_s is not None
            case LookAtDisks():
                self.memory = replace(self.memory, disks=dict(self.guest))
            case LetGo():
                assert all(each.mark not in self.guest for each in done.volumes), "the guest still has it"
                self._write(tuple(each for each in self.record.volumes if each not in done.volumes))
            case AttachDisk() | DetachDisk() if not works:
                self.memory = in_trouble(self.memory, done.volume.mark, "it fails", self.now_s)
            case AttachDisk():
                assert done.volume.device not in self.guest.values(), "the device is taken"
                self.guest[done.volume.mark] = done.volume.device
                self.memory = changed(self.memory, done.volume.mark)
            case DetachDisk():
                self.guest.pop(done.volume.mark, None)
                self.memory = changed(self.memory, done.volume.mark)
        return True

    def _write(self, volumes: tuple[VmVolume, ...]) -> None:
        self.record = msgspec.structs.replace(self.record, volumes=volumes)


def replace_leaving(each: VmVolume) -> VmVolume:
    return msgspec.structs.replace(each, leaving=True)


STEPS = st.lists(st.sampled_from(["vda", "vdb", "vdc", True, True, False]), max_size=60)


@given(STEPS)
def test_whatever_is_commanded_and_fails_the_guest_comes_to_have_what_the_record_has(steps: list[str | bool]) -> None:
    played = PlayedDisks()
    for step in steps:
        if isinstance(step, str):
            played.command(step)
        else:
            played.step(step)
    for _ in range(60):
        if not played.step(works=True):
            break
    assert played.guest == {each.mark: each.device for each in played.record.volumes}
    assert not any(each.leaving for each in played.record.volumes)
