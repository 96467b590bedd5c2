# SPDX-License-Identifier: Apache-2.0
"""migration: one live migration away from this host, from its beginning to a certain end.

libvirt moves the guest from host to host itself (peer to peer), in one call that blocks. A second thread looks at the
job meanwhile, tells its progress, and aborts it when it takes too long or is cancelled: again and again until the call
returns, since an abort before the job has begun or after the last byte is refused by libvirt or has no effect. Only
the call's own return says how it ended.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import libvirt
import structlog

from pvc_core.errors import HypervisorError
from pvc_core.hypervisor_events import tell_progress
from pvc_core.ports import DomainState, MigrationProgress
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
_STUCK_AFTER_S = 2.0
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
        self._switched_over = False
        self._stuck_since_s = math.inf
        self._over = False

    def stop(self, reason: str) -> None:
        """Make `run` end with this reason, unless it ends by itself first."""
        self._stop_reason = self._stop_reason or reason
        self._wake.set()

    def note_switch_over(self) -> None:
        """The guest was paused here for its last bytes: from now on it may have been started on the target."""
        self._switched_over = True

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
                    self._free_if_stuck(domain)
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

    def _free_if_stuck(self, domain: LibvirtDomain) -> None:
        """Help libvirt out when the abort has met the switch-over.

        QEMU has cancelled the migration and runs the guest again, while libvirt (9.0 at least) waits for ever for the
        pause that it has just missed. Pausing the guest lets libvirt find out; it resumes the guest itself.
        """
        if not self._switched_over:
            return
        job = domain.jobStats()
        is_cancelled_in_qemu = is_outgoing(job) and not job.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL)
        if not is_cancelled_in_qemu or state_of(domain) is not DomainState.RUNNING:
            self._stuck_since_s = math.inf
            return
        self._stuck_since_s = min(self._stuck_since_s, time.monotonic())
        if time.monotonic() >= self._stuck_since_s + _STUCK_AFTER_S:
            log.warning("migration_abort_stuck", uuid=self._request.uuid)
            domain.suspend()
            self._stuck_since_s = math.inf

    # --------------------------------------------------------------------------------- when it has failed

    def _settle(self, failure: HypervisorError) -> None:
        """Return if the guest runs on the target after all; otherwise raise, saying whether it certainly runs here.

        libvirt resumes the guest here also when it does not know whether the target has started it, because the
        target's libvirtd died in that moment. So the target is asked, and a second copy ended.
        """
        ends_at = time.monotonic() + _SETTLE_TIMEOUT_S
        while not (look := self._look()).is_certain and time.monotonic() < ends_at:
            time.sleep(_SETTLE_INTERVAL_S)
        log.warning(
            "migration_failed",
            uuid=self._request.uuid,
            target=self._request.target_uri,
            here=look.here and look.here.value,
            there=look.there and look.there.value,
            certain=look.is_certain,
            problem=failure.reason,
        )
        if look.here is None and look.there is DomainState.RUNNING:
            return
        reason = failure.reason if look.here is None else self._stop_reason or failure.reason
        is_lost = not look.is_certain and look.here is not DomainState.RUNNING
        raise HypervisorError(reason, connection_lost=is_lost) from failure

    def _look(self) -> _Look:
        """Where the guest is active; what libvirt left behind is resumed or ended, where that is certainly right."""
        with session(self._request.source_uri) as source:
            domain = find_domain(source, self._request.uuid)
            here = state_of(domain)
            is_as_before = here is not None and (here is DomainState.PAUSED) is not self._was_running
            if is_as_before and not self._switched_over:
                return _Look(here, None, is_certain=True)
            try:
                with session(self._request.target_uri) as target:
                    return self._reconcile(domain, here, find_domain(target, self._request.uuid))
            except HypervisorError as error:
                log.warning("migration_target_not_seen", target=self._request.target_uri, problem=error.reason)
                return _Look(here, None, is_certain=False)

    def _reconcile(self, domain: LibvirtDomain | None, here: DomainState | None, copy: LibvirtDomain | None) -> _Look:
        there = state_of(copy)
        if domain is not None and here is DomainState.PAUSED:
            if there is DomainState.RUNNING:
                domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
                return _Look(None, there, is_certain=True)
            if there is None and self._was_running:
                domain.resume()
                return _Look(DomainState.RUNNING, None, is_certain=True)
            return _Look(here, there, is_certain=there is None)
        if here is None:
            return _Look(here, there, is_certain=there in (None, DomainState.RUNNING))
        if copy is not None and there is DomainState.RUNNING:
            log.error("vm_ran_on_two_nodes", uuid=self._request.uuid, ended_on=self._request.target_uri)
            copy.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)
        return _Look(here, None, is_certain=True)


@dataclass(frozen=True, slots=True)
class _Look:
    """What the guest does on both hosts. Not certain: look again."""

    here: DomainState | None
    there: DomainState | None
    is_certain: bool


def domain_state(uri: str, uuid: str) -> DomainState | None:
    """What a domain does on the host that `uri` names; None when it is not active there."""
    with session(uri) as connection:
        return state_of(find_domain(connection, uuid))
