# SPDX-License-Identifier: Apache-2.0
"""agent_loop: the thread that looks, decides and hands out actions, whenever anything has changed.

Each action runs on a thread of its own, one per VM; the loop never waits for one. While the store's session is
not connected, or this node is not registered in it, nothing is decided: guests that run go on. Nor is anything while
the leader recovers the VMs of this node, which was off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import structlog

from pvc_core import agent, agent_memory, layout
from pvc_core.agent_actions import Action, CancelMigration, Start
from pvc_core.agent_disks import volumes_seen
from pvc_core.agent_memory import NO_MEMORY, VmMemory, current_memory
from pvc_core.agent_snapshot import AgentSnapshot, Seen, looked_at
from pvc_core.codec import Stored, decode
from pvc_core.errors import BrokenRecord, HypervisorError, PvcError, StoreUnavailable
from pvc_core.journal import Journal
from pvc_core.model import VmRecord
from pvc_core.ports import Clock, ClusterStore, Domain, DomainEvent, Hypervisor, Thread, Threads
from pvc_core.storage_access import StorageAccess
from pvc_daemon.agent_actions import AgentActions
from pvc_daemon.guest_disks import DiskOf, GuestDisks
from pvc_daemon.leftover_guests import LeftoverGuests
from pvc_daemon.own_records import OwnRecords

log = structlog.get_logger(__name__)
RETRY_S = 1.0
"""Pause for a VM whose action failed, and for the loop while the hypervisor is away."""
LOOK_AGAIN_S = 30.0
"""Even without any event the loop looks this often: for what no event tells."""


class AgentLoop:
    """The agent of one node."""

    def __init__(
        self,
        node: str,
        store: ClusterStore,
        hypervisor: Hypervisor,
        clock: Clock,
        may_act: Callable[[], bool],
        on_progress: Callable[[str, int], None],
        journal: Journal,
        threads: Threads,
        disk_of: DiskOf,
        storage: StorageAccess,
        on_volumes: Callable[[], None] = lambda: None,
    ) -> None:
        """`disk_of`: describes the disk that a volume is on this node, or raises a `PvcError`.

        storage: the backends as seen from this node. on_volumes: called when `volumes_seen` is another.
        """
        self._node = node
        self._store = store
        self._hypervisor = hypervisor
        self._clock = clock
        self._may_act = may_act
        self._threads = threads
        self.records = OwnRecords(store, node, self.wake, threads)
        disks = GuestDisks(node, hypervisor, clock, disk_of)
        self._actions = AgentActions(node, store, hypervisor, clock, self.records, on_progress, journal, disks, storage)
        self._leftovers = LeftoverGuests(node, store, hypervisor, clock, journal, threads, self.wake)
        self._lock = threads.lock()
        self._busy: dict[str, Action] = {}
        self._begun_s: dict[str, float] = {}
        self._last_start_s: float | None = None
        self._seen: dict[str, Seen] = {}
        self._memory: dict[str, VmMemory] = {}
        self._paused_until_s: dict[str, float] = {}
        self._unknown: dict[str, str] = {}
        self._on_volumes = on_volumes
        self.volumes_seen: Mapping[str, Mapping[str, str]] = {}
        """By UUID, of each of a guest's volumes by its id what is wrong with it; "": the guest has it."""
        self._wake = threads.event()
        self._stopping = threads.event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Watch the own records and begin to act. Raises `StoreUnavailable`."""
        self.records.start()
        self._hypervisor.add_listener(self._on_domain_event)
        self._thread = self._threads.start("agent", self._run)

    def close(self, patience_s: float = 5.0) -> None:
        """Begin nothing new and give actions under way a moment to end; guests run on."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(patience_s)
        deadline = self._clock.monotonic_s() + patience_s
        while self.busy_vms() and self._clock.monotonic_s() < deadline:
            self._wake.wait(0.05)
            self._wake.clear()
        self.records.close()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def unknown_domains(self) -> Mapping[str, str]:
        """Active domains that no record knows: UUID to name. They are left alone."""
        return dict(self._unknown)

    def busy_vms(self) -> tuple[str, ...]:
        """UUIDs of VMs with an action under way."""
        with self._lock:
            return tuple(self._busy)

    # ------------------------------------------------------------------------------------------ the loop

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait_s = self._look_and_act() if self._may_act() else LOOK_AGAIN_S
            except HypervisorError as error:
                log.warning("hypervisor_away", node=self._node, reason=error.reason)
                wait_s = RETRY_S
            except StoreUnavailable as error:
                log.warning("store_away", node=self._node, problem=error.problem)
                wait_s = RETRY_S
            except Exception:  # a node whose agent has ended would look alive and do nothing
                log.exception("agent_broke", node=self._node)
                wait_s = RETRY_S
            self._wake.wait(wait_s)

    def _look_and_act(self) -> float:
        """One round; how long to sleep afterwards unless woken."""
        if self.records.is_being_recovered:
            return LOOK_AGAIN_S
        self.records.watch_new()
        vms = self.records.vms()
        with self._lock:
            busy, begun_s = dict(self._busy), dict(self._begun_s)
        domains = {domain.uuid: domain for domain in self._hypervisor.domains()}
        now_s = self._clock.monotonic_s()
        self._seen = looked_at(self._seen, vms, domains, now_s)
        strays, unknown = self._records_of_strays(vms, domains)
        leftovers_s = self._see_to_leftovers(domains, unknown, busy)
        snapshot = AgentSnapshot(
            node=self._node,
            vms=vms,
            domains=domains,
            settings=self.records.settings,
            strays=strays,
            busy=busy,
            begun_s=begun_s,
            last_start_s=self._last_start_s,
            paused_until_s=dict(self._paused_until_s),
            memory=self._memory_of(vms),
            seen=self._seen,
        )
        self._tell_of_volumes(snapshot)
        decision = agent.decide(snapshot, now_s)
        wakes_s = [now_s + LOOK_AGAIN_S, *(at for at in (decision.wake_at_s, leftovers_s) if at is not None)]
        for action in decision.actions:
            self._begin(action, snapshot, now_s)
        return max(0.0, min(wakes_s) - self._clock.monotonic_s())

    def _tell_of_volumes(self, snapshot: AgentSnapshot) -> None:
        seen = {
            uuid: volumes_seen(stored.value, snapshot.memory.get(uuid, NO_MEMORY))
            for uuid, stored in snapshot.vms.items()
            if stored.value.volumes and uuid in snapshot.domains
        }
        if seen != self.volumes_seen:
            self.volumes_seen = seen
            self._on_volumes()

    def _memory_of(self, vms: Mapping[str, Stored[VmRecord]]) -> dict[str, VmMemory]:
        """The notes; those of VMs that are neither ours nor busy any more are forgotten."""
        with self._lock:
            for uuid in [uuid for uuid in self._memory if uuid not in vms and uuid not in self._busy]:
                del self._memory[uuid]
                self._paused_until_s.pop(uuid, None)
            return dict(self._memory)

    def _records_of_strays(
        self, vms: Mapping[str, Stored[VmRecord]], domains: Mapping[str, Domain]
    ) -> tuple[dict[str, Stored[VmRecord]], dict[str, str]]:
        """The records of active domains that are not in our ledger, and the names of domains without one."""
        others = [uuid for uuid in domains if uuid not in vms]
        entries = self._store.get_many([layout.vm(uuid) for uuid in others]) if others else {}
        strays: dict[str, Stored[VmRecord]] = {}
        unknown: dict[str, str] = {}
        for uuid in others:
            entry = entries.get(layout.vm(uuid))
            if entry is None:
                unknown[uuid] = domains[uuid].name
                continue
            try:
                strays[uuid] = decode(entry, VmRecord)
            except BrokenRecord as broken:
                log.error("record_broken", key=entry.key, problem=broken.problem)
        return strays, unknown

    def _see_to_leftovers(
        self, domains: Mapping[str, Domain], without_record: Mapping[str, str], busy: Mapping[str, Action]
    ) -> float | None:
        """End what was undefined by force; other domains without a record are left alone. When to look again."""
        ledger = self.records.ledger
        leftovers = ledger.value.leftovers if ledger else {}
        unknown = {uuid: name for uuid, name in without_record.items() if uuid not in leftovers}
        if unknown != self._unknown:
            log.warning("unknown_domains", node=self._node, domains=sorted(unknown.values()))
            self._unknown = unknown
        return self._leftovers.look(ledger.value, domains, without_record, busy) if ledger else None

    # ------------------------------------------------------------------------------------------- actions

    def _begin(self, action: Action, snapshot: AgentSnapshot, now_s: float) -> None:
        stored = snapshot.vms.get(action.uuid) or snapshot.strays[action.uuid]
        with self._lock:
            if not isinstance(action, CancelMigration):
                self._busy[action.uuid], self._begun_s[action.uuid] = action, now_s
        if isinstance(action, Start):
            self._last_start_s = now_s
        name = f"{type(action).__name__}-{stored.value.name}"
        log.debug("action", do=type(action).__name__, vm=stored.value.name, reason=action.reason)
        try:
            self._threads.start(name, partial(self._carry_out, action, stored))
        except RuntimeError:
            self._no_longer_busy(action)
            raise

    def _carry_out(self, action: Action, stored: Stored[VmRecord]) -> None:
        def learn(change: Callable[[VmMemory], VmMemory]) -> None:
            with self._lock:
                memory = current_memory(self._memory.get(action.uuid, NO_MEMORY), stored.value)
                self._memory[action.uuid] = change(memory)

        try:
            self._actions.execute(action, stored, learn)
        except PvcError as error:
            log.warning("action_failed", do=type(action).__name__, vm=stored.value.name, problem=error.sentence())
            self._pause(action)
        except Exception:
            log.exception("action_broke", do=type(action).__name__, vm=stored.value.name)
            self._pause(action)
        finally:
            self._no_longer_busy(action)
            self.wake()

    def _no_longer_busy(self, action: Action) -> None:
        if not isinstance(action, CancelMigration):
            with self._lock:
                self._busy.pop(action.uuid, None)
                self._begun_s.pop(action.uuid, None)

    def _pause(self, action: Action) -> None:
        self._paused_until_s[action.uuid] = self._clock.monotonic_s() + RETRY_S

    def _on_domain_event(self, event: DomainEvent | None) -> None:
        """Remember how a domain ended, and look again."""
        stored = self.records.vm(event.uuid) if event is not None else None
        if event is not None and stored is not None:
            with self._lock:
                memory = current_memory(self._memory.get(event.uuid, NO_MEMORY), stored.value)
                self._memory[event.uuid] = agent_memory.heard(memory, event)
        self.wake()
