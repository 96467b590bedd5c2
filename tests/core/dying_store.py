# SPDX-License-Identifier: Apache-2.0
"""dying_store: a store whose process dies before or after one of its transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pvc_core.cluster_view import ClusterView
from pvc_core.commands import Commands
from pvc_core.ports import Op
from pvc_core.registry import Registry
from pvc_core.system_clock import SystemClock
from pvc_core.testing.manual_clock import ManualClock
from pvc_plugins.stores.embedded import SqliteStore


class Killed(BaseException):
    """The process dies."""


class Dying(SqliteStore):
    """Ends its process before or after one of its transactions."""

    def __init__(self, url: str, at: int, *, before: bool) -> None:
        super().__init__(url)
        self._at, self._before, self._count = at, before, 0

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        self._count += 1
        if self._count == self._at and self._before:
            raise Killed
        done = super().transaction(ops)
        if self._count == self._at:
            raise Killed
        return done


def carry_out_and_die(
    url: str, registry: Registry, command: Callable[[Commands], object], at: int, *, before: bool
) -> None:
    """Give a command in a process that dies at one of its transactions, if there are as many."""
    store = Dying(url, at, before=before)
    store.start()
    view = ClusterView(store, SystemClock())
    view.start()
    try:
        command(Commands(view, store, registry, ManualClock()))
    except Killed:
        print(f"it died at transaction {at}")
    finally:
        view.close()
        store.close()
