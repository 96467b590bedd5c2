# SPDX-License-Identifier: Apache-2.0
"""host_storage: the storage backends of this host: opened when first needed, and looked at all the time.

A backend that hangs holds up nothing but the one thread that looks at it: whoever asks how the storage is gets the
last answer, or that there has been none for so long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import structlog

from pvc_core.errors import NotFound, PluginError
from pvc_core.model import Settings
from pvc_core.plugin_threads import ask_here
from pvc_core.plugin_types import PluginOptions
from pvc_core.ports import Clock, Threads
from pvc_core.storage import StorageBackend, StorageBackendEntry, StorageSite
from pvc_core.storage_health import look_at, not_usable
from pvc_core.storage_reports import BackendReport

log = structlog.get_logger(__name__)

LOOK_DEADLINE_S = 10.0
"""A backend that takes longer to say how it is counts as not usable until it has answered."""


class HostStorage:
    """The backends that are installed on this host, by name. Thread-safe."""

    def __init__(
        self,
        node: str,
        entries: Mapping[str, StorageBackendEntry],
        options: Callable[[str], PluginOptions],
        settings: Callable[[], Settings],
        clock: Clock,
        threads: Threads,
        on_change: Callable[[], None],
    ) -> None:
        """options: of a plugin, by its name. on_change: called when a backend has become usable, or no longer is."""
        self._node = node
        self._entries = entries
        self._options = options
        self._settings = settings
        self._clock = clock
        self._threads = threads
        self._on_change = on_change
        self._stopping = threads.event()
        self._lock = threads.lock()
        self._opening = {name: threads.lock() for name in entries}
        self._opened: dict[str, StorageBackend] = {}
        self._last: dict[str, BackendReport] = {}
        self._began_s: dict[str, float] = {}

    def start(self) -> None:
        """Begin to look at each backend, on a thread of its own."""
        for name in self._entries:
            self._threads.start(f"storage-{name}", partial(self._watch, name))

    def close(self) -> None:
        """Look no more. A look that hangs is not waited for."""
        self._stopping.set()

    def backend(self, name: str) -> StorageBackend:
        """The backend, opened for this host. Raises `NotFound`, and `PluginError` when it cannot be opened."""
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound("storage backend", name, tuple(self._entries))
        with self._opening[name]:
            if name not in self._opened:
                site = StorageSite(self._node, self._options(entry.plugin))
                self._opened[name] = ask_here(entry.plugin or name, entry.open, site)
            return self._opened[name]

    def reports(self) -> dict[str, BackendReport]:
        """How each backend is; those that have not been looked at yet are missing. Never waits."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            overdue = {
                name: not_usable(f"has not answered for {now_s - began_s:.0f} s")
                for name, began_s in self._began_s.items()
                if now_s - began_s >= LOOK_DEADLINE_S
            }
            return {**self._last, **overdue}

    def _watch(self, name: str) -> None:
        while not self._stopping.is_set():
            with self._lock:
                self._began_s[name] = self._clock.monotonic_s()
            report = self._look(name)
            with self._lock:
                del self._began_s[name]
                before, self._last[name] = self._last.get(name), report
            if before is None or before.usable != report.usable:
                log.info("storage_seen", node=self._node, backend=name, usable=report.usable, detail=report.detail)
                self._on_change()
            self._stopping.wait(self._settings().report_interval_s)

    def _look(self, name: str) -> BackendReport:
        plugin = self._entries[name].plugin or name
        try:
            return ask_here(plugin, lambda: look_at(plugin, self.backend(name)))
        except PluginError as failure:
            log.warning("storage_not_asked", node=self._node, backend=name, problem=failure.problem)
            return not_usable(failure.problem)
