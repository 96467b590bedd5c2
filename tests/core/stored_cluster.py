# SPDX-License-Identifier: Apache-2.0
"""stored_cluster: a real embedded store with nodes that are only records, and the view and commands on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.errors import PvcError
from pvc_core.model import Member, NodeMode, NodeRecord, NodeReport, VmMetadata, VmRecord
from pvc_core.ports import Clock, ClusterStore, Create, Set
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.system_clock import SystemClock
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import VmEvent
from pvc_plugins.stores.embedded import SqliteStore

# -------------------------------------------------------------------------------------- a cluster on a real store


class StoredCluster:
    """A store in a file, with nodes that are only records, a view and the commands on it."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder = folder
        self.url = f"sqlite://{folder}/store.db?synchronous=normal"
        self.registry = registry
        self._opened: list[ClusterStore] = []
        self._views: list[ClusterView] = []
        self.store = self.new_store()
        self.store.ensure(layout.DIRECTORIES)
        self._view: ClusterView | None = None

    def new_store(self) -> SqliteStore:
        """Another session."""
        store = SqliteStore(self.url)
        store.start()
        self._opened.append(store)
        return store

    def new_view(self, store: ClusterStore | None = None, clock: Clock | None = None) -> ClusterView:
        """Another watched copy."""
        view = ClusterView(store or self.new_store(), clock or SystemClock())
        view.start()
        self._views.append(view)
        return view

    def new_commands(self, store: ClusterStore | None = None) -> Commands:
        """Another process's commands."""
        store = store or self.new_store()
        return Commands(self.new_view(store), store, self.registry, ManualClock())

    @property
    def view(self) -> ClusterView:
        """A watched copy, made when it is first looked at: of what was put before, no watch is still to tell."""
        if self._view is None:
            self._view = self.new_view(self.store)
        return self._view

    @property
    def commands(self) -> Commands:
        """The commands on that copy."""
        return Commands(self.view, self.store, self.registry, ManualClock())

    def close(self) -> None:
        for view in self._views:
            view.close()
        for store in self._opened:
            store.close()

    # -------------------------------------------------------------------------------------- what is in it

    def put(self, key: str, value: msgspec.Struct | bytes) -> None:
        """Write a value whatever its version, as somebody else would."""
        data = value if isinstance(value, bytes) else encode(value)
        current = self.store.get(key)
        self.store.transaction([Set(key, data, current.version) if current else Create(key, data)])
        if self._view is not None:
            self.settle()

    def add_nodes(self, *names: str, memory_mib: int = 4096, alive: bool = True, **record: Any) -> None:
        """Register nodes as their daemons would."""
        for name in names:
            self.put(layout.node(name), NodeRecord(name=name, **record))
            report = NodeReport(
                node=name, memory_total_mib=memory_mib, memory_available_mib=memory_mib, cores=8, load_1m=0.0
            )
            self.put(layout.report(name), report)
            if alive:
                self.put(layout.member(name), Member(node=name, session="s", version="test"))

    def set_mode(self, name: str, mode: NodeMode | str) -> None:
        """The leader's word on a node."""
        record = self.snapshot().node(name).record.value
        self.put(layout.node(name), msgspec.structs.replace(record, mode=NodeMode(mode)))

    def happens(self, vm: str, *events: VmEvent) -> VmRecord:
        """An agent finds something out."""
        for event in events:

            def decide(snapshot: ClusterSnapshot, event: VmEvent = event) -> Change:
                stored = snapshot.vm(vm)
                ledgers = changes.ledgers_of(snapshot, stored.value.node, stored.value.target)
                return changes.of_event(stored, event, f"{event}", "", ledgers)

            self.view.commit(decide)
        return self.snapshot().vm(vm).value

    def snapshot(self) -> ClusterSnapshot:
        """What is in the store now, read afresh."""
        return self.view.snapshot()

    def settle(self) -> None:
        """Let the view catch up with what was written past it."""
        apart = (layout.SETTINGS, layout.RULES)
        keys = [key for key in self.content() if key.rpartition("/")[0] != "" or key in apart]
        self.view.refresh(keys)

    def content(self) -> dict[str, tuple[bytes, int]]:
        """Everything that is in the store: values and versions by key."""
        found: dict[str, tuple[bytes, int]] = {}

        def walk(parent: str) -> None:
            for name in self.store.children(parent):
                key = f"{parent.rstrip('/')}/{name}"
                entry = self.store.get(key)
                if entry is not None:
                    found[key] = (entry.data, entry.version)
                walk(key)

        walk("/")
        return found


# ------------------------------------------------------------------------------------ what tests say of it

UUID = "6f1c2f8e-0d1b-4c3a-9a55-2d1f0a7be111"
OTHER_UUID = "00000000-1111-2222-3333-444444444444"
ANY = VmMetadata()
Xml = Callable[..., str]
Misfits = Callable[[ClusterSnapshot], list[str]]


def limited(*nodes: str, **more: Any) -> VmMetadata:
    return VmMetadata(node_limit=nodes, **more)


@contextmanager
def refused_without_a_trace(cluster: Any, error: type[PvcError], match: str | None = None) -> Iterator[Any]:
    """The command fails with this error, and the store is, key by key, what it was."""
    before = cluster.content()
    with pytest.raises(error, match=match) as caught:
        yield caught
    assert cluster.content() == before


def vm(cluster: Any, name: str = "web1") -> VmRecord:
    record: VmRecord = cluster.snapshot().vm(name).value
    return record
