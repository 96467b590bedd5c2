# SPDX-License-Identifier: Apache-2.0
"""giving_secrets: when this host's hypervisor is given what the disks of its storage need.

Before every disk of a guest here, because a hypervisor that was restarted has forgotten it and a key may be another
one by now. And without such an occasion, for guests that come from other hosts: when a backend has become usable, when
the hypervisor is there (again), and once in a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from pvc_core.errors import HypervisorError, PvcError
from pvc_core.ports import Hypervisor, Threads
from pvc_core.storage_access import StorageAccess
from pvc_core.storage_reports import BackendReport
from pvc_core.vm_volumes import VmVolume

log = structlog.get_logger(__name__)

RENEW_S = 60.0
"""How often the hypervisor is given all secrets, which may have changed."""
RETRY_S = 5.0
"""How soon those that could not be given are tried again."""


class GivingSecrets:
    """The secrets of one host's storage, and its hypervisor. Thread-safe."""

    def __init__(
        self,
        node: str,
        hypervisor: Hypervisor,
        access: StorageAccess,
        reports: Callable[[], Mapping[str, BackendReport]],
        threads: Threads,
    ) -> None:
        """reports: how the backends are; only usable ones are asked without an occasion."""
        self._node = node
        self._hypervisor = hypervisor
        self._access = access
        self._reports = reports
        self._threads = threads
        self._look = threads.event()
        self._stopping = threads.event()
        self._problems: dict[str, str] = {}

    def start(self) -> None:
        """Give all secrets whenever there is reason to, on a thread."""
        self._threads.start("secrets", self._run)

    def wake(self) -> None:
        """A backend has become usable, or the hypervisor is there again."""
        self._look.set()

    def close(self) -> None:
        """Give no more."""
        self._stopping.set()
        self._look.set()

    def disk_of(self, volume: VmVolume) -> str:
        """As `StorageAccess.disk_of`, once the hypervisor has the secrets. Raises `HypervisorError` besides."""
        self.give(volume.backend)
        return self._access.disk_of(volume)

    def give(self, backend: str) -> None:
        """Give those of one backend. Raises as `StorageAccess.ask`, and `HypervisorError` naming the backend."""
        for secret in self._access.host_secrets(backend):
            try:
                self._hypervisor.ensure_secret(secret)
            except HypervisorError as error:
                problem = f"the hypervisor does not take the secret of the storage backend {backend}: {error.reason}"
                raise HypervisorError(problem, error.connection_lost) from error

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._look.wait(RENEW_S if self._give_all() else RETRY_S)
            self._look.clear()

    def _give_all(self) -> bool:
        """Whether every usable backend's are known now; what is wrong is logged once."""
        usable = [name for name, report in self._reports().items() if report.usable]
        problems: dict[str, str] = {}
        for backend in usable:
            try:
                self.give(backend)
            except PvcError as error:
                problems[backend] = error.sentence()
                if self._problems.get(backend) != problems[backend]:
                    log.warning("secret_not_given", node=self._node, backend=backend, problem=problems[backend])
        self._problems = problems
        return not problems
