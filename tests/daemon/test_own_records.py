# SPDX-License-Identifier: Apache-2.0
"""own_records: no VM of the ledger stays unwatched because the store did not answer for a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pvc_core import layout
from pvc_core.codec import encode
from pvc_core.errors import StoreUnavailable
from pvc_core.model import Ledger, NodeRecord, Reservation
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.ports import ClusterStore, Create, Entry, Set, Subscription
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.builders import a_vm
from pvc_daemon.own_records import OwnRecords
from pvc_plugins.stores.embedded import SqliteStore


class HiccupingStore(SqliteStore):
    """The embedded store, which does not answer the first time a VM is to be watched."""

    hiccups = 1

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        if key.startswith(layout.VMS) and self.hiccups:
            self.hiccups -= 1
            raise StoreUnavailable("a moment away")
        return super().watch(key, listener)


def filled(store: ClusterStore) -> list[str]:
    vms = [a_vm("web1"), a_vm("web2")]
    held = {vm.uuid: Reservation(memory_mib=1, vcpus=1) for vm in vms}
    store.ensure(layout.DIRECTORIES)
    store.transaction([Create(layout.ledger("hv1"), encode(Ledger(vms=held)))])
    store.transaction([Create(layout.vm(vm.uuid), encode(vm)) for vm in vms])
    return sorted(vm.uuid for vm in vms)


def test_a_vm_whose_watch_failed_is_watched_at_the_next_look(tmp_path: Path) -> None:
    store = HiccupingStore(f"sqlite://{tmp_path}/store.db")
    store.start()
    uuids = filled(store)
    records = OwnRecords(store, "hv1", lambda: None, SYSTEM_THREADS)
    records.start()
    with pytest.raises(StoreUnavailable):
        records.watch_new()
    records.watch_new()
    assert sorted(records.vms()) == uuids
    records.close()
    store.close()


class LateStore(SqliteStore):
    """The embedded store, whose watches of VMs tell only what the test has them tell."""

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        if not key.startswith(layout.VMS):
            return super().watch(key, listener)
        self.tell = listener
        return super().watch(f"{key}-unused", lambda _: None)


def test_a_vm_that_was_defined_anew_with_its_uuid_is_seen_though_its_versions_begin_anew(tmp_path: Path) -> None:
    store = LateStore(f"sqlite://{tmp_path}/store.db")
    store.start()
    vm = a_vm("web1")
    store.ensure(layout.DIRECTORIES)
    store.transaction([Create(layout.ledger("hv1"), encode(Ledger(vms={vm.uuid: Reservation(memory_mib=1, vcpus=1)})))])
    key = layout.vm(vm.uuid)
    records = OwnRecords(store, "hv1", lambda: None, SYSTEM_THREADS)
    records.start()
    records.watch_new()
    records.absorb(Entry(key, encode(vm), 7))
    store.transaction([Create(key, encode(a_vm("web1", state="starting")))])
    store.tell(store.get(key))
    records.watch_new()
    assert records.vms()[vm.uuid].value.state == "starting"
    records.close()
    store.close()


def test_a_maintenance_of_the_cluster_or_of_the_node_is_known(tmp_path: Path) -> None:
    store = SqliteStore(f"sqlite://{tmp_path}/store.db")
    store.start()
    store.ensure(layout.DIRECTORIES)
    seen: list[bool] = []
    for node_is, cluster_is in [(False, False), (True, False), (False, True)]:
        node, pause = NodeRecord(name="hv1", maintenance=node_is), Pause() if cluster_is else None
        for key, value in ((layout.node("hv1"), node), (layout.MAINTENANCE, MaintenanceRecord(pause=pause))):
            current, data = store.get(key), encode(value)
            store.transaction([Set(key, data, current.version) if current else Create(key, data)])
        records = OwnRecords(store, "hv1", lambda: None, SYSTEM_THREADS)
        records.start()
        seen.append(records.is_paused)
        records.close()
    assert seen == [False, True, True]
    store.close()
