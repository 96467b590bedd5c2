# SPDX-License-Identifier: Apache-2.0
"""store_rules_watches: whoever watches a key learns its last value, whatever happens. Part of `store_suite`."""

from __future__ import annotations

import threading

import pytest

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.ports import ClusterStore, Create, Delete, Entry, SessionState, Set, Subscription
from pvc_core.testing.store_harness import DEADLINE_S, Recorder, StoreHarness, eventually
from pvc_core.testing.store_rules_values import put

Values = Recorder[Entry | None]


def watching(store: ClusterStore, key: str) -> Values:
    """A recorder of what a key's watch is told."""
    recorder = Values()
    store.watch(key, recorder)
    return recorder


class WatchRules:
    def test_the_first_call_is_made_before_watch_returns(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a", b"now")
        assert watching(store, "/a").told == [Entry("/a", b"now", 0)]
        assert watching(store, "/none").told == [None]

    def test_set_delete_and_create_are_reported(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a")
        values = watching(store, "/a")
        writer.transaction([Set("/a", b"set", 0)])
        values.wait_for_last(Entry("/a", b"set", 1))
        writer.transaction([Delete("/a", 1)])
        values.wait_for_last(None)
        writer.transaction([Create("/a", b"again")])
        values.wait_for_last(Entry("/a", b"again", 0))
        assert len(values.told) == 4

    def test_own_writes_are_reported_too(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        values = watching(store, "/a")
        put(store, "/a", b"mine")
        values.wait_for_last(Entry("/a", b"mine", 0))

    def test_a_key_whose_parents_do_not_exist_yet_can_be_watched(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        values = watching(store, "/not/yet/there")
        store.ensure(["/not/yet/there"])
        values.wait_for_last(Entry("/not/yet/there", b"", 0))

    def test_the_last_of_many_quick_changes_is_reported_and_none_is_made_up(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a", b"0")
        values = watching(store, "/a")
        for version in range(300):
            writer.transaction([Set("/a", b"%d" % (version + 1), version)])
        told = values.wait_until(lambda told: told[-1] == Entry("/a", b"300", 300), "the last of 300 changes")
        versions = [entry.version for entry in told if entry is not None]
        assert versions == sorted(set(versions))
        assert all(entry is not None and int(entry.data) == entry.version for entry in told)

    def test_a_key_deleted_and_created_again_alike_is_noticed(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a", b"same")
        values = watching(store, "/a")
        writer.transaction([Delete("/a", 0), Create("/a", b"same")])
        values.wait_until(lambda told: len(told) == 2, "called again")
        assert values.told[-1] == Entry("/a", b"same", 0)

    def test_a_key_that_another_is_renamed_to_is_reported(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/old", b"data")
        old, new = watching(store, "/old"), watching(store, "/new")
        store.rename("/old", "/new")
        old.wait_for_last(None)
        new.wait_for_last(Entry("/new", b"data", 0))

    def test_after_cancel_the_listener_is_not_called(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        cancelled, other = Values(), Values()
        subscription = store.watch("/a", cancelled)
        store.watch("/a", other)
        subscription.cancel()
        subscription.cancel()
        store.transaction([Set("/a", b"later", 0)])
        other.wait_for_last(Entry("/a", b"later", 1))
        store.transaction([Set("/a", b"later still", 1)])  # by then whoever would wrongly be told has been
        other.wait_for_last(Entry("/a", b"later still", 2))
        assert len(cancelled.told) == 1

    def test_a_listener_may_cancel_itself(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        subscriptions: list[Subscription] = []
        once, other = Values(), Values()

        def listener(entry: Entry | None) -> None:
            once(entry)
            if entry and entry.version == 1:
                subscriptions[0].cancel()

        subscriptions.append(store.watch("/a", listener))
        store.watch("/a", other)
        for version in range(3):
            store.transaction([Set("/a", b"", version)])
            other.wait_for_last(Entry("/a", b"", version + 1))
        assert [entry.version for entry in once.told if entry] == [0, 1]

    def test_a_watch_can_be_set_and_cancelled_again_and_again(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        for _ in range(200):
            store.watch("/a", Values()).cancel()
        values = watching(store, "/a")
        store.transaction([Set("/a", b"x", 0)])
        values.wait_for_last(Entry("/a", b"x", 1))
        assert len(values.told) == 2

    def test_a_listener_that_raises_is_called_again_and_harms_no_other(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        raising = Values()

        def listener(entry: Entry | None) -> None:
            raising(entry)
            raise RuntimeError("this listener always fails")

        store.watch("/a", listener)
        healthy = watching(store, "/a")
        for version in range(2):
            store.transaction([Set("/a", b"", version)])
            healthy.wait_for_last(Entry("/a", b"", version + 1))
            raising.wait_for_last(Entry("/a", b"", version + 1))

    def test_a_listener_may_call_the_store(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a", b"1")
        put(store, "/copy")
        inner = Values()

        def copy(entry: Entry | None) -> None:
            if entry is None or entry.version == 0:
                return
            now = store.get("/copy")
            assert now is not None
            store.transaction([Set("/copy", entry.data, now.version)])
            store.watch("/copy", inner)

        store.watch("/a", copy)
        store.transaction([Set("/a", b"2", 0)])
        inner.wait_for_last(Entry("/copy", b"2", 1))

    def test_a_slow_listener_is_called_one_call_at_a_time(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a")
        inside, crowded, values = threading.Semaphore(1), threading.Event(), Values()

        def listener(entry: Entry | None) -> None:
            if not inside.acquire(blocking=False):
                crowded.set()
                return
            writer.get("/a")
            inside.release()
            values(entry)

        store.watch("/a", listener)
        for version in range(30):
            writer.transaction([Set("/a", b"", version)])
        values.wait_for_last(Entry("/a", b"", 30))
        assert not crowded.is_set()

    def test_what_changed_while_the_connection_was_away_is_reported(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        for key in ("/set", "/deleted", "/replaced", "/same"):
            put(writer, key, b"before")
        keys = ("/set", "/deleted", "/created", "/replaced", "/same")
        watched = {key: watching(store, key) for key in keys}
        harness.disconnect(store)
        writer.transaction([Set("/set", b"after", 0), Delete("/deleted", 0), Create("/created", b"after")])
        writer.transaction([Delete("/replaced", 0), Create("/replaced", b"before")])
        harness.reconnect(store)
        watched["/set"].wait_for_last(Entry("/set", b"after", 1))
        watched["/deleted"].wait_for_last(None)
        watched["/created"].wait_for_last(Entry("/created", b"after", 0))
        watched["/replaced"].wait_until(lambda told: len(told) == 2, "the replaced key is reported again")
        assert len(watched["/same"].told) == 1

    def test_a_watch_goes_on_after_the_connection_was_away(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a")
        values = watching(store, "/a")
        for version in range(0, 6, 2):
            harness.disconnect(store)
            writer.transaction([Set("/a", b"away", version)])
            harness.reconnect(store)
            values.wait_for_last(Entry("/a", b"away", version + 1))
            writer.transaction([Set("/a", b"back", version + 1)])
            values.wait_for_last(Entry("/a", b"back", version + 2))

    def test_a_watch_goes_on_in_the_session_that_follows_an_expired_one(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a")
        values = watching(store, "/a")
        session_id = store.session_id
        harness.expire_session(store)
        writer.transaction([Set("/a", b"1", 0)])
        values.wait_for_last(Entry("/a", b"1", 1))
        eventually(lambda: store.session_id != session_id, "a new session")
        writer.transaction([Set("/a", b"2", 1)])
        values.wait_for_last(Entry("/a", b"2", 2))

    def test_a_watch_that_cannot_read_is_refused_and_leaves_nothing_behind(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a")
        values = Values()
        harness.disconnect(store)
        eventually(lambda: store.session_state is SessionState.SUSPENDED, "the store is cut off")
        with pytest.raises(StoreUnavailable):
            store.watch("/a", values)
        harness.reconnect(store)
        eventually(lambda: store.session_state is SessionState.CONNECTED, "the store is back")
        after = watching(store, "/a")
        writer.transaction([Set("/a", b"", 0)])
        after.wait_for_last(Entry("/a", b"", 1))
        assert values.told == []

    def test_no_listener_is_called_after_close(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/a")
        values, other = watching(store, "/a"), watching(writer, "/a")
        store.close()
        writer.transaction([Set("/a", b"", 0)])
        other.wait_for_last(Entry("/a", b"", 1))
        assert len(values.told) == 1

    def test_a_listener_that_waits_does_not_hold_up_other_calls(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        entered, released = threading.Event(), threading.Event()

        def listener(entry: Entry | None) -> None:
            if entry and entry.version:
                entered.set()
                assert released.wait(DEADLINE_S)

        store.watch("/a", listener)
        store.transaction([Set("/a", b"", 0)])
        assert entered.wait(DEADLINE_S)
        try:
            assert store.get("/a") == Entry("/a", b"", 1)
            assert watching(store, "/none").told == [None]
            with pytest.raises(Conflict):
                store.transaction([Set("/a", b"", 0)])
        finally:
            released.set()
