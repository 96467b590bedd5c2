# SPDX-License-Identifier: Apache-2.0
"""storage_health: how a storage backend is, asked of it on one host, as the host's report says it."""

from __future__ import annotations

from textwrap import shorten

from pvc_core.errors import PluginError
from pvc_core.storage import StorageBackend, StorageHealth
from pvc_core.storage_reports import BackendReport

DETAIL_LENGTH = 300
"""Of a backend's sentence in a report, which is written every few seconds."""


def look_at(plugin: str, backend: StorageBackend) -> BackendReport:
    """Ask a backend how it is. Takes as long as the backend does; raises `PluginError` for what is no answer."""
    health, capabilities = backend.health(), backend.capabilities
    if not isinstance(health, StorageHealth):
        raise PluginError(plugin, f"health returned a {type(health).__name__} instead of a StorageHealth")
    if not isinstance(capabilities, frozenset):
        raise PluginError(plugin, f"capabilities is a {type(capabilities).__name__} instead of a frozenset")
    return BackendReport(
        usable=bool(health.usable),
        detail=_short(health.detail),
        capabilities=tuple(sorted(str(each) for each in capabilities)),
    )


def not_usable(reason: str) -> BackendReport:
    """Of a backend that could not be asked."""
    return BackendReport(usable=False, detail=_short(reason))


def _short(sentence: object) -> str:
    return shorten(str(sentence), DETAIL_LENGTH, placeholder=" ...")
