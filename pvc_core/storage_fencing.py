# SPDX-License-Identifier: Apache-2.0
"""storage_fencing: how the leader has a storage backend shut a node's clients out, and let them in again.

Every call is bounded in time, the opening of the backend included. Shutting out fails closed: what is no confirmation
is a refusal with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from pvc_core.errors import NotFound, PvcError, Refused
from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import PluginOptions
from pvc_core.storage import (
    FENCE_DEADLINE_S,
    FencesClients,
    StorageBackend,
    StorageBackendEntry,
    StorageCapability,
    fence_clients,
)
from pvc_core.storage_access import StorageAccess


class StorageFencing:
    """The backends of one host that can shut nodes out. Thread-safe."""

    def __init__(
        self,
        calls: PluginCalls,
        entries: Mapping[str, StorageBackendEntry],
        open_backend: Callable[[str], StorageBackend],
        options: Callable[[str], PluginOptions],
    ) -> None:
        """open_backend: gives the backend of a name, opened for this host. options: of a plugin, by its name."""
        self._calls = calls
        self._entries = entries
        self._open = open_backend
        self._options = options
        self._access = StorageAccess(calls, entries, open_backend)

    def shut_out(self, backend: str, request: FenceRequest) -> FenceVerdict:
        """Have a backend shut the node's clients out. Raises `NotFound` for one that is not here."""
        entry = self._entry(backend)
        asked = _OpenedWhenAsked(backend, self._open)
        return fence_clients(entry, asked, request, self._calls, self._options(entry.plugin))

    def admit(self, backend: str, request: FenceRequest) -> None:
        """Have a backend let the node's clients in again.

        Raises `NotFound` for one that is not here, `Refused` for one that cannot, its own errors, or `PluginError`.
        """
        asked = replace(request, options=self._options(self._entry(backend).plugin))
        self._access.ask(backend, lambda opened: _able(backend, opened).admit_clients(asked), FENCE_DEADLINE_S)

    def _entry(self, backend: str) -> StorageBackendEntry:
        entry = self._entries.get(backend)
        if entry is None:
            raise NotFound("storage backend", backend, tuple(self._entries))
        return entry


class _OpenedWhenAsked:
    """A backend that is opened within the time for its answer; its own errors are answers."""

    def __init__(self, backend: str, open_backend: Callable[[str], StorageBackend]) -> None:
        self._backend = backend
        self._open = open_backend

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        try:
            return _able(self._backend, self._open(self._backend)).fence_clients(request)
        except PvcError as refusal:
            return FenceVerdict(False, refusal.sentence())

    def admit_clients(self, request: FenceRequest) -> None:
        _able(self._backend, self._open(self._backend)).admit_clients(request)


def _able(name: str, backend: StorageBackend) -> FencesClients:
    if StorageCapability.FENCE_CLIENTS not in backend.capabilities:
        raise Refused(f"storage backend {name}", "cannot shut nodes out")
    return cast(FencesClients, backend)
