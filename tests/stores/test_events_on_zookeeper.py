# SPDX-License-Identifier: Apache-2.0
"""Events on a real ZooKeeper: written with their change, read back, forgotten in batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.event_log import TRIMMED_AT_ONCE, EventLog
from pvc_core.events import EventKind, Happening, of_vm
from pvc_core.journal import Journal
from pvc_core.ports import ClusterStore, Create
from pvc_core.system_clock import SystemClock
from pvc_core.testing.builders import a_vm
from pvc_lab.zookeeper import ZooKeeperServer
from stores.zookeeper_harness import ZooKeeperHarness

pytestmark = pytest.mark.zookeeper


@pytest.fixture
def store(zookeeper: ZooKeeperServer) -> Iterator[ClusterStore]:
    harness = ZooKeeperHarness(zookeeper)
    made = harness.new_store()
    made.ensure(layout.DIRECTORIES)
    yield made
    harness.close()


def test_a_change_and_its_event_are_there_together_or_not_at_all(store: ClusterStore) -> None:
    view = ClusterView(store, SystemClock(), Journal(SystemClock(), lambda: "api:ci"))
    view.start()
    record = a_vm("web1")
    ops = (Create(layout.vm(record.uuid), encode(record)),)
    change = Change(ops, "new", record, happenings=(of_vm(EventKind.VM_DEFINED, None, record, "new"),))
    assert view.try_commit(change, view.snapshot())
    assert not view.try_commit(change, view.snapshot())
    (event,) = EventLog(store).last(10).events
    assert (event.kind, event.vm, event.by) == ("vm_defined", "web1", "api:ci")
    view.close()


def test_the_oldest_are_forgotten_in_batches_and_the_rest_is_in_order(store: ClusterStore) -> None:
    store.transaction([Create(layout.LEADER_EPOCH, b"")])
    journal, kept = Journal(SystemClock()), 100
    written = journal.written([Happening(EventKind.VM_CHANGED, f"{n}") for n in range(2 * TRIMMED_AT_ONCE + kept)])
    for start in range(0, len(written), 50):
        store.transaction([each.op for each in written[start : start + 50]])
    log = EventLog(store)
    assert log.trim(kept, epoch=0) == 2 * TRIMMED_AT_ONCE
    assert log.last(1000).events == tuple(each.event for each in written[-kept:])
