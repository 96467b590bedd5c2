# SPDX-License-Identifier: Apache-2.0
"""The agent of one node on a real libvirt: how a guest ended, and what a migration whose source died has left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from pvc_core import changes, layout
from pvc_core.changes import edit_ledger, reservation_of
from pvc_core.codec import Stored, decode, encode
from pvc_core.events import Event, EventKind
from pvc_core.journal import Journal
from pvc_core.model import Ledger, Settings, VmMetadata, VmRecord, VmState
from pvc_core.ports import Create, DomainState, Hypervisor
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.system_clock import SystemClock
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.builders import a_volume
from pvc_core.testing.driver_suite import registry_of
from pvc_core.testing.hypervisor_harness import Bench, Guest, listed
from pvc_core.vm_states import VmEvent
from pvc_core.vm_volumes import VmVolume
from pvc_daemon.agent_loop import AgentLoop
from pvc_plugins.stores.embedded import SqliteStore

if TYPE_CHECKING:
    from libvirt_testbed import LibvirtTestbed

    from pvc_lab.lab import Lab

pytestmark = pytest.mark.libvirt
S = VmState


@pytest.fixture
def testbed(lab_of_two: Lab) -> Iterator[LibvirtTestbed]:
    from libvirt_testbed import LibvirtTestbed  # needs libvirt, which may be missing

    testbed = LibvirtTestbed(lab_of_two)
    yield testbed
    testbed.clear()


class AgentBench:
    """Two hosts, a store with the record of a VM, and the agents that a test starts."""

    def __init__(self, testbed: LibvirtTestbed, folder: Path, cleanup: ExitStack) -> None:
        self.bench = Bench(testbed, cleanup, slow_migrations=True)
        self.testbed = testbed
        self.store = SqliteStore(f"sqlite://{folder}/store.db?synchronous=normal")
        self.store.start()
        cleanup.callback(self.store.close)
        self.store.ensure(layout.DIRECTORIES)
        self._cleanup = cleanup
        self._clock = SystemClock()

    def agent(self, node: str, hypervisor: Hypervisor) -> None:
        journal = Journal(self._clock, lambda: f"agent:{node}")
        parts = (self.store, hypervisor, self._clock, lambda: True, lambda *_: None, journal, SYSTEM_THREADS)
        registry = registry_of()
        storage = StorageAccess(registry.calls, registry.storage_backends, OutsideNodes(registry, Settings).backend)
        loop = AgentLoop(node, *parts, lambda volume: self.testbed.disk(volume.device, volume.mark), storage)
        loop.start()
        self._cleanup.callback(loop.close)

    def assign(
        self, guest: Guest, state: VmState, node: str = "hv1", target: str = "", on_poweroff: str = "stop"
    ) -> None:
        record = VmRecord(
            uuid=guest.uuid,
            name=guest.name,
            state=state,
            node=node,
            home=node,
            target=target,
            memory_mib=96,
            vcpus=1,
            metadata=VmMetadata(on_poweroff=on_poweroff),  # type: ignore[arg-type]
        )
        ledgers = [
            edit_ledger(name, None, put={guest.uuid: reservation_of(record, incoming=name != node)})
            for name in (node, target)
            if name
        ]
        definition = Create(layout.definition(guest.uuid), guest.xml.encode())
        self.store.transaction([Create(layout.vm(guest.uuid), encode(record)), definition, *ledgers])

    def has_volumes(self, guest: Guest, *volumes: VmVolume) -> None:
        """A command gives the VM these volumes."""
        stored = self.record(guest)
        wanted = msgspec.structs.replace(stored.value, volumes=volumes)
        self.store.transaction([changes.write_vm(stored, wanted)])

    def disks(self, guest: Guest) -> list[str]:
        """The devices that the guest has on hv1."""
        return sorted(disk.device for disk in self.bench.here.disks(guest.uuid))

    def recover(self, guest: Guest, target: str) -> None:
        """The leader knows that the node of the VM is off."""
        stored = self.record(guest)
        names = (stored.value.node, stored.value.target)
        entries = self.store.get_many([layout.ledger(name) for name in names])
        ledgers = {name: decode(entries[layout.ledger(name)], Ledger) for name in names}
        change = changes.of_event(stored, VmEvent.RECOVER, "hv1 is off", "", ledgers, target=target)
        self.store.transaction(change.ops)

    def record(self, guest: Guest) -> Stored[VmRecord]:
        entry = self.store.get(layout.vm(guest.uuid))
        assert entry is not None
        return decode(entry, VmRecord)

    def until(self, guest: Guest, state: VmState) -> VmRecord:
        self.bench.until(lambda: self.record(guest).value.state is state, f"{guest.name} {state}")
        return self.record(guest).value

    def events(self) -> list[str]:
        names = self.store.children(layout.EVENTS)
        entries = self.store.get_many([layout.event(name) for name in names])
        return [decode(entries[layout.event(name)], Event).value.kind for name in names]

    def restarted(self, guest: Guest, life: str) -> None:
        """Until it runs in another life."""
        self.bench.until(
            lambda: EventKind.VM_STARTED.value in self.events() and self.record(guest).value.state is S.RUNNING,
            "it is started again",
        )
        self.bench.until(lambda: self.testbed.life_of(guest.uuid) != life, "it ticks in another life")


@pytest.fixture
def agents(testbed: LibvirtTestbed, tmp_path: Path) -> Iterator[AgentBench]:
    with ExitStack() as cleanup:
        yield AgentBench(testbed, tmp_path, cleanup)


def running(agents: AgentBench, on_poweroff: str = "stop") -> Guest:
    """A guest that runs on hv1, whose agent knows it."""
    guest = agents.bench.started()
    agents.assign(guest, S.RUNNING, on_poweroff=on_poweroff)
    agents.agent("hv1", agents.bench.here)
    return guest


def test_a_guest_that_powers_itself_off_is_stopped_if_its_vm_says_so(agents: AgentBench) -> None:
    guest = running(agents)
    agents.testbed.power_off_guest("hv1", guest.uuid)
    assert agents.until(guest, S.STOPPED).reason == "its guest powered off"
    assert listed(agents.bench.here, guest) is None
    assert agents.events() == [EventKind.VM_STOPPED]


def test_a_guest_that_powers_itself_off_is_started_again_otherwise(agents: AgentBench) -> None:
    guest = running(agents, on_poweroff="restart")
    life = agents.testbed.life_of(guest.uuid)
    agents.testbed.power_off_guest("hv1", guest.uuid)
    agents.restarted(guest, life)


def signalled(name: str) -> Callable[[LibvirtTestbed, Guest], None]:
    def end(testbed: LibvirtTestbed, guest: Guest) -> None:
        pid_file = f"/run/libvirt/qemu/{guest.name}.pid"
        assert testbed.lab.nodes["hv1"].run(["sh", "-c", f"kill -{name} $(cat {pid_file})"]).returncode == 0

    return end


def destroyed(testbed: LibvirtTestbed, guest: Guest) -> None:
    testbed.destroy_guest("hv1", guest.uuid)


@pytest.mark.parametrize("end", [signalled("KILL"), signalled("TERM"), destroyed], ids=["kill", "term", "destroy"])
def test_a_guest_that_is_ended_from_outside_has_not_powered_itself_off(
    agents: AgentBench, end: Callable[[LibvirtTestbed, Guest], None]
) -> None:
    guest = running(agents)
    life = agents.testbed.life_of(guest.uuid)
    end(agents.testbed, guest)
    agents.restarted(guest, life)
    assert EventKind.VM_STOPPED not in agents.events()


def test_what_a_lost_source_has_left_paused_on_the_target_is_started_anew(agents: AgentBench) -> None:
    bench, host = agents.bench, agents.testbed.lab.nodes["hv1"]
    guest = bench.started()
    life = agents.testbed.life_of(guest.uuid)
    agents.assign(guest, S.MIGRATING, node="hv1", target="hv2")
    agents.agent("hv2", bench.there)
    bench.migrating(guest)
    bench.until(lambda: is_left_behind(bench, guest), "the copy waits on the target")
    host.power_off()
    try:
        assert is_left_behind(bench, guest), "nothing told libvirt that the source is gone"
        agents.recover(guest, "hv2")
        agents.restarted(guest, life)
        copy = listed(bench.there, guest)
        assert copy is not None
        assert (copy.state, copy.paused_by_migration) == (DomainState.RUNNING, False)
        assert agents.events() == [EventKind.VM_STARTED], "it was not taken for started while it was paused"
    finally:
        host.power_on()


def is_left_behind(bench: Bench, guest: Guest) -> bool:
    copy = listed(bench.there, guest)
    return copy is not None and copy.paused_by_migration


def test_a_guest_that_a_person_has_paused_is_not_paused_by_a_migration(agents: AgentBench) -> None:
    guest = running(agents)
    agents.testbed.pause_guest("hv1", guest.uuid)
    domain = listed(agents.bench.here, guest)
    assert domain is not None
    assert (domain.state, domain.paused_by_migration) == (DomainState.PAUSED, False)


def test_nor_when_it_has_migrated_since(testbed: LibvirtTestbed) -> None:
    with ExitStack() as cleanup:
        bench = Bench(testbed, cleanup)
        guest = bench.started()
        testbed.pause_guest("hv1", guest.uuid)
        bench.begin_migration(guest).result(testbed.deadline_s)
        domain = listed(bench.there, guest)
        assert domain is not None
        assert (domain.state, domain.paused_by_migration) == (DomainState.PAUSED, False)


def test_a_guest_gets_the_volumes_of_its_record_lets_go_of_them_and_starts_with_them(agents: AgentBench) -> None:
    guest = running(agents, on_poweroff="restart")
    agents.has_volumes(guest, a_volume("vdb"), a_volume("vdc"))
    agents.bench.until(lambda: agents.disks(guest) == ["vdb", "vdc"], "the guest has both disks")
    agents.has_volumes(guest, a_volume("vdb", leaving=True), a_volume("vdc"))
    agents.bench.until(lambda: agents.record(guest).value.volumes == (a_volume("vdc"),), "vdb has left the record")
    assert agents.disks(guest) == ["vdc"]
    life = agents.testbed.life_of(guest.uuid)
    agents.testbed.power_off_guest("hv1", guest.uuid)
    agents.restarted(guest, life)
    assert agents.disks(guest) == ["vdc"]
