# SPDX-License-Identifier: Apache-2.0
"""store_rules_mirrors: a mirror ends up equal to what it mirrors. Part of `store_suite`."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from functools import partial

from pvc_core.errors import Conflict
from pvc_core.ports import ClusterStore, Create, Delete, Entry, Op, Set
from pvc_core.testing.store_harness import Recorder, StoreHarness, eventually, in_threads
from pvc_core.testing.store_rules_values import put


class Mirrored:
    """A copy kept by a mirror, with the calls it was made from."""

    def __init__(self, store: ClusterStore, parent: str) -> None:
        self.calls = Recorder[Mapping[str, Entry | None]]()
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self.subscription = store.mirror(parent, self._on_change)

    def _on_change(self, news: Mapping[str, Entry | None]) -> None:
        with self._lock:
            for key, entry in news.items():
                if entry is not None:
                    assert entry.key == key
                    self._entries[key] = entry
                else:
                    del self._entries[key]  # only what was there is reported as gone
        self.calls(dict(news))

    def entries(self) -> dict[str, Entry]:
        with self._lock:
            return dict(self._entries)

    def wait_until_equal(self, store: ClusterStore, parent: str) -> None:
        """Wait until the copy equals what `store` reads."""
        truth = store.get_many([f"{parent}/{name}" for name in store.children(parent)])
        eventually(lambda: self.entries() == truth, f"the mirror of {parent} equals the store")


class MirrorRules:
    def test_the_first_call_of_a_mirror_holds_all_children(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/vms/a", b"A")
        put(store, "/vms/b/below", b"not mirrored")
        assert Mirrored(store, "/vms").calls.told == [
            {"/vms/a": Entry("/vms/a", b"A", 0), "/vms/b": Entry("/vms/b", b"", 0)}
        ]

    def test_the_first_call_is_made_even_if_there_is_nothing(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.ensure(["/empty"])
        assert Mirrored(store, "/empty").calls.told == [{}]
        assert Mirrored(store, "/none").calls.told == [{}]

    def test_a_mirror_reports_what_changed_and_only_that(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/vms/a")
        put(writer, "/vms/b")
        mirror = Mirrored(store, "/vms")
        steps: list[tuple[Op, Mapping[str, Entry | None]]] = [
            (Set("/vms/a", b"set", 0), {"/vms/a": Entry("/vms/a", b"set", 1)}),
            (Create("/vms/c", b"new"), {"/vms/c": Entry("/vms/c", b"new", 0)}),
            (Delete("/vms/b", 0), {"/vms/b": None}),
            (Create("/vms/b", b"again"), {"/vms/b": Entry("/vms/b", b"again", 0)}),
            (Set("/vms/b", b"twice", 0), {"/vms/b": Entry("/vms/b", b"twice", 1)}),
        ]
        for number, (op, news) in enumerate(steps, start=2):
            writer.transaction([op])
            mirror.calls.wait_for_last(news)
            assert len(mirror.calls.told) == number

    def test_changes_below_and_of_the_parent_are_not_reported(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/vms/a")
        mirror = Mirrored(store, "/vms")
        store.transaction([Set("/vms", b"x", 0), Create("/vms/a/below", b""), Create("/vmsx", b"")])
        store.transaction([Set("/vms/a", b"last", 0)])
        mirror.wait_until_equal(store, "/vms")
        assert len(mirror.calls.told) == 2

    def test_the_root_can_be_mirrored(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        mirror = Recorder[Mapping[str, Entry | None]]()
        store.mirror("/", mirror)
        put(store, "/b")
        mirror.wait_for_last({"/b": Entry("/b", b"", 0)})
        assert mirror.told[0] == {"/a": Entry("/a", b"", 0)}

    def test_a_parent_may_come_go_and_come_again(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        mirror = Mirrored(store, "/later")
        for round_number in range(2):
            store.transaction([Create("/later", b""), Create("/later/a", b"%d" % round_number)])
            mirror.wait_until_equal(store, "/later")
            assert list(mirror.entries()) == ["/later/a"]
            store.transaction([Delete("/later/a", 0), Delete("/later", 0)])
            eventually(lambda: mirror.entries() == {}, "nothing is left")

    def test_a_child_deleted_and_created_again_alike_is_noticed(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        put(writer, "/vms/a", b"same")
        mirror = Mirrored(store, "/vms")
        writer.transaction([Delete("/vms/a", 0), Create("/vms/a", b"same")])
        same: dict[str, Entry | None] = {"/vms/a": Entry("/vms/a", b"same", 0)}
        mirror.calls.wait_until(lambda told: len(told) >= 2 and told[-1] == same, "reported again")

    def test_ephemerals_are_mirrored_until_their_session_ends(self, harness: StoreHarness) -> None:
        member, store = harness.new_store(), harness.new_store()
        store.ensure(["/members"])
        mirror = Mirrored(store, "/members")
        member.transaction([Create("/members/hv1", b"alive", ephemeral=True)])
        mirror.calls.wait_for_last({"/members/hv1": Entry("/members/hv1", b"alive", 0)})
        member.close()
        mirror.calls.wait_for_last({"/members/hv1": None})

    def test_thousands_of_children_arrive_in_the_first_call_and_one_change_alone_later(
        self, harness: StoreHarness
    ) -> None:
        writer, store = harness.new_store(), harness.new_store()
        writer.ensure(["/vms"])
        keys = [f"/vms/{number:04}" for number in range(3000)]
        for start in range(0, len(keys), 500):
            writer.transaction([Create(key, key.encode()) for key in keys[start : start + 500]])
        mirror = Mirrored(store, "/vms")
        assert list(mirror.entries()) == keys
        writer.transaction([Set("/vms/1234", b"changed", 0)])
        mirror.calls.wait_for_last({"/vms/1234": Entry("/vms/1234", b"changed", 1)})

    def test_a_mirror_equals_the_store_after_many_writers_at_once(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.ensure(["/vms"])
        mirror = Mirrored(store, "/vms")
        writers = [harness.new_store() for _ in range(3)]
        in_threads(*(partial(scribble, writer, random.Random(n), 150) for n, writer in enumerate(writers)))
        mirror.wait_until_equal(writers[0], "/vms")

    def test_a_mirror_catches_up_after_the_connection_was_away(self, harness: StoreHarness) -> None:
        writer, store = harness.new_store(), harness.new_store()
        for name in ("kept", "set", "deleted", "replaced"):
            put(writer, f"/vms/{name}", b"before")
        mirror, absent = Mirrored(store, "/vms"), Mirrored(store, "/absent")
        harness.disconnect(store)
        writer.transaction([Set("/vms/set", b"after", 0), Delete("/vms/deleted", 0), Create("/vms/new", b"after")])
        writer.transaction([Delete("/vms/replaced", 0), Create("/vms/replaced", b"before")])
        put(writer, "/absent/now")
        harness.reconnect(store)
        mirror.wait_until_equal(writer, "/vms")
        absent.wait_until_equal(writer, "/absent")
        eventually(lambda: any("/vms/replaced" in call for call in mirror.calls.told[1:]), "the replaced child is news")
        assert not any("/vms/kept" in call for call in mirror.calls.told[1:])

    def test_a_mirror_equals_the_store_although_connection_and_session_were_lost_on_the_way(
        self, harness: StoreHarness
    ) -> None:
        writer, store = harness.new_store(), harness.new_store()
        writer.ensure(["/vms"])
        mirror = Mirrored(store, "/vms")
        done = threading.Event()

        def disturb() -> None:
            while not done.is_set():
                harness.disconnect(store)
                harness.reconnect(store)
                harness.expire_session(store)

        def write() -> None:
            try:
                scribble(writer, random.Random(7), 300)
            finally:
                done.set()

        in_threads(disturb, write)
        mirror.wait_until_equal(writer, "/vms")

    def test_a_cancelled_mirror_is_silent(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.ensure(["/vms"])
        cancelled, other = Mirrored(store, "/vms"), Mirrored(store, "/vms")
        cancelled.subscription.cancel()
        put(store, "/vms/a")
        other.wait_until_equal(store, "/vms")
        assert cancelled.calls.told == [{}]


def scribble(store: ClusterStore, dice: random.Random, times: int) -> None:
    """Create, set and delete children of `/vms` at random; conflicts with other writers are part of it."""
    for number in range(times):
        key = f"/vms/{dice.randrange(12)}"
        entry = store.get(key)
        try:
            if entry is None:
                store.transaction([Create(key, b"%d" % number)])
            elif dice.random() < 0.3:
                store.transaction([Delete(key, entry.version)])
            else:
                store.transaction([Set(key, b"%d" % number, entry.version)])
        except Conflict:
            continue
