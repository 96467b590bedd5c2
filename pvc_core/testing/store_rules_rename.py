# SPDX-License-Identifier: Apache-2.0
"""store_rules_rename: a key with all below it becomes another, or nothing is touched. Part of `store_suite`."""

from __future__ import annotations

import threading

import pytest

from pvc_core.errors import Conflict, InvalidInput, TooLarge
from pvc_core.ports import Check, ClusterStore, Create, Delete, Entry, Op, Set
from pvc_core.testing.store_harness import StoreHarness, eventually, in_threads
from pvc_core.testing.store_rules_values import put


def everything(store: ClusterStore, key: str = "/") -> dict[str, tuple[bytes, int]]:
    """Data and version of all that is below a key."""
    found: dict[str, tuple[bytes, int]] = {}
    for name in store.children(key):
        child = f"{key.rstrip('/')}/{name}"
        entry = store.get(child)
        assert entry is not None
        found[child] = (entry.data, entry.version)
        found.update(everything(store, child))
    return found


def a_tree(store: ClusterStore) -> None:
    """`/old` with four keys below it on two levels, and a key beside it."""
    for key in ("/old", "/old/a", "/old/a/deep", "/old/a/deep2", "/old/b", "/older"):
        put(store, key, key.encode())


class RenameRules:
    def test_rename_moves_a_key_with_all_that_is_below_it(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        a_tree(store)
        store.transaction([Set("/old/b", b"changed", 0)])
        store.rename("/old", "/new")
        assert everything(store) == {
            "/new": (b"/old", 0),
            "/new/a": (b"/old/a", 0),
            "/new/a/deep": (b"/old/a/deep", 0),
            "/new/a/deep2": (b"/old/a/deep2", 0),
            "/new/b": (b"changed", 0),
            "/older": (b"/older", 0),
        }

    def test_rename_of_a_key_without_children_into_another_parent(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/names/old", b"uuid")
        put(store, "/other")
        store.rename("/names/old", "/other/new")
        assert everything(store) == {"/names": (b"", 0), "/other": (b"", 0), "/other/new": (b"uuid", 0)}

    @pytest.mark.parametrize(
        ("source", "destination", "named"),
        [
            ("/none", "/new", "/none"),
            ("/old", "/older", "/older"),
            ("/old", "/old", "/old"),
            ("/old", "/nowhere/new", "/nowhere/new"),
        ],
        ids=["missing source", "existing destination", "itself", "destination without parent"],
    )
    def test_rename_that_cannot_be_touches_nothing(
        self, harness: StoreHarness, source: str, destination: str, named: str
    ) -> None:
        store = harness.new_store()
        a_tree(store)
        before = everything(store)
        with pytest.raises(Conflict) as caught:
            store.rename(source, destination, [Create("/also", b"")])
        assert caught.value.key == named
        assert everything(store) == before

    def test_a_key_cannot_be_renamed_into_itself(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        a_tree(store)
        with pytest.raises(InvalidInput):
            store.rename("/old", "/old/a/new")

    def test_rename_does_other_operations_with_it(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        a_tree(store)
        put(store, "/vm", b"old")
        put(store, "/gone")
        also: list[Op] = [
            Check("/old/b", 0),  # the state before
            Set("/vm", b"new", 0),
            Create("/event", b"renamed"),
            Delete("/gone", 0),
            Set("/new/b", b"renamed too", 0),  # the state after
        ]
        store.rename("/old", "/new", also)
        now = everything(store)
        assert (now["/vm"], now["/event"], now["/new/b"]) == ((b"new", 1), (b"renamed", 0), (b"renamed too", 1))
        assert "/gone" not in now
        assert "/old" not in now

    @pytest.mark.parametrize(
        "op", [Check("/older", 1), Set("/older", b"", 3), Create("/older", b""), Delete("/none", 0)], ids=str
    )
    def test_an_operation_that_does_not_hold_stops_the_rename(self, harness: StoreHarness, op: Op) -> None:
        store = harness.new_store()
        a_tree(store)
        before = everything(store)
        with pytest.raises(Conflict) as caught:
            store.rename("/old", "/new", [Create("/also", b""), op])
        assert caught.value.key == op.key
        assert everything(store) == before

    def test_a_subtree_too_large_for_one_transaction_is_refused_with_its_size(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.ensure(["/old"])
        for number in range(4):
            put(store, f"/old/{number}", b"x" * 300_000)
        before = everything(store)
        with pytest.raises(TooLarge) as caught:
            store.rename("/old", "/new")
        assert caught.value.size_bytes > 1_200_000 > caught.value.limit_bytes
        assert everything(store) == before

    def test_an_ephemeral_stays_one_and_belongs_to_whoever_made_it(self, harness: StoreHarness) -> None:
        owner, other = harness.new_store(), harness.new_store()
        owner.ensure(["/old"])
        owner.transaction([Create("/old/living", b"", ephemeral=True)])
        with pytest.raises(Conflict) as caught:
            other.rename("/old", "/new")
        assert caught.value.key == "/old/living"
        owner.rename("/old", "/new")
        assert other.children("/new") == ("living",)
        owner.close()
        eventually(lambda: other.children("/new") == (), "the renamed ephemeral is gone with its session")

    def test_a_child_changed_meanwhile_is_never_lost(self, harness: StoreHarness) -> None:
        """A writer counts in a child while the tree is renamed to and fro: no count may get lost on the way."""
        renamer, writer = harness.new_store(), harness.new_store()
        put(writer, "/old/child", b"0")
        done = threading.Event()
        in_threads(lambda: _rename_to_and_fro(renamer, done), lambda: _count_wherever_it_is(writer, 100, done))
        assert [entry.data for entry in _child(writer).values()] == [b"100"]

    def test_a_child_added_meanwhile_is_never_lost(self, harness: StoreHarness) -> None:
        renamer, writer = harness.new_store(), harness.new_store()
        writer.ensure(["/old"])
        done = threading.Event()
        in_threads(lambda: _rename_to_and_fro(renamer, done), lambda: _add_wherever_it_is(writer, 100, done))
        (root,) = writer.children("/")
        assert writer.children(f"/{root}") == tuple(f"{number:03}" for number in range(100))


def _rename_to_and_fro(store: ClusterStore, done: threading.Event) -> None:
    names = ("/old", "/new")
    while not done.is_set():
        try:
            store.rename(*names)
        except Conflict:
            continue
        names = (names[1], names[0])


def _child(store: ClusterStore) -> dict[str, Entry]:
    return store.get_many(["/old/child", "/new/child"])


def _count_wherever_it_is(store: ClusterStore, times: int, done: threading.Event) -> None:
    try:
        count = 0
        while count < times:
            for key, entry in _child(store).items():
                try:
                    store.transaction([Set(key, b"%d" % (int(entry.data) + 1), entry.version)])
                except Conflict:
                    continue
                count += 1
                break
    finally:
        done.set()


def _add_wherever_it_is(store: ClusterStore, times: int, done: threading.Event) -> None:
    try:
        count = 0
        while count < times:
            for root in ("/old", "/new"):
                try:
                    store.transaction([Create(f"{root}/{count:03}", b"")])
                except Conflict:
                    continue
                count += 1
                break
    finally:
        done.set()
