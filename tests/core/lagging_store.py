# SPDX-License-Identifier: Apache-2.0
"""lagging_store: a store whose watches are late, as every watch may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import Entry, Subscription
from pvc_core.testing.counting_store import CountingStore


class LaggingStore(CountingStore):
    """A store whose watches tell, after the first time, only what the test says, when it says so."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._listeners: dict[str, Callable[[Any], None]] = {}
        self.is_away = False

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        self._listeners[key] = listener
        return super().watch(key, self._only_once(listener))

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        self._listeners[parent] = listener
        return super().mirror(parent, self._only_once(listener))

    def get_many(self, keys: Any) -> dict[str, Entry]:
        if self.is_away:
            raise StoreUnavailable("no answer")
        return super().get_many(keys)

    def tells(self, key: str, entry: Entry | None) -> None:
        """The watch tells of this key."""
        if key in self._listeners:
            self._listeners[key](entry)
        else:
            self._listeners[key.rpartition("/")[0]]({key: entry})

    @staticmethod
    def _only_once(listener: Callable[[Any], None]) -> Callable[[Any], None]:
        told: list[bool] = []

        def listen(news: Any) -> None:
            if not told:
                told.append(True)
                listener(news)

        return listen
