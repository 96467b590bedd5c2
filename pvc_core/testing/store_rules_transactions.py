# SPDX-License-Identifier: Apache-2.0
"""store_rules_transactions: all or nothing, and whoever was late is told. Part of `store_suite`."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from pvc_core.errors import Conflict, InvalidInput, PvcError, TooLarge
from pvc_core.ports import Check, ClusterStore, Create, Delete, Entry, Op, SessionState, Set
from pvc_core.testing.store_harness import DEADLINE_S, Recorder, StoreHarness, in_threads
from pvc_core.testing.store_rules_values import put

LARGEST_THAT_MUST_FIT_BYTES = 900_000
TOO_LARGE_BYTES = 1_048_576


def conflict_of(store: ClusterStore, *ops: Op) -> str:
    """The key that the refused transaction names."""
    with pytest.raises(Conflict) as caught:
        store.transaction(ops)
    return caught.value.key


def increment(store: ClusterStore, key: str, times: int) -> None:
    """Add one to the number at `key`, again and again, reading anew after each conflict."""
    done = 0
    while done < times:
        entry = store.get(key)
        assert entry is not None
        try:
            store.transaction([Set(key, b"%d" % (int(entry.data) + 1), entry.version)])
        except Conflict:
            continue
        done += 1


def _increment_in_a_process(opener: Callable[[], ClusterStore], key: str, times: int) -> None:
    store = opener()
    store.start()
    try:
        increment(store, key, times)
    finally:
        store.close()


class TransactionRules:
    def test_a_transaction_does_all_its_operations_and_returns_the_versions_afterwards(
        self, harness: StoreHarness
    ) -> None:
        store = harness.new_store()
        for key in ("/checked", "/set", "/deleted"):
            put(store, key)
        ops: list[Op] = [Check("/checked", 0), Create("/new", b"N"), Set("/set", b"S", 0), Delete("/deleted", 0)]
        assert store.transaction(ops) == (0, 0, 1, -1)
        assert store.get_many(["/new", "/set", "/deleted"]) == {
            "/new": Entry("/new", b"N", 0),
            "/set": Entry("/set", b"S", 1),
        }

    def test_an_empty_transaction_is_none(self, harness: StoreHarness) -> None:
        assert harness.new_store().transaction([]) == ()

    def test_later_operations_see_the_earlier_ones(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        ops: list[Op] = [Create("/a", b""), Create("/a/b", b"1"), Set("/a/b", b"2", 0), Check("/a/b", 1)]
        assert store.transaction(ops) == (0, 0, 1, 1)
        assert store.transaction([Delete("/a/b", 1), Delete("/a", 0)]) == (-1, -1)
        assert store.children("/") == ()

    @pytest.mark.parametrize(
        ("op", "key"),
        [
            (Set("/there", b"x", 1), "/there"),
            (Set("/missing", b"x", 0), "/missing"),
            (Check("/there", 7), "/there"),
            (Check("/missing", 0), "/missing"),
            (Delete("/there", 1), "/there"),
            (Delete("/missing", 0), "/missing"),
            (Delete("/parent", 0), "/parent"),
            (Create("/there", b"x"), "/there"),
            (Create("/missing/child", b"x"), "/missing/child"),
            (Create("/fleeting/child", b"x"), "/fleeting/child"),
        ],
        ids=str,
    )
    def test_an_operation_that_does_not_hold_undoes_all_and_is_named(
        self, harness: StoreHarness, op: Op, key: str
    ) -> None:
        store = harness.new_store()
        put(store, "/there", b"before")
        put(store, "/parent/child")
        store.transaction([Create("/fleeting", b"", ephemeral=True)])
        around: Sequence[Op] = [Create("/first", b""), op, Create("/last", b"")]
        assert conflict_of(store, *around) == key
        assert conflict_of(store, op) == key
        assert store.children("/") == ("fleeting", "parent", "there")
        assert store.get("/there") == Entry("/there", b"before", 0)

    def test_of_several_failures_the_first_is_named(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        assert conflict_of(store, Set("/a", b"", 0), Check("/a", 5), Delete("/none", 0), Create("/a", b"")) == "/a"
        assert conflict_of(store, Set("/a", b"", 0), Delete("/none", 0), Check("/a", 5)) == "/none"
        assert store.get("/a") == Entry("/a", b"", 0)

    def test_a_negative_version_is_never_taken_for_any_version(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a", b"kept")
        ops: Sequence[Op] = [Set("/a", b"lost", -1), Delete("/a", -1), Check("/a", -1)]
        for op in ops:
            with pytest.raises((InvalidInput, Conflict)):
                store.transaction([op])
        assert store.get("/a") == Entry("/a", b"kept", 0)

    def test_versions_start_again_when_a_key_is_created_again(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        store.transaction([Set("/a", b"", 0), Delete("/a", 1), Create("/a", b"again")])
        assert store.get("/a") == Entry("/a", b"again", 0)

    def test_a_value_of_900_kb_is_stored(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/large", b"x" * LARGEST_THAT_MUST_FIT_BYTES)
        store.transaction([Set("/large", b"y" * LARGEST_THAT_MUST_FIT_BYTES, 0)])
        assert store.get("/large") == Entry("/large", b"y" * LARGEST_THAT_MUST_FIT_BYTES, 1)

    def test_a_value_over_the_limit_is_refused_before_it_is_sent(self, harness: StoreHarness) -> None:
        store, states = harness.new_store(), Recorder[SessionState]()
        put(store, "/a")
        store.add_session_listener(states)
        ops: Sequence[Op] = [Set("/a", b"x" * TOO_LARGE_BYTES, 0), Create("/b", b"x" * TOO_LARGE_BYTES)]
        for op in ops:
            with pytest.raises(TooLarge) as caught:
                store.transaction([op])
            assert caught.value.size_bytes >= TOO_LARGE_BYTES > caught.value.limit_bytes
        self._check_untouched(store, states)

    def test_a_transaction_over_the_limit_is_refused_before_it_is_sent(self, harness: StoreHarness) -> None:
        store, states = harness.new_store(), Recorder[SessionState]()
        put(store, "/a")
        store.add_session_listener(states)
        with pytest.raises(TooLarge) as caught:
            store.transaction([Create(f"/n{number:04}", b"x" * 1100) for number in range(1000)])
        assert caught.value.size_bytes > 1_100_000 > caught.value.limit_bytes
        with pytest.raises(TooLarge):
            store.transaction([Check("/a", 0)] * 50_000)
        self._check_untouched(store, states)

    def _check_untouched(self, store: ClusterStore, states: Recorder[SessionState]) -> None:
        assert store.children("/") == ("a",)
        assert store.get("/a") == Entry("/a", b"", 0)
        assert states.told == []

    def test_threads_that_count_with_versions_lose_no_count(self, harness: StoreHarness) -> None:
        stores = [harness.new_store(), harness.new_store()]
        put(stores[0], "/counter", b"0")
        in_threads(*(partial(increment, store, "/counter", 40) for store in stores * 2))
        assert stores[0].get("/counter") == Entry("/counter", b"160", 160)

    def test_processes_that_count_with_versions_lose_no_count(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/counter", b"0")
        context = multiprocessing.get_context("spawn")
        arguments = (harness.opener, "/counter", 60)
        processes = [context.Process(target=_increment_in_a_process, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        increment(store, "/counter", 60)
        for process in processes:
            process.join(DEADLINE_S)
            assert process.exitcode == 0
        assert store.get("/counter") == Entry("/counter", b"180", 180)

    def test_every_error_of_a_store_is_one_of_ours(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.close()
        with pytest.raises(PvcError):
            store.transaction([Create("/a", b"")])
