# SPDX-License-Identifier: Apache-2.0
"""node_daemon: puts one node together: membership, agent, reports, and the leader's part when it is elected."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from pvc_core import layout
from pvc_core.configuration import Configuration
from pvc_core.election import Election
from pvc_core.errors import PvcError, StoreUnavailable
from pvc_core.host_shutdown import Policy
from pvc_core.journal import Journal, Notes
from pvc_core.model import Member, NodeRecord
from pvc_core.notifications import Notifier
from pvc_core.plugin_types import PluginOptions
from pvc_core.ports import Clock, ClusterStore, DomainEvent, Hypervisor, SessionState, Threads, Watchdog
from pvc_core.registry import Registry
from pvc_core.storage import StorageBackendEntry
from pvc_core.storage_access import StorageAccess
from pvc_core.storage_fencing import StorageFencing
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_daemon.agent_loop import AgentLoop
from pvc_daemon.giving_secrets import GivingSecrets
from pvc_daemon.going_down import GoingDown
from pvc_daemon.host_storage import HostStorage
from pvc_daemon.leader_loop import LeaderLoop
from pvc_daemon.membership import Membership, host_identity
from pvc_daemon.reporter import Reporter
from pvc_daemon.task_runner import TaskRunner
from pvc_daemon.watchdog_keeper import WatchdogKeeper

log = structlog.get_logger(__name__)
REGISTER_AGAIN_S = 1.0


class NodeDaemon:
    """Everything that runs in `pvc-node`."""

    def __init__(
        self,
        configuration: Configuration,
        store: ClusterStore,
        hypervisor: Hypervisor,
        registry: Registry,
        clock: Clock,
        version: str,
        threads: Threads = SYSTEM_THREADS,
        host: str = "",
        watchdog: Watchdog | None = None,
        writer: str = "",
        connected_s: float | None = None,
        storage_backends: Mapping[str, StorageBackendEntry] | None = None,
    ) -> None:
        """`host` names the running host, by default this one; `watchdog`, if any, is the host's.

        writer: tells this run from all others, by default it is drawn by lot. connected_s: since when this host has had
        its connection to the store; None: it is made by `start`. storage_backends: those of this host, by default the
        registry's.
        """
        name = configuration.node_name
        self._name = name
        self._coordinator = configuration.node.coordinator
        self._store = store
        self._hypervisor = hypervisor
        self._registry = registry
        self._clock = clock
        self._threads = threads
        self._writer = writer
        self._connected_s = connected_s
        self._progress: dict[str, int] = {}
        self._journal = journal = Journal(clock, lambda: f"agent:{name}", writer)
        self._notes = Notes(store, journal, clock, threads)
        self._notifier = Notifier(
            registry, lambda: self._agent.records.settings, self._notes.plugin_failed, threads=threads
        )
        journal.listen(self._notifier)
        member = _member(name, version, registry, host or host_identity())
        self._membership = Membership(store, clock, _node_record(configuration), member, journal, threads)
        may_act = self._membership.is_registered
        backends = registry.storage_backends if storage_backends is None else storage_backends

        def options(plugin: str) -> PluginOptions:
            return registry.options(plugin, self._agent.records.settings)

        self._storage = HostStorage(
            name,
            backends,
            options=options,
            settings=lambda: self._agent.records.settings,
            clock=clock,
            threads=threads,
            on_change=self._storage_changed,
        )
        self._storage_fencing = StorageFencing(registry.calls, backends, self._storage.backend, options)
        access = StorageAccess(registry.calls, backends, self._storage.backend)
        self._secrets = GivingSecrets(name, hypervisor, access, self._storage.reports, threads)
        self._has_storage = bool(backends)
        self._agent = AgentLoop(
            name,
            store,
            hypervisor,
            clock,
            may_act,
            self._migration_progress,
            journal,
            threads,
            self._secrets.disk_of,
            access,
            self._report_soon,
        )
        self._tasks = TaskRunner(
            name,
            store,
            registry.node_tasks,
            options=lambda plugin: registry.options(plugin, self._agent.records.settings),
            clock=clock,
            may_act=may_act,
            journal=journal,
            threads=threads,
            incarnation=writer,
        )
        self._reporter = Reporter(
            name,
            store,
            hypervisor,
            clock,
            may_act,
            settings=lambda: self._agent.records.settings,
            unknown_domains=self._agent.unknown_domains,
            progress=lambda: dict(self._progress),
            plugin_troubles=registry.calls.troubles,
            storage=self._storage.reports,
            volumes=lambda: self._agent.volumes_seen,
            threads=threads,
            note=self._notes.note,
        )
        timeout_s = configuration.watchdog.timeout_s
        self._watchdog_keeper = watchdog and WatchdogKeeper(
            name,
            watchdog,
            timeout_s,
            store,
            self._membership,
            self._has_guests,
            clock,
            threads,
            is_paused=lambda: self._agent.records.is_paused,
        )
        self._election: Election | None = None
        self._leader: LeaderLoop | None = None
        self._leader_lock = threads.lock()
        self._connected = threads.event()
        self._stopping = threads.event()

    def start(self) -> None:
        """Join the cluster. Raises `StoreUnavailable`, and `Refused` when another host has this node's name."""
        self._store.start()
        if self._connected_s is None:
            self._connected_s = self._clock.monotonic_s()
        self._store.ensure(layout.DIRECTORIES)
        self._hypervisor.start()
        self._membership.register()
        self._store.add_session_listener(self._session_changed)
        self._threads.start("membership", self._keep_registered)
        self._agent.start()
        self._reporter.start()
        self._storage.start()
        if self._has_storage:
            self._secrets.start()
        self._tasks.start()
        if self._watchdog_keeper:
            self._watchdog_keeper.start()
        self._hypervisor.add_listener(self._hypervisor_event)
        if self._coordinator:
            self._election = Election(self._store, self._name, self._elected, self._threads)
            self._election.start()
        log.info("node_started", node=self._name, session=self._store.session_id)

    def stop(self) -> None:
        """Leave the cluster cleanly: the record says so first, then the session ends; guests run on."""
        self._stopping.set()
        self._connected.set()
        self._elected(None)
        self._agent.close()
        self._storage.close()
        self._secrets.close()
        self._tasks.close()
        self._reporter.close()
        has_left = False
        try:
            if self._election:
                self._election.stop()
            self._membership.leave()
            has_left = True
        except StoreUnavailable as error:
            log.warning("left_without_store", node=self._name, problem=error.problem)
        if self._watchdog_keeper:
            self._watchdog_keeper.close(may_disarm=has_left)
        self._notifier.close()
        self._notes.close()
        self._hypervisor.close()
        self._store.close()
        log.info("node_stopped", node=self._name)

    def go_down(self, policy: Policy, within_s: float, is_hurried: Callable[[], bool] = lambda: False) -> None:
        """The host goes down: deal with the guests as `policy` says, for at most `within_s`; then leave as `stop`."""
        parts = (self._store, self._clock, self._journal, self._threads)
        ended = GoingDown(self._name, self._store.session_id, *parts).run(policy, within_s, is_hurried)
        log.info("host_goes_down", node=self._name, policy=policy, ended=ended)
        self.stop()

    def abandon(self) -> None:
        """Let go of what a `start` that failed has opened."""
        self._stopping.set()
        self._connected.set()
        self._hypervisor.close()
        self._store.close()

    @property
    def leads(self) -> bool:
        """Whether it is the leader, as far as it knows."""
        return self._leader is not None

    # ------------------------------------------------------------------------------------------ the session

    def _session_changed(self, state: SessionState) -> None:
        log.info("session_changed", node=self._name, state=state.value)
        if state is SessionState.CONNECTED:
            self._connected_s = self._clock.monotonic_s()
            self._connected.set()
        self._agent.wake()

    def _keep_registered(self) -> None:
        """After every new connection: register again if the session is another one, then let the agent look."""
        while not self._stopping.is_set():
            self._connected.wait()
            self._connected.clear()
            while not self._stopping.is_set() and self._store.session_state is SessionState.CONNECTED:
                try:
                    self._membership.register()
                    break
                except PvcError as error:
                    log.error("not_registered", node=self._name, problem=error.sentence())
                    self._stopping.wait(REGISTER_AGAIN_S)
            self._agent.wake()
            self._tasks.wake()
            self._reporter.report_soon()

    def _has_guests(self) -> bool:
        """Whether VMs are to run here, or do."""
        return self._agent.records.owns_vms() or self._reporter.has_seen_guests()

    def _report_soon(self) -> None:
        self._reporter.report_soon()

    def _storage_changed(self) -> None:
        self._report_soon()
        self._secrets.wake()

    def _hypervisor_event(self, event: DomainEvent | None) -> None:
        """None: the hypervisor is there (again), which placement should know, and knows no secret."""
        if event is None:
            self._reporter.report_soon()
            self._secrets.wake()

    def _migration_progress(self, uuid: str, percent: int) -> None:
        """Minus one: it is over."""
        if percent < 0:
            self._progress.pop(uuid, None)
        else:
            self._progress[uuid] = percent
        self._reporter.report_soon()

    # ------------------------------------------------------------------------------------------ leadership

    def _elected(self, epoch: int | None) -> None:
        with self._leader_lock:
            if self._leader is not None:
                self._leader.close()
                self._leader = None
            if epoch is not None and self._connected_s is not None and not self._stopping.is_set():
                self._leader = LeaderLoop(
                    self._name,
                    epoch,
                    self._store,
                    self._registry,
                    self._clock,
                    self._threads,
                    self._connected_s,
                    self._storage_fencing,
                    self._notifier,
                    self._writer,
                )
                self._leader.start()


def _node_record(configuration: Configuration) -> NodeRecord:
    node = configuration.node
    return NodeRecord(
        name=configuration.node_name, coordinator=node.coordinator, labels=node.labels, address=node.address
    )


def _member(node: str, version: str, registry: Registry, host: str) -> Member:
    return Member(
        node=node,
        session="",
        version=version,
        host=host,
        plugins=dict(registry.plugin_versions),
        plugins_refused=registry.plugins_refused,
        drivers=dict(registry.driver_names),
    )
