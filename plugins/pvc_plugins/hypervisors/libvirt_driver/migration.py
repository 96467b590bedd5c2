# SPDX-License-Identifier: Apache-2.0
"""migration: one live migration away from this host, from its beginning to a certain end.

libvirt moves the guest from host to host itself (peer to peer), in one call that blocks. A second thread looks at the
job meanwhile, tells its progress, and aborts it when it takes too long or is cancelled: again and again until the call
returns, since an abort before the job has begun or after the last byte is refused by libvirt or has no effect. Only
the call's own return says how it ended.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import libvirt
import structlog

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainState, MigrationProgress
from pvc_plugins.hypervisors.events import tell_progress
from pvc_plugins.hypervisors.libvirt_driver.bindings import (
    LibvirtDomain,
    as_hypervisor_error,
    find_domain,
    is_not_possible_now,
    is_outgoing,
    session,
    state_of,
)

log = structlog.get_logger(__name__)

_FLAGS = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
_POLL_INTERVAL_S = 0.1
_SETTLE_TIMEOUT_S = 10.0
_SETTLE_INTERVAL_S = 0.1
_BYTES_PER_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class MigrationRequest:
    """What is to be moved, over which ways, and within which bounds."""

    uuid: str
    source_uri: str
    target_uri: str
    data_uri: str
    bandwidth_mib_s: int
    max_downtime_ms: int
    timeout_s: float


class OutgoingMigration:
    """One attempt. `run` blocks; `stop` may be called from any thread, at any time."""

    def __init__(self, request: MigrationRequest, on_progress: Callable[[MigrationProgress], None]) -> None:
        self._request = request
        self._on_progress = on_progress
        self._ends_at = time.monotonic() + request.timeout_s
        self._wake = threading.Event()
        self._stop_reason = ""
        self._was_running = True
        self._over = False

    def stop(self, reason: str) -> None:
        """Make `run` end with this reason, unless it ends by itself first."""
        self._stop_reason = self._stop_reason or reason
        self._wake.set()

    def run(self) -> None:
        """Return when the guest runs on the target and is gone here; otherwise `HypervisorError`."""
        with session(self._request.source_uri) as connection:
            domain = find_domain(connection, self._request.uuid)
            state = state_of(domain)
            if domain is None or state is None:
                raise HypervisorError(f"domain {self._request.uuid} does not run here")
            self._was_running = state is DomainState.RUNNING
            domain.migrateSetMaxDowntime(self._request.max_downtime_ms, 0)
            if self._stop_reason:
                raise HypervisorError(self._stop_reason)
            try:
                with as_hypervisor_error(connection), self._watched(domain):
                    domain.migrateToURI3(self._request.target_uri, self._parameters(), _FLAGS)
                return
            except HypervisorError as error:
                if error.connection_lost:
                    raise
                failure = error
        self._settle(failure)

    def _parameters(self) -> dict[str, object]:
        parameters: dict[str, object] = {}
        if self._request.data_uri:
            parameters[libvirt.VIR_MIGRATE_PARAM_URI] = self._request.data_uri
        if self._request.bandwidth_mib_s:
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = self._request.bandwidth_mib_s
        return parameters

    # ------------------------------------------------------------------------------- while it is under way

    @contextmanager
    def _watched(self, domain: LibvirtDomain) -> Iterator[None]:
        watcher = threading.Thread(target=self._watch, args=(domain,), name="libvirt-migration", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._over = True
            self._wake.set()
            watcher.join()

    def _watch(self, domain: LibvirtDomain) -> None:
        while not self._over:
            if time.monotonic() >= self._ends_at:
                self.stop(f"the migration took longer than {self._request.timeout_s:g} s")
            try:
                if self._stop_reason:
                    domain.abortJob()
                else:
                    self._tell(domain)
            except libvirt.libvirtError as error:
                if not is_not_possible_now(error):
                    log.warning("migration_not_watched", uuid=self._request.uuid, problem=str(error))
            self._wake.wait(_POLL_INTERVAL_S)
            self._wake.clear()

    def _tell(self, domain: LibvirtDomain) -> None:
        job = domain.jobStats()
        if not is_outgoing(job):
            return
        total_bytes = job.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL, 0)
        remaining_bytes = job.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING, 0)
        percent = 100 * (total_bytes - remaining_bytes) // total_bytes if total_bytes else 0
        progress = MigrationProgress(max(0, min(100, percent)), remaining_bytes // _BYTES_PER_MIB)
        tell_progress(self._on_progress, self._request.uuid, progress)

    # --------------------------------------------------------------------------------- when it has failed

    def _settle(self, failure: HypervisorError) -> None:
        """Return if the guest runs on the target after all; otherwise raise, saying whether it certainly runs here."""
        ends_at = time.monotonic() + _SETTLE_TIMEOUT_S
        while (whereabouts := self._whereabouts()) is _Whereabouts.UNCLEAR and time.monotonic() < ends_at:
            time.sleep(_SETTLE_INTERVAL_S)
        reason = self._stop_reason or failure.reason
        log.info("migration_failed", uuid=self._request.uuid, runs=whereabouts.value, problem=failure.reason)
        if whereabouts is not _Whereabouts.TARGET:
            raise HypervisorError(reason, connection_lost=whereabouts is _Whereabouts.UNCLEAR) from failure

    def _whereabouts(self) -> _Whereabouts:
        """Where the guest runs now. A copy that libvirt left paused is resumed or ended, if that is certainly right."""
        with session(self._request.source_uri) as connection:
            domain = find_domain(connection, self._request.uuid)
            here = state_of(domain)
            if here not in (None, DomainState.PAUSED):
                return _Whereabouts.SOURCE
            try:
                there = domain_state(self._request.target_uri, self._request.uuid)
            except HypervisorError:
                return _Whereabouts.UNCLEAR  # `_settle` tries again, then raises
            if there is DomainState.RUNNING:
                if domain is not None and here is not None:
                    domain.destroyFlags(0)
                return _Whereabouts.TARGET
            if there is not None:
                return _Whereabouts.UNCLEAR
            if domain is None or here is None:
                return _Whereabouts.NOWHERE
            if self._was_running:
                domain.resume()
            return _Whereabouts.SOURCE


class _Whereabouts(enum.Enum):
    SOURCE = "source"
    TARGET = "target"
    NOWHERE = "nowhere"
    UNCLEAR = "unclear"


def domain_state(uri: str, uuid: str) -> DomainState | None:
    """What a domain does on the host that `uri` names; None when it is not active there."""
    with session(uri) as connection:
        return state_of(find_domain(connection, uuid))
