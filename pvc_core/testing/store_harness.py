# SPDX-License-Identifier: Apache-2.0
"""store_harness: what the store's conformance suite needs to know of a driver, and how its tests wait.

Nothing is slept for: a listener records what it is told and wakes the test, everything else is polled against
a deadline that only a hanging driver reaches. `PVC_SUITE_DEADLINE_S` sets another one, for a driver in the making.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pvc_core.errors import DeadlineExceeded
from pvc_core.ports import ClusterStore

T = TypeVar("T")

DEADLINE_S = 60.0
DEADLINE_VARIABLE = "PVC_SUITE_DEADLINE_S"
_POLL_S = 0.005


class StoreHarness(ABC):
    """One empty store, the sessions a test opens on it, and the faults that can be put between."""

    def __init__(self) -> None:
        self._opened: list[ClusterStore] = []

    @property
    @abstractmethod
    def opener(self) -> Callable[[], ClusterStore]:
        """Builds a store on the same data, not started. Picklable: other processes call it too."""

    @abstractmethod
    def expire_session(self, store: ClusterStore) -> None:
        """End the store's session behind its back, as the server does after the session timeout."""

    @abstractmethod
    def disconnect(self, store: ClusterStore) -> None:
        """Cut the store off from its data, for less time than its session lives."""

    @abstractmethod
    def reconnect(self, store: ClusterStore) -> None:
        """Undo `disconnect`. The store finds out by itself."""

    def build_store(self) -> ClusterStore:
        """A store that `disconnect` can cut off, not started."""
        return self.opener()

    def new_store(self) -> ClusterStore:
        """Another session, closed at the end of the test."""
        store = self.build_store()
        self._opened.append(store)
        store.start()
        return store

    def close(self) -> None:
        """End all sessions."""
        for store in self._opened:
            store.close()


class Recorder(Generic[T]):
    """A listener that remembers what it was told."""

    def __init__(self) -> None:
        self._told: list[T] = []
        self._changed = threading.Condition()

    def __call__(self, value: T) -> None:
        with self._changed:
            self._told.append(value)
            self._changed.notify_all()

    @property
    def told(self) -> list[T]:
        """All it was told so far."""
        with self._changed:
            return list(self._told)

    def wait_until(self, holds: Callable[[Sequence[T]], bool], what: str) -> list[T]:
        """Wait until what it was told satisfies `holds`, and return it."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self._told), deadline_s()):
                raise DeadlineExceeded(f"{what}; told so far: {self._told[-5:]!r}", deadline_s())
            return list(self._told)

    def wait_for_last(self, value: T) -> None:
        """Wait until `value` is the last it was told."""
        self.wait_until(lambda told: bool(told) and told[-1] == value, f"last told {value!r}")


def deadline_s() -> float:
    """How long a rule waits for what has to happen."""
    return float(os.environ.get(DEADLINE_VARIABLE) or DEADLINE_S)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Poll until `holds`; raises `DeadlineExceeded`."""
    ends_at_s = time.monotonic() + deadline_s()
    while not holds():
        if time.monotonic() >= ends_at_s:
            raise DeadlineExceeded(what, deadline_s())
        time.sleep(_POLL_S)


def in_threads(*bodies: Callable[[], object]) -> None:
    """Run all at once and wait; raises the first error."""
    errors: list[BaseException] = []

    def run(body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001  # raised again below, on the test's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise DeadlineExceeded("threads of the test", DEADLINE_S)
