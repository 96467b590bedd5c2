# SPDX-License-Identifier: Apache-2.0
"""reporter: one write per interval says what this node is and does: memory, load, domains, progress, storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import structlog

from pvc_core import layout
from pvc_core.codec import encode
from pvc_core.errors import Conflict, HypervisorError, StoreUnavailable
from pvc_core.events import EventKind, Happening
from pvc_core.model import DomainReport, NodeReport, Settings
from pvc_core.plugin_troubles import PluginTrouble
from pvc_core.ports import Clock, ClusterStore, Create, Domain, Hypervisor, Set, Thread, Threads
from pvc_core.storage_reports import BackendReport

log = structlog.get_logger(__name__)
SOON_S = 0.5
"""A report that was asked for goes out after at most this, however often it is asked for."""
RETRY_S = 1.0
"""While the hypervisor is away, so that its return is soon seen."""
NO_VOLUMES: dict[str, str] = {}
"""Of a domain of which nothing is known: one for all, nobody writes into it."""
AWAY_LOOKS = 3
"""So often in a row it has not answered when an event tells of it: one that is restarted is back before."""


class Reporter:
    """Writes the node's report on a thread of its own while the daemon may act."""

    def __init__(
        self,
        node: str,
        store: ClusterStore,
        hypervisor: Hypervisor,
        clock: Clock,
        may_write: Callable[[], bool],
        settings: Callable[[], Settings],
        unknown_domains: Callable[[], Mapping[str, str]],
        progress: Callable[[], Mapping[str, int]],
        plugin_troubles: Callable[[], Mapping[str, PluginTrouble]],
        storage: Callable[[], Mapping[str, BackendReport]],
        volumes: Callable[[], Mapping[str, Mapping[str, str]]],
        threads: Threads,
        note: Callable[[Happening], None],
    ) -> None:
        """`note`: writes an event in the background."""
        self._threads = threads
        self._note = note
        self._away_looks = 0
        self._key = layout.report(node)
        self._node = node
        self._store = store
        self._hypervisor = hypervisor
        self._clock = clock
        self._may_write = may_write
        self._settings = settings
        self._unknown_domains = unknown_domains
        self._progress = progress
        self._plugin_troubles = plugin_troubles
        self._volumes = volumes
        self._storage = storage
        self._version: int | None = None
        self._last = NodeReport(node=node, memory_total_mib=0, memory_available_mib=0, cores=1, load_1m=0.0)
        self._wanted = threads.event()
        self._stopping = threads.event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin with a report at once."""
        self._thread = self._threads.start("reporter", self._run)

    def close(self) -> None:
        """Write no more reports."""
        self._stopping.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(5)

    def report_soon(self) -> None:
        """Something worth seeing has changed."""
        self._wanted.set()

    def has_seen_guests(self) -> bool:
        """Whether PVC's domains were active on this host when it was looked last."""
        return not self._last.domains.keys() <= self._last.unknown_domains.keys()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._may_write():
                    self._write(self._collect())
            except Exception:  # without reports the node would take no VMs, and nobody would know why
                log.exception("report_broke", node=self._node)
            self._wanted.clear()
            if self._stopping.wait(min(SOON_S, self._settings().report_interval_s)):
                return
            pause_s = self._settings().report_interval_s if self._last.hypervisor_connected else RETRY_S
            self._wanted.wait(max(0.0, pause_s - SOON_S))

    def _collect(self) -> NodeReport:
        """The newest facts; while the hypervisor is away the last ones, marked as such."""
        try:
            host, domains = self._hypervisor.host(), self._hypervisor.domains()
        except HypervisorError as error:
            log.warning("hypervisor_away", node=self._node, reason=error.reason)
            self._away_looks += 1
            if self._away_looks == AWAY_LOOKS:
                reason = f"{error.reason}; its guests run on and nothing can be done with them until it answers"
                self._note(Happening(EventKind.NODE_HYPERVISOR_AWAY, reason, node=self._node))
            self._last = msgspec.structs.replace(
                self._last,
                session=self._store.session_id,
                hypervisor_connected=False,
                domains={},
                storage=dict(self._storage()),
                reported_at=self._clock.utc_iso(),
            )
            return self._last
        if self._away_looks >= AWAY_LOOKS:
            self._note(Happening(EventKind.NODE_HYPERVISOR_BACK, "it answers again", node=self._node))
        self._away_looks = 0
        volumes = self._volumes()
        self._last = NodeReport(
            node=self._node,
            session=self._store.session_id,
            memory_total_mib=host.memory_total_mib,
            memory_available_mib=host.memory_available_mib,
            cores=host.cores,
            load_1m=host.load_1m,
            hypervisor_version=host.hypervisor_version,
            domains={domain.uuid: _domain_report(domain, volumes.get(domain.uuid, NO_VOLUMES)) for domain in domains},
            unknown_domains=dict(self._unknown_domains()),
            progress=dict(self._progress()),
            plugin_troubles=dict(self._plugin_troubles()),
            storage=dict(self._storage()),
            reported_at=self._clock.utc_iso(),
        )
        return self._last

    def _write(self, report: NodeReport) -> None:
        data = encode(report)
        try:
            if self._version is None:
                entry = self._store.get(self._key)
                if entry is None:
                    self._store.transaction([Create(self._key, data)])
                    self._version = 0
                    return
                self._version = entry.version
            (self._version,) = self._store.transaction([Set(self._key, data, self._version)])
        except Conflict as conflict:
            log.warning("report_conflict", key=conflict.key, problem=conflict.problem)
            self._version = None
        except StoreUnavailable as error:
            log.info("report_not_written", problem=error.problem)
            self._version = None


def _domain_report(domain: Domain, volumes: Mapping[str, str]) -> DomainReport:
    return DomainReport(
        state=domain.state.value,
        memory_mib=domain.memory_mib,
        vcpus=domain.vcpus,
        cpu_time_ns=domain.cpu_time_ns,
        volumes=dict(volumes) if volumes else NO_VOLUMES,
    )
