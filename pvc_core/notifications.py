# SPDX-License-Identifier: Apache-2.0
"""notifications: tells plugins what this process has changed: after the commit, apart from it, at most once.

A command or a decision never waits for a plugin that wants to know of it: what happened stands in a queue, and one
thread goes through the plugins. When that falls behind, the oldest is dropped and the log says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import structlog

from pvc_core.background_queue import BackgroundQueue
from pvc_core.errors import PluginError
from pvc_core.events import VmChange
from pvc_core.hook_calls import HookImplementation, call_hook, ignored
from pvc_core.journal import Written
from pvc_core.model import Settings
from pvc_core.plugin_calls import log_failure
from pvc_core.ports import Threads
from pvc_core.registry import Registry
from pvc_core.system_threads import SYSTEM_THREADS

log = structlog.get_logger(__name__)

QUEUE_LENGTH = 1000
HOOKS = ("pvc_vm_changed", "pvc_node_changed", "pvc_event")


class Notifier:
    """Calls the hooks of all plugins that want to know. A `Journal` calls it with every event it has written.

    on_dropped: told how many were dropped because plugins were slower than changes came; by default the log is.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Callable[[], Settings],
        on_plugin_failure: Callable[[PluginError], None] = log_failure,
        queue_length: int = QUEUE_LENGTH,
        on_dropped: Callable[[int], None] | None = None,
        threads: Threads = SYSTEM_THREADS,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._on_plugin_failure = on_plugin_failure
        self._hooks = {hook: registry.implementations(hook) for hook in HOOKS}
        self._queue = BackgroundQueue("notifications", queue_length, self.tell, on_dropped or _log_dropped, threads)

    @property
    def has_begun(self) -> bool:
        """Whether there is a thread that tells plugins."""
        return self._queue.has_begun

    def __call__(self, written: Written) -> None:
        """Something has happened. Returns at once."""
        if any(self._hooks.values()):
            self._queue.put(written)

    def close(self, patience_s: float = 1.0) -> None:
        """Tell what is waiting, if the plugins let it within the time, and nothing more."""
        self._queue.close(patience_s)

    def tell(self, written: Written) -> None:
        """Go through the plugins now, on this thread, as a test may want it."""
        if written.change is not None:
            hook = "pvc_vm_changed" if isinstance(written.change, VmChange) else "pvc_node_changed"
            for implementation in self._hooks[hook]:
                self._call(implementation, "change", written.change)
        for implementation in self._hooks["pvc_event"]:
            self._call(implementation, "event", written.event)

    def _call(self, implementation: HookImplementation, name: str, news: object) -> None:
        """Every plugin gets a copy of its own: what it changes in a node's labels, it changes for nobody else."""
        offered = {name: copy.deepcopy(news)}
        try:
            call_hook(self._registry, implementation, offered, self._settings(), ignored)
        except PluginError as failure:
            self._on_plugin_failure(failure)


def _log_dropped(count: int) -> None:
    log.warning("notifications_dropped", count=count)
