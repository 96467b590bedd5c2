# SPDX-License-Identifier: Apache-2.0
"""storage_access: how a process asks the storage backends of its host: by name, and every call bounded in time.

What a backend answers with an error of PVC's, such as a volume that is not there, is an answer. Anything else that it
raises, and an answer that does not come in time, is a `PluginError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pvc_core.disk_xml import marked_disk
from pvc_core.errors import NotFound, PvcError
from pvc_core.host_secrets import HostSecret
from pvc_core.model import Settings
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import PluginOptions
from pvc_core.registry import Registry
from pvc_core.storage import KeepsHostSecrets, StorageBackend, StorageBackendEntry, StorageSite
from pvc_core.vm_volumes import VmVolume

T = TypeVar("T")
ANSWER_S = 30.0
"""How long a backend may take for what is neither a copy nor a conversion."""


class StorageAccess:
    """The storage backends as seen from one host. Thread-safe.

    open_backend: gives the backend of a name, opened for this host; called within the time for the answer.
    """

    def __init__(
        self,
        calls: PluginCalls,
        entries: Mapping[str, StorageBackendEntry],
        open_backend: Callable[[str], StorageBackend],
    ) -> None:
        self._calls = calls
        self._entries = entries
        self._open = open_backend

    def ask(self, backend: str, question: Callable[[StorageBackend], T], deadline_s: float = ANSWER_S) -> T:
        """What the backend answers. Raises `NotFound` for one that is not here, its own errors, or `PluginError`."""
        entry = self._entries.get(backend)
        if entry is None:
            raise NotFound("storage backend", backend, tuple(self._entries))

        def answered() -> T | PvcError:
            try:
                return question(self._open(backend))
            except PvcError as refusal:
                return refusal

        answer = self._calls.insist(entry.plugin or backend, answered, deadline_s=deadline_s)
        if isinstance(answer, PvcError):
            raise answer
        return answer

    def is_shared(self, backend: str, pool: str) -> bool:
        """Whether every node reaches the same volumes in this pool. Raises as `ask`."""
        return self.ask(backend, lambda opened: opened.is_shared(pool))

    def host_secrets(self, backend: str) -> tuple[HostSecret, ...]:
        """What a hypervisor has to know before it has disks of this backend, often nothing. Raises as `ask`."""

        def asked(opened: StorageBackend) -> tuple[HostSecret, ...]:
            secrets = tuple(opened.host_secrets()) if isinstance(opened, KeepsHostSecrets) else ()
            if not all(isinstance(each, HostSecret) for each in secrets):
                raise TypeError("host_secrets returned something else than HostSecrets")
            return secrets

        return self.ask(backend, asked)

    def disk_of(self, volume: VmVolume) -> str:
        """The `<disk>` element of a VM's volume on this host, under its mark. Raises as `ask`, and `InvalidInput`."""
        xml = self.ask(volume.backend, lambda opened: opened.disk_xml(volume.pool, volume.name, volume.device))
        return marked_disk(xml, volume)


class OutsideNodes:
    """Opens backends for a process that is no node's, each once for as long as it is configured the same."""

    def __init__(self, registry: Registry, settings: Callable[[], Settings]) -> None:
        """`settings`: the cluster's, in which plugins have theirs."""
        self._registry = registry
        self._settings = settings
        self._opened: dict[str, tuple[PluginOptions, StorageBackend]] = {}

    def backend(self, name: str) -> StorageBackend:
        """Without a lock, behind which one backend could hold up the others."""
        entry = self._registry.storage_backends[name]
        options = self._registry.options(entry.plugin, self._settings())
        known = self._opened.get(name)
        if known is None or known[0] != options:
            known = self._opened[name] = (options, entry.open(StorageSite("", options)))
        return known[1]
