# SPDX-License-Identifier: Apache-2.0
"""guest_snapshots: killed at any step, its next life lets the guest go on, and leaves a whole snapshot or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.dying_store import Dying, Killed
from core.stored_cluster import ANY, StoredCluster
from core.stored_cluster import vm as record_of
from pvc_core import hookimpl, layout
from pvc_core.errors import HypervisorError
from pvc_core.journal import Journal
from pvc_core.model import Settings, VmState
from pvc_core.ports import ClusterStore, DomainState
from pvc_core.storage import StorageBackendEntry
from pvc_core.storage_access import OutsideNodes, StorageAccess
from pvc_core.system_clock import SystemClock
from pvc_core.testing.driver_suite import registry_with
from pvc_core.testing.memory_storage import MemoryStorage
from pvc_core.testing.played_agents import xml
from pvc_daemon.guest_snapshots import GuestSnapshots
from pvc_plugins.hypervisors.simulated import SimulatedHypervisor, SimulatedWorld
from pvc_plugins.hypervisors.simulated.rows import Happening

MIB = 2**20
SIM = "<metadata><sim:guest xmlns:sim='https://pvc.example/simulated/1' agent='{agent}'/></metadata></domain>"
VOLUMES = ("data", "logs")


class Storage:
    """In-memory storage that all nodes reach."""

    def __init__(self) -> None:
        self.memory = MemoryStorage({"vms": 64 * MIB})

    @hookimpl
    def pvc_storage_backends(self) -> list[StorageBackendEntry]:
        return [self.memory.entry()]

    def snapshots(self) -> dict[str, int]:
        return {name: len(held.snapshots) for name, held in sorted(self.memory.held["vms"].items())}


class Node:
    """hv1 with web1, whose guest runs with two volumes."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage()
        self.cluster = StoredCluster(folder, registry_with(memory=self.storage))
        self.world = SimulatedWorld(folder / "world")
        self.hypervisor = SimulatedHypervisor(f"simulated://{folder}/world?boot_s=0.01", "hv1")
        self.hypervisor.start()
        self.cluster.add_nodes("hv1")
        self.uuid = ""

    def runs(self, agent: str) -> None:
        self.cluster.commands.define(xml("web1").replace("</domain>", SIM.format(agent=agent)), ANY)
        for name in VOLUMES:
            self.cluster.commands.create_volume("web1", "memory", "vms", name, MIB)
        self.uuid = record_of(self.cluster).uuid
        self.hypervisor.create(self.cluster.commands.definition("web1"))
        self.is_in(VmState.RUNNING)

    def is_in(self, state: VmState) -> None:
        record = record_of(self.cluster)
        self.cluster.put(layout.vm(self.uuid), msgspec.structs.replace(record, state=state))

    def life(self, store: ClusterStore | None = None, hypervisor: Any = None) -> GuestSnapshots:
        """One life of the daemon."""
        registry, clock, store = self.cluster.registry, SystemClock(), store or self.cluster.store
        access = StorageAccess(registry.calls, registry.storage_backends, OutsideNodes(registry, Settings).backend)
        journal = Journal(clock, lambda: "agent:hv1")
        return GuestSnapshots("hv1", store, hypervisor or self.hypervisor, clock, journal, access, lambda _entry: None)

    def next_life(self) -> None:
        """Until the record has nothing for it to do."""
        for _ in range(3):
            if name := record_of(self.cluster).snapshots.taking:
                self.life().take(self.uuid, name)
                self.cluster.settle()

    def assert_whole(self) -> None:
        """The guest goes on, and the snapshot is there or is not."""
        (domain,) = self.hypervisor.domains()
        assert domain.state is DomainState.RUNNING
        assert [each.is_frozen for each in self.world.domains()] == [0]
        standing = record_of(self.cluster).snapshots
        found = self.cluster.commands.snapshots("web1")
        assert (standing.taking, standing.names) == ("", tuple(each.name for each in found))
        assert [(each.state.value, each.halted) for each in found] in ([], [("ready", "")])
        assert self.storage.snapshots() == dict.fromkeys(VOLUMES, len(found))
        assert self.cluster.commands.unfinished_volumes() == ()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.hypervisor.close()
    node.world.close()
    node.cluster.close()


AGENTS = pytest.mark.parametrize("agent", ["yes", "no"])


@AGENTS
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 5))
def test_killed_at_a_transaction(node: Node, agent: str, at: int, before: bool) -> None:
    node.runs(agent)
    node.cluster.commands.take_snapshot("web1", "monday")
    store = Dying(node.cluster.url, at, before=before)
    store.start()
    try:
        with suppress(Killed):
            node.life(store).take(node.uuid, "monday")
    finally:
        store.close()
    node.cluster.settle()
    node.next_life()
    node.assert_whole()


class DyingHypervisor:
    """The daemon dies with a call, which is made or not."""

    def __init__(self, inner: SimulatedHypervisor, call: str, *, before: bool) -> None:
        self._inner, self._call, self._before = inner, call, before

    def __getattr__(self, name: str) -> Any:
        called = getattr(self._inner, name)
        if name != self._call:
            return called

        def dying(*arguments: Any) -> Any:
            if not self._before:
                called(*arguments)
            raise Killed

        return dying


@AGENTS
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("call", ["domains", "freeze", "suspend", "thaw", "resume"])
def test_killed_as_the_guest_is_told_something(node: Node, agent: str, call: str, before: bool) -> None:
    node.runs(agent)
    node.cluster.commands.take_snapshot("web1", "monday")
    with suppress(Killed):
        node.life(hypervisor=DyingHypervisor(node.hypervisor, call, before=before)).take(node.uuid, "monday")
    node.cluster.settle()
    node.next_life()
    node.assert_whole()


@AGENTS
@pytest.mark.parametrize("volume", VOLUMES)
def test_killed_while_the_storage_is_asked(
    node: Node, agent: str, volume: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.runs(agent)
    node.cluster.commands.take_snapshot("web1", "monday")
    life = node.life()
    take: Callable[..., int] = life._work._take

    def dying(of: Any, deadline_s: float) -> int:
        size = take(of, deadline_s)
        if of.name == volume:
            monkeypatch.setattr(life._hypervisor, "thaw", killed)
            monkeypatch.setattr(life._hypervisor, "resume", killed)
            raise Killed
        return size

    monkeypatch.setattr(life._work, "_take", dying)
    with pytest.raises(Killed):
        life.take(node.uuid, "monday")
    monkeypatch.undo()
    (left,) = node.cluster.commands.snapshots("web1")
    assert left.halted == ("frozen" if agent == "yes" else "suspended")
    node.next_life()
    node.assert_whole()
    assert record_of(node.cluster).snapshots.problem == "web1: the daemon that took it ended meanwhile"


def killed(*_arguments: object) -> bool:
    """A process that is dead lets nothing go on."""
    raise Killed


def test_an_agent_that_does_not_thaw_is_asked_until_it_does(node: Node) -> None:
    node.runs("dies")
    node.cluster.commands.take_snapshot("web1", "monday")
    for _ in range(3):
        with pytest.raises(HypervisorError, match="agent does not answer"):
            node.life().take(node.uuid, "monday")
        node.cluster.settle()
        assert [each.halted for each in node.cluster.commands.snapshots("web1")] == ["frozen"]
        assert record_of(node.cluster).snapshots.taking == "monday"
    with node.world._world.changing() as moment:
        (domain,) = moment.domains()
        moment.put(replace(domain, xml=domain.xml.replace("dies", "yes")), Happening.BOOTED)
    node.next_life()
    node.assert_whole()


@AGENTS
def test_a_guest_that_has_ended_has_none(node: Node, agent: str) -> None:
    node.runs(agent)
    node.cluster.commands.take_snapshot("web1", "monday")
    node.hypervisor.destroy(node.uuid)
    node.is_in(VmState.STOPPED)
    node.next_life()
    standing = record_of(node.cluster).snapshots
    assert (standing.names, standing.problem) == ((), "web1: its guest has ended before")
    assert node.storage.snapshots() == dict.fromkeys(VOLUMES, 0)


def test_a_guest_that_somebody_has_paused_stays_so_and_has_none(node: Node) -> None:
    node.runs("no")
    node.hypervisor.suspend(node.uuid)
    node.cluster.commands.take_snapshot("web1", "monday")
    node.next_life()
    standing = record_of(node.cluster).snapshots
    assert (standing.names, standing.problem) == ((), "web1: its guest is paused, and nobody can say for how long")
    (domain,) = node.hypervisor.domains()
    assert domain.state is DomainState.PAUSED


@AGENTS
def test_a_guest_that_somebody_else_lets_go_on_meanwhile_was_not_of_one_moment(
    node: Node, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.runs(agent)
    node.cluster.commands.take_snapshot("web1", "monday")
    life = node.life()
    take: Callable[..., int] = life._work._take

    def meddled(of: Any, deadline_s: float) -> int:
        node.hypervisor.resume(node.uuid)
        node.hypervisor.thaw(node.uuid, 1.0)
        return take(of, deadline_s)

    monkeypatch.setattr(life._work, "_take", meddled)
    life.take(node.uuid, "monday")
    node.cluster.settle()
    assert "did not hold still until all" in record_of(node.cluster).snapshots.problem
    node.assert_whole()


def test_what_another_node_had_begun_is_ended_where_the_guest_is_now(node: Node) -> None:
    node.runs("no")
    node.cluster.commands.take_snapshot("web1", "monday")
    with pytest.raises(Killed):
        node.life(hypervisor=DyingHypervisor(node.hypervisor, "resume", before=True)).take(node.uuid, "monday")
    node.cluster.settle()
    node.hypervisor.destroy(node.uuid)  # with its node
    node.hypervisor.create(node.cluster.commands.definition("web1"))
    node.next_life()
    node.assert_whole()
    assert node.storage.snapshots() == dict.fromkeys(VOLUMES, 0)
