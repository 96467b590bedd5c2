# SPDX-License-Identifier: Apache-2.0
"""store_rules_values: reading, listing, and what may be a key. Part of `store_suite`."""

from __future__ import annotations

import pytest

from pvc_core.errors import InvalidInput
from pvc_core.ports import ClusterStore, Create, Entry, Set
from pvc_core.testing.store_harness import StoreHarness


def put(store: ClusterStore, key: str, data: bytes = b"") -> None:
    """Create a key, its parents included."""
    parent = key.rpartition("/")[0]
    if parent:
        store.ensure([parent])
    store.transaction([Create(key, data)])


class ValueRules:
    def test_a_key_that_does_not_exist_reads_as_none(self, harness: StoreHarness) -> None:
        assert harness.new_store().get("/vms/none") is None

    def test_a_created_key_reads_back_with_version_0(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/vms/a", b"one")
        assert store.get("/vms/a") == Entry("/vms/a", b"one", 0)

    def test_versions_count_up_with_every_set(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a")
        for version in range(3):
            store.transaction([Set("/a", b"%d" % version, version)])
        assert store.get("/a") == Entry("/a", b"2", 3)

    def test_what_one_session_wrote_another_reads_at_once(self, harness: StoreHarness) -> None:
        writer, reader = harness.new_store(), harness.new_store()
        put(writer, "/a")
        for version in range(50):
            writer.transaction([Set("/a", b"%d" % version, version)])
            assert reader.get("/a") == Entry("/a", b"%d" % version, version + 1)

    def test_get_many_returns_the_entries_that_exist(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a", b"A")
        put(store, "/b", b"B")
        assert store.get_many(["/b", "/none", "/a"]) == {"/a": Entry("/a", b"A", 0), "/b": Entry("/b", b"B", 0)}
        assert store.get_many([]) == {}

    def test_thousands_of_keys_are_listed_and_read(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        store.ensure(["/vms"])
        names = [f"vm-{number:05}" for number in range(5000)]
        for start in range(0, len(names), 500):
            store.transaction([Create(f"/vms/{name}", name.encode()) for name in names[start : start + 500]])
        assert store.children("/vms") == tuple(names)
        found = store.get_many([f"/vms/{name}" for name in names])
        assert [entry.data.decode() for entry in found.values()] == names

    def test_children_are_names_sorted(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        for key in ("/vms/b", "/vms/a/deep", "/vms/C", "/vmsx"):
            put(store, key)
        assert store.children("/vms") == ("C", "a", "b")
        assert store.children("/") == ("vms", "vmsx")
        assert store.children("/vms/b") == ()
        assert store.children("/none") == ()

    def test_any_bytes_are_kept(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        for key, data in {"/empty": b"", "/nul": b"\0\xff" * 10, "/text": "Käse 🧀 日本".encode()}.items():
            put(store, key, data)
            assert store.get(key) == Entry(key, data, 0)

    def test_names_may_hold_spaces_quotes_and_letters_of_any_language(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        names = ("100% real", "it's", 'a "quoted" name', "Größe", "日本語", "a?b&c=d#e", "%2F", "..a", "_", "*")
        for name in names:
            put(store, f"/names/{name}", name.encode())
        assert store.children("/names") == tuple(sorted(names))
        assert all(
            entry.data.decode() == key[7:] for key, entry in store.get_many([f"/names/{n}" for n in names]).items()
        )

    def test_names_that_differ_in_case_are_different(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/names/Web", b"upper")
        put(store, "/names/web", b"lower")
        assert store.children("/names") == ("Web", "web")
        assert (store.get("/names/web") or Entry("", b"", 0)).data == b"lower"

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "a",
            "/a/",
            "//a",
            "/a//b",
            "/.",
            "/a/..",
            "/a\0",
            "/a\nb",
            "/a\x7f",
            "/a\ud800",
            "/a\ue000",
            "/\U0001f9c0",
        ],
        ids=ascii,
    )
    def test_a_key_that_not_every_store_can_hold_is_invalid_input(self, harness: StoreHarness, key: str) -> None:
        store = harness.new_store()
        with pytest.raises(InvalidInput):
            store.get(key)
        with pytest.raises(InvalidInput):
            store.transaction([Create(key, b"")])
        with pytest.raises(InvalidInput):
            store.watch(key, print)

    def test_the_root_has_children_but_no_value(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        assert store.children("/") == ()
        with pytest.raises(InvalidInput):
            store.get("/")

    def test_ensure_creates_what_is_missing_with_parents_and_leaves_the_rest_alone(self, harness: StoreHarness) -> None:
        store = harness.new_store()
        put(store, "/a/b", b"mine")
        for _ in range(2):
            store.ensure(["/a/b/c/d", "/e"])
        assert store.get("/a/b") == Entry("/a/b", b"mine", 0)
        assert store.get_many(["/a/b/c", "/a/b/c/d", "/e"]) == {
            k: Entry(k, b"", 0) for k in ("/a/b/c", "/a/b/c/d", "/e")
        }
