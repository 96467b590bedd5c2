# SPDX-License-Identifier: Apache-2.0
"""watchdog_keeper: on the store, the record says no more than the watchdog does, at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc_core import layout
from pvc_core.codec import decode
from pvc_core.errors import StoreUnavailable
from pvc_core.event_log import EventLog
from pvc_core.journal import Journal
from pvc_core.model import Member, NodeRecord
from pvc_core.ports import Entry, Set
from pvc_core.system_threads import SYSTEM_THREADS
from pvc_core.testing.fake_watchdog import FakeTimer, FakeWatchdog
from pvc_core.testing.manual_clock import ManualClock
from pvc_daemon.membership import Membership
from pvc_daemon.watchdog_keeper import WatchdogKeeper
from pvc_plugins.stores.embedded import SqliteStore

TIMEOUT_S = 10.0


class FailingStore(SqliteStore):
    """The embedded store, which can be made not to answer."""

    is_away = False

    def get(self, key: str) -> Entry | None:
        if self.is_away:
            raise StoreUnavailable("away")
        return super().get(key)


class Node:
    """hv1 without anything but its membership and its watchdog."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.timer = FakeTimer(self.clock)
        self.owns_vms = False
        self.is_paused = False
        self.store = FailingStore(f"sqlite://{path}/store.db")
        self.store.start()
        self.store.ensure(layout.DIRECTORIES)
        self.membership, self.keeper = self.started()

    def started(self) -> tuple[Membership, WatchdogKeeper]:
        """As a new daemon has them."""
        member = Member(node="hv1", session="", version="1", host="here")
        journal = Journal(self.clock, lambda: "agent:hv1")
        membership = Membership(self.store, self.clock, NodeRecord(name="hv1"), member, journal, SYSTEM_THREADS)
        membership.register()
        keeper = WatchdogKeeper(
            "hv1",
            FakeWatchdog(self.timer),
            TIMEOUT_S,
            self.store,
            membership,
            lambda: self.owns_vms,
            self.clock,
            SYSTEM_THREADS,
            is_paused=lambda: self.is_paused,
        )
        return membership, keeper

    def look(self, owns_vms: bool | None = None) -> tuple[bool, float]:
        """After a look of the keeper: whether the watchdog is armed, and what the record promises."""
        self.owns_vms = self.owns_vms if owns_vms is None else owns_vms
        self.keeper.look()
        return self.timer.ends_at_s is not None, self.record().watchdog_s

    def record(self) -> NodeRecord:
        entry = super(FailingStore, self.store).get(layout.node("hv1"))
        assert entry is not None
        return decode(entry, NodeRecord).value

    def events(self) -> list[str]:
        kinds = [event.kind for event in EventLog(self.store).last(100).events]
        return [kind.removeprefix("node_watchdog_") for kind in kinds if "watchdog" in kind]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    assert node.look() == (False, 0.0), "the timer that an earlier life might have left is looked for, and stopped"
    yield node
    node.store.close()


def test_it_is_armed_while_the_node_has_vms_and_no_longer(node: Node) -> None:
    assert node.look(owns_vms=True) == (True, 20.0)
    assert node.look() == (True, 20.0)
    assert node.look(owns_vms=False) == (False, 0.0)
    assert node.events() == ["armed", "disarmed"]


def test_it_is_disarmed_during_a_maintenance_and_armed_again_after_it(node: Node) -> None:
    assert node.look(owns_vms=True) == (True, 20.0)
    node.is_paused = True
    assert node.look() == (False, 0.0)
    node.store.is_away = True
    node.clock.advance(1000.0)
    assert node.look() == (False, 0.0), "the store may be away, and the host lives"
    node.store.is_away, node.is_paused = False, False
    assert node.look() == (True, 20.0)


def test_a_node_that_is_fed_in_time_lives(node: Node) -> None:
    node.look(owns_vms=True)
    for _ in range(10):
        node.clock.advance(TIMEOUT_S / 2)
        node.look()
    assert not node.timer.has_ended_the_host()


def test_a_node_to_which_the_store_does_not_answer_is_not_fed_and_heals_if_there_is_time(node: Node) -> None:
    node.look(owns_vms=True)
    ends_at_s = node.timer.ends_at_s
    node.store.is_away = True
    node.clock.advance(TIMEOUT_S * 0.6)
    node.look()
    assert node.timer.ends_at_s == ends_at_s
    node.store.is_away = False
    node.look()
    assert node.timer.ends_at_s == node.clock.monotonic_s() + TIMEOUT_S


def test_a_watchdog_that_breaks_is_not_promised_any_more_and_tried_again(node: Node) -> None:
    node.look(owns_vms=True)
    node.timer.problem = "the device is gone"
    node.look()
    assert node.look()[1] == 0.0
    node.timer.problem = ""
    assert node.look() == (True, 20.0)


def test_a_registration_promises_what_is_so(node: Node) -> None:
    node.look(owns_vms=True)
    node.membership, node.keeper = node.started()
    assert node.record().watchdog_s == 0.0, "the new daemon has armed nothing itself"
    assert node.look() == (True, 20.0)


def test_a_daemon_that_has_left_disarms_and_one_that_could_not_say_so_does_not(node: Node) -> None:
    node.look(owns_vms=True)
    node.keeper.close(may_disarm=False)
    assert node.timer.ends_at_s is not None
    node.membership.leave()
    assert (node.record().watchdog_s, node.record().left) == (0.0, True)
    node.keeper.close(may_disarm=True)
    assert node.timer.ends_at_s is None


def test_a_daemon_that_leaves_disarms_also_a_watchdog_that_did_not_work_last(node: Node) -> None:
    node.look(owns_vms=True)
    node.timer.problem = "for a moment"
    node.look()
    node.timer.problem = ""
    node.membership.leave()
    node.keeper.close(may_disarm=True)
    assert node.timer.ends_at_s is None


def test_a_daemon_that_has_left_neither_arms_nor_promises(node: Node) -> None:
    node.look(owns_vms=True)
    node.membership.leave()
    assert node.look()[1] == 0.0


def test_a_record_that_does_not_parse_does_not_end_the_host(node: Node) -> None:
    node.look(owns_vms=True)
    entry = node.store.get(layout.node("hv1"))
    assert entry is not None
    node.store.transaction([Set(entry.key, b"{not a record", entry.version)])
    node.clock.advance(TIMEOUT_S / 2)
    node.keeper.look()
    assert node.timer.ends_at_s == node.clock.monotonic_s() + TIMEOUT_S
