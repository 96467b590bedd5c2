# SPDX-License-Identifier: Apache-2.0
"""system_threads: the operating system's threads, which everything but a simulator uses."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pvc_core.ports import Condition, Event, Lock, Thread


class SystemThreads:
    """Implements `pvc_core.ports.Threads`."""

    def start(self, name: str, body: Callable[[], None]) -> Thread:
        """A daemon thread, already running."""
        thread = _SystemThread(target=body, name=name, daemon=True)
        thread.start()
        return thread

    def lock(self) -> Lock:
        """A lock."""
        return threading.Lock()

    def event(self) -> Event:
        """A flag that is not set."""
        return threading.Event()

    def condition(self) -> Condition:
        """A condition with a lock of its own."""
        return threading.Condition()


class _SystemThread(threading.Thread):
    def join(self, timeout_s: float | None = None, /) -> None:
        """Wait until it has ended; on the thread itself, which nobody can wait for, return at once."""
        if self is not threading.current_thread():
            super().join(timeout_s)


SYSTEM_THREADS = SystemThreads()
"""It holds nothing, so one is enough."""
