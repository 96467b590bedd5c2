# SPDX-License-Identifier: Apache-2.0
"""jobs: which domains are being migrated away by somebody else: an earlier daemon, or an administrator.

libvirt has no list of jobs, asking costs a call per domain, and the answer may wait as long as the domain's QEMU is
stuck. So only suspects are asked: everything once after connecting, and later whatever libvirt reports a migration's
iteration of; and a domain that does not answer counts as migrating, which makes nobody touch it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import structlog

from pvc_core.errors import HypervisorError
from pvc_plugins.hypervisors.libvirt_driver.bindings import (
    LibvirtConnection,
    as_hypervisor_error,
    find_domain,
    is_migrating_away,
    session,
)

log = structlog.get_logger(__name__)

_ANSWER_TIMEOUT_S = 2.0


class ForeignJobs:
    """Migrations away from this host that this driver did not begin. Thread-safe."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._changing = threading.Lock()
        self._everybody_is_suspect = True
        self._suspects: set[str] = set()
        self._inquiry: threading.Thread | None = None

    def suspect_everybody(self) -> None:
        """After connecting: anything may have been going on."""
        with self._changing:
            self._everybody_is_suspect = True

    def suspect(self, uuid: str) -> None:
        with self._changing:
            self._suspects.add(uuid)

    def of(self, active: Iterable[str]) -> frozenset[str]:
        """Which of the active domains are migrating away, as far as could be learnt in bounded time."""
        active = frozenset(active)
        with self._changing:
            self._suspects = set(active) if self._everybody_is_suspect else self._suspects & active
            self._everybody_is_suspect = False
            if not self._suspects:
                return frozenset()
            if self._inquiry is None or not self._inquiry.is_alive():
                suspects = frozenset(self._suspects)
                self._inquiry = threading.Thread(
                    target=self._inquire, args=(suspects,), name="libvirt-jobs", daemon=True
                )
                self._inquiry.start()
            inquiry = self._inquiry
        inquiry.join(_ANSWER_TIMEOUT_S)
        with self._changing:
            return frozenset(self._suspects & active)

    def _inquire(self, suspects: frozenset[str]) -> None:
        """Clear those that do not migrate."""
        try:
            with session(self._uri) as connection:
                for uuid in suspects:
                    self._ask(connection, uuid)
        except HypervisorError as error:
            log.warning("migrations_of_others_unknown", problem=error.reason)

    def _ask(self, connection: LibvirtConnection, uuid: str) -> None:
        try:
            with as_hypervisor_error(connection):
                domain = find_domain(connection, uuid)
                if domain is not None and is_migrating_away(domain):
                    return
        except HypervisorError as error:
            if error.connection_lost:
                raise
            log.warning("migration_of_others_unknown", uuid=uuid, problem=error.reason)
            return
        with self._changing:
            self._suspects.discard(uuid)
