# SPDX-License-Identifier: Apache-2.0
"""store_rules_sessions: sessions, what ends with them, and what is said about them. Part of `store_suite`."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable

import pytest

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import ClusterStore, Create, Delete, Entry, SessionState, Set
from pvc_core.testing.store_harness import DEADLINE_S, Recorder, StoreHarness, eventually
from pvc_core.testing.store_rules_values import put

QUICKLY_S = 15.0
"""Within this, a call on a store that is cut off has failed; the default request timeout and some."""

CONNECTED, SUSPENDED, LOST = SessionState.CONNECTED, SessionState.SUSPENDED, SessionState.LOST


def _hold_an_ephemeral(opener: Callable[[], ClusterStore]) -> None:
    store = opener()
    store.start()
    store.transaction([Create("/members/child", b"", ephemeral=True)])
    threading.Event().wait()


class SessionRules:
    def test_a_store_does_nothing_before_start(self, harness: StoreHarness) -> None:
        store = harness.build_store()
        assert store.session_id == ""
        with pytest.raises(StoreUnavailable):
            store.get("/a")
        with pytest.raises(StoreUnavailable):
            store.transaction([Create("/a", b"")])
        store.close()

    def test_a_started_store_is_connected_in_a_session_of_its_own(self, harness: StoreHarness) -> None:
        one, two = harness.new_store(), harness.new_store()
        assert one.session_state is two.session_state is CONNECTED
        assert "" != one.session_id != two.session_id != ""

    def test_after_close_every_call_fails_and_close_may_be_repeated(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.close()
        store.close()
        assert store.session_state is LOST
        calls: list[Callable[[], object]] = [
            lambda: store.get("/a"),
            lambda: store.get_many(["/a"]),
            lambda: store.children("/"),
            lambda: store.transaction([Create("/a", b"")]),
            lambda: store.rename("/a", "/b"),
            lambda: store.ensure(["/a"]),
            lambda: store.watch("/a", print),
            lambda: store.mirror("/a", print),
            store.start,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                call()

    def test_listeners_are_told_connected_at_start_and_lost_at_close(self, harness: StoreHarness) -> None:
        store, states = harness.build_store(), Recorder[SessionState]()
        store.add_session_listener(states)
        store.start()
        states.wait_for_last(CONNECTED)
        store.close()
        states.wait_for_last(LOST)
        assert states.told == [CONNECTED, LOST]

    def test_values_outlive_all_sessions_and_ephemerals_do_not(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.transaction([Create("/kept", b"data"), Create("/gone", b"", ephemeral=True)])
        store.close()
        assert harness.new_store().children("/") == ("kept",)

    def test_an_ephemeral_is_seen_by_all_and_vanishes_at_close(self, harness: StoreHarness) -> None:
        owner, other = harness.new_store(), harness.new_store()
        owner.ensure(["/members"])
        owner.transaction([Create("/members/hv1", b"alive", ephemeral=True)])
        assert other.get("/members/hv1") == Entry("/members/hv1", b"alive", 0)
        other.transaction([Set("/members/hv1", b"set by another", 0)])
        owner.close()
        assert other.get("/members/hv1") is None

    def test_an_ephemeral_of_a_failed_transaction_was_never_there(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        with pytest.raises(Conflict):
            store.transaction([Create("/e", b"", ephemeral=True), Delete("/none", 0)])
        store.transaction([Create("/e", b"lasting")])
        store.close()
        assert harness.new_store().get("/e") == Entry("/e", b"lasting", 0)

    def test_an_expired_session_takes_its_ephemerals_along_and_no_others(self, harness: StoreHarness) -> None:
        owner, other = harness.new_store(), harness.new_store()
        owner.transaction([Create("/owners", b"", ephemeral=True), Create("/lasting", b"")])
        other.transaction([Create("/others", b"", ephemeral=True)])
        harness.expire_session(owner)
        eventually(lambda: other.children("/") == ("lasting", "others"), "the expired session's ephemeral is gone")

    def test_an_expired_session_is_told_as_lost_and_followed_by_another(self, harness: StoreHarness) -> None:
        store, states = harness.new_store(), Recorder[SessionState]()
        store.add_session_listener(states)
        before = store.session_id
        harness.expire_session(store)
        told = states.wait_until(lambda told: LOST in told and told[-1] is CONNECTED, "lost, then connected")
        assert told.count(LOST) == 1
        assert store.session_state is CONNECTED
        assert store.session_id not in ("", before)
        store.transaction([Create("/works", b"", ephemeral=True)])
        assert store.children("/") == ("works",)

    def test_the_ephemerals_of_a_killed_process_vanish(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.ensure(["/members"])
        process = multiprocessing.get_context("spawn").Process(target=_hold_an_ephemeral, args=(harness.opener,))
        process.start()
        try:
            eventually(lambda: store.children("/members") == ("child",), "the process is there")
        finally:
            process.kill()
            process.join()
        eventually(lambda: store.children("/members") == (), "its ephemeral is gone")

    def test_a_store_that_is_cut_off_says_so_and_fails_quickly(self, harness: StoreHarness) -> None:
        store, states = harness.new_store(), Recorder[SessionState]()
        put(store, "/a")
        store.add_session_listener(states)
        harness.disconnect(store)
        states.wait_for_last(SUSPENDED)
        assert store.session_state is SUSPENDED
        calls: list[Callable[[], object]] = [
            lambda: store.get("/a"),
            lambda: store.get_many(["/a"] * 10),
            lambda: store.children("/"),
            lambda: store.transaction([Set("/a", b"", 0)]),
            lambda: store.rename("/a", "/b"),
            lambda: store.ensure(["/b"]),
        ]
        for call in calls:
            began_s = time.monotonic()
            with pytest.raises(StoreUnavailable):
                call()
            assert time.monotonic() - began_s < QUICKLY_S
        harness.reconnect(store)
        states.wait_for_last(CONNECTED)
        assert store.get("/a") == Entry("/a", b"", 0)
        assert states.told == [SUSPENDED, CONNECTED]

    def test_session_and_ephemerals_outlive_a_short_cut(self, harness: StoreHarness) -> None:
        store, other, states = harness.new_store(), harness.new_store(), Recorder[SessionState]()
        store.transaction([Create("/e", b"", ephemeral=True)])
        store.add_session_listener(states)
        before = store.session_id
        harness.disconnect(store)
        states.wait_for_last(SUSPENDED)
        assert other.children("/") == ("e",)
        harness.reconnect(store)
        states.wait_for_last(CONNECTED)
        assert store.session_id == before
        assert other.children("/") == ("e",)

    def test_calls_under_way_when_the_connection_breaks_end(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        failed = threading.Event()

        def read_until_it_fails() -> None:
            try:
                while True:
                    store.get("/a")
            except StoreUnavailable:
                failed.set()

        reader = threading.Thread(target=read_until_it_fails, daemon=True)
        reader.start()
        harness.disconnect(store)
        assert failed.wait(QUICKLY_S)
        harness.reconnect(store)
        reader.join(DEADLINE_S)

    def test_a_session_listener_that_raises_or_was_cancelled_harms_no_other(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        cancelled, states = Recorder[SessionState](), Recorder[SessionState]()

        def raising(_: SessionState) -> None:
            raise RuntimeError("this listener always fails")

        store.add_session_listener(raising)
        store.add_session_listener(cancelled).cancel()
        store.add_session_listener(states)
        harness.disconnect(store)
        states.wait_for_last(SUSPENDED)
        harness.reconnect(store)
        states.wait_for_last(CONNECTED)
        assert cancelled.told == []

    def test_a_session_listener_may_call_the_store(self, harness: StoreHarness) -> None:
        store, read = harness.new_store(), Recorder[Entry | None]()
        put(store, "/a")
        store.add_session_listener(lambda state: read(store.get("/a")) if state is CONNECTED else None)
        harness.expire_session(store)
        read.wait_for_last(Entry("/a", b"", 0))

    def test_a_store_may_be_closed_while_it_is_cut_off(self, harness: StoreHarness) -> None:
        store, states = harness.new_store(), Recorder[SessionState]()
        store.add_session_listener(states)
        harness.disconnect(store)
        states.wait_for_last(SUSPENDED)
        store.close()
        states.wait_for_last(LOST)
