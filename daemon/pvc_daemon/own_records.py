# SPDX-License-Identifier: Apache-2.0
"""own_records: the watched copy of one node's record, its ledger and the VMs in it: all that an agent reads.

Nothing else is watched, so that a node's cost does not grow with the cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from pvc_core import layout
from pvc_core.codec import Stored, decode
from pvc_core.errors import BrokenRecord
from pvc_core.fence_standing import waits_for_leader
from pvc_core.model import Ledger, NodeRecord, Settings, VmRecord
from pvc_core.pause_record import MaintenanceRecord
from pvc_core.ports import ClusterStore, Entry, Subscription, Threads
from pvc_core.vm_states import OFF

log = structlog.get_logger(__name__)
T = TypeVar("T", bound=msgspec.Struct)
DEFAULT_SETTINGS = Settings()


class OwnRecords:
    """The record and the ledger of `node`, the records of its VMs, and the cluster's settings. Thread-safe."""

    def __init__(self, store: ClusterStore, node: str, on_change: Callable[[], None], threads: Threads) -> None:
        self._store = store
        self._node = node
        self._on_change = on_change
        self._lock = threads.lock()
        self._ledger: Stored[Ledger] | None = None
        self._is_being_recovered = False
        self._cluster_is_paused = False
        self._node_is_paused = False
        self._settings = DEFAULT_SETTINGS
        self._vms: dict[str, Stored[VmRecord]] = {}
        self._ahead: dict[str, int] = {}
        """Versions this agent wrote or read itself, which a watch has yet to confirm."""
        self._doubtful: set[str] = set()
        """VMs of which a watch told an older version: it is late, or the record was made anew."""
        self._watches: dict[str, Subscription] = {}
        self._subscriptions: list[Subscription] = []

    def start(self) -> None:
        """Read and watch. Raises `StoreUnavailable`."""
        self._subscriptions.append(self._store.watch(layout.SETTINGS, self._settings_changed))
        self._subscriptions.append(self._store.watch(layout.MAINTENANCE, self._maintenance_changed))
        self._subscriptions.append(self._store.watch(layout.node(self._node), self._node_changed))
        self._subscriptions.append(self._store.watch(layout.ledger(self._node), self._ledger_changed))

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            subscriptions = [*self._subscriptions, *self._watches.values()]
            self._subscriptions.clear()
            self._watches.clear()
        for subscription in subscriptions:
            subscription.cancel()

    @property
    def settings(self) -> Settings:
        """The cluster's settings as last seen."""
        return self._settings

    @property
    def ledger(self) -> Stored[Ledger] | None:
        """This node's ledger as last seen; None before the first assignment."""
        return self._ledger

    @property
    def is_being_recovered(self) -> bool:
        """This node was confirmed to be off, and its VMs are being given to others: none of them is ours to start."""
        return self._is_being_recovered

    @property
    def is_paused(self) -> bool:
        """The cluster or this node is in maintenance, as last seen."""
        return self._cluster_is_paused or self._node_is_paused

    def vms(self) -> dict[str, Stored[VmRecord]]:
        """A copy of the VMs in the ledger by UUID; those whose record does not parse are missing."""
        with self._lock:
            return dict(self._vms)

    def owns_vms(self) -> bool:
        """Whether a VM may run on this node, is on its way here, or cannot be read."""
        with self._lock:
            reserved = self._ledger.value.vms if self._ledger else {}
            vms = [(held.incoming, self._vms.get(uuid)) for uuid, held in reserved.items()]
        return any(incoming or vm is None or vm.value.state not in OFF for incoming, vm in vms)

    def vm(self, uuid: str) -> Stored[VmRecord] | None:
        """One of them."""
        with self._lock:
            return self._vms.get(uuid)

    def absorb(self, entry: Entry) -> None:
        """Take over a VM's record that was just written or read, before the watch tells."""
        with self._lock:
            uuid = layout.name_in(entry.key)
            current = self._vms.get(uuid)
            if uuid in self._watches and (current is None or entry.version >= current.version):
                self._ahead[uuid] = entry.version
                self._put(uuid, entry)

    # -------------------------------------------------------------------------------------- from the store

    def _settings_changed(self, entry: Entry | None) -> None:
        parsed = self._decoded(entry, Settings) if entry and entry.data else None
        self._settings = parsed.value if parsed else DEFAULT_SETTINGS
        self._on_change()

    def _maintenance_changed(self, entry: Entry | None) -> None:
        parsed = self._decoded(entry, MaintenanceRecord) if entry else None
        self._cluster_is_paused = parsed is not None and parsed.value.pause is not None

    def _node_changed(self, entry: Entry | None) -> None:
        parsed = self._decoded(entry, NodeRecord) if entry else None
        if entry is None or parsed is not None:  # of a broken record: go on with what was known
            self._is_being_recovered = parsed is not None and waits_for_leader(parsed.value)
            self._node_is_paused = parsed is not None and parsed.value.maintenance
        self._on_change()

    def _ledger_changed(self, entry: Entry | None) -> None:
        ledger = self._decoded(entry, Ledger) if entry else None
        if entry is not None and ledger is None:
            return  # a broken ledger: go on with the VMs known so far
        uuids = set(ledger.value.vms) if ledger else set()
        with self._lock:
            self._ledger = ledger
            gone = {uuid: self._watches.pop(uuid) for uuid in set(self._watches) - uuids}
            for uuid in gone:
                self._vms.pop(uuid, None)
                self._ahead.pop(uuid, None)
        for subscription in gone.values():
            subscription.cancel()
        self._on_change()

    def watch_new(self) -> None:
        """Begin to watch the VMs that the ledger has gained. Raises `StoreUnavailable`; then call it again."""
        self._ask_of_doubtful()
        with self._lock:
            new = sorted(self._in_ledger() - set(self._watches))
        for uuid in new:
            subscription = self._store.watch(layout.vm(uuid), partial(self._vm_changed, uuid))
            with self._lock:
                is_still_ours = uuid in self._in_ledger()
                if is_still_ours:
                    self._watches[uuid] = subscription
                else:
                    self._vms.pop(uuid, None)
            if not is_still_ours:
                subscription.cancel()

    def _in_ledger(self) -> set[str]:
        return set(self._ledger.value.vms) if self._ledger else set()

    def _vm_changed(self, uuid: str, entry: Entry | None) -> None:
        with self._lock:
            if uuid not in self._in_ledger():
                return
            ahead = self._ahead.get(uuid)
            if ahead is not None and entry is not None and entry.version < ahead:
                self._doubtful.add(uuid)
            else:
                self._ahead.pop(uuid, None)
                self._put(uuid, entry)
        self._on_change()

    def _ask_of_doubtful(self) -> None:
        """Take over what the store itself says of them. Raises `StoreUnavailable`; then they are asked of again."""
        with self._lock:
            doubtful = sorted(self._doubtful)
        for uuid in doubtful:
            entry = self._store.get(layout.vm(uuid))
            with self._lock:
                self._doubtful.discard(uuid)
                if uuid in self._watches:
                    self._ahead.pop(uuid, None)
                    if entry is not None:
                        self._ahead[uuid] = entry.version
                    self._put(uuid, entry)

    def _put(self, uuid: str, entry: Entry | None) -> None:
        stored = self._decoded(entry, VmRecord) if entry else None
        if stored is None:
            self._vms.pop(uuid, None)
        else:
            self._vms[uuid] = stored

    @staticmethod
    def _decoded(entry: Entry, kind: type[T]) -> Stored[T] | None:
        try:
            return decode(entry, kind)
        except BrokenRecord as broken:
            log.error("record_broken", key=entry.key, problem=broken.problem)
            return None
