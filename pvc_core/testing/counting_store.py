# SPDX-License-Identifier: Apache-2.0
"""counting_store: a store that counts the requests made through it, to keep promises such as "one name, one request".

It counts what is asked of the store, pipelined or not: a `get` of many keys costs the server that many. What a
driver reads on its own for its watches after the first call is not counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pvc_core.ports import ClusterStore, Entry, Op, SessionState, Subscription


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the store: the method, the keys it was about, and the requests it counts for."""

    method: str
    keys: tuple[str, ...]
    requests: int


class CountingStore:
    """Passes everything on to `inner`. `requests` is the sum since the last `reset`, `calls` tells them apart."""

    def __init__(self, inner: ClusterStore) -> None:
        self.inner = inner
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls since the last `reset`, oldest first."""
        with self._lock:
            return tuple(self._calls)

    @property
    def requests(self) -> int:
        """How many requests they were."""
        return sum(call.requests for call in self.calls)

    def reset(self) -> None:
        """Count from 0 again."""
        with self._lock:
            self._calls.clear()

    def start(self) -> None:
        self.inner.start()

    def close(self) -> None:
        self.inner.close()

    @property
    def session_state(self) -> SessionState:
        return self.inner.session_state

    @property
    def session_id(self) -> str:
        return self.inner.session_id

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return self.inner.add_session_listener(listener)

    def ensure(self, keys: Sequence[str]) -> None:
        self._count("ensure", keys, len(keys))
        self.inner.ensure(keys)

    def get(self, key: str) -> Entry | None:
        self._count("get", [key])
        return self.inner.get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        self._count("get_many", keys, len(keys))
        return self.inner.get_many(keys)

    def children(self, key: str) -> tuple[str, ...]:
        self._count("children", [key])
        return self.inner.children(key)

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        self._count("transaction", [op.key for op in ops])
        return self.inner.transaction(ops)

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        self._count("rename", [source, destination, *(op.key for op in also)])
        self.inner.rename(source, destination, also)

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        self._count("watch", [key])
        return self.inner.watch(key, listener)

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        """Counts one for the list of children and one for each child in the first call."""
        is_first = True

        def first_counts(news: Mapping[str, Entry | None]) -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                self._count("mirror", [parent], 1 + len(news))
            listener(news)

        return self.inner.mirror(parent, first_counts)

    def _count(self, method: str, keys: Sequence[str], requests: int = 1) -> None:
        with self._lock:
            self._calls.append(Call(method, tuple(keys), requests))
