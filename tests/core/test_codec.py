# SPDX-License-Identifier: Apache-2.0
"""codec: records survive the way through the store, with what a newer version has written into them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc_core.codec import decode, encode
from pvc_core.errors import BrokenRecord
from pvc_core.model import (
    DrainReport,
    Ledger,
    Member,
    NodeMode,
    NodeRecord,
    NodeReport,
    Reservation,
    Settings,
    VmRecord,
)
from pvc_core.ports import Entry
from pvc_core.testing.builders import a_vm

RECORDS = [
    a_vm(state="migrating", target="hv2", node_limit=("hv1", "hv2"), tags=("x",), shutdown_timeout_s=3),
    NodeRecord(name="hv1", mode=NodeMode.FLUSHING, drain=DrainReport(total=3, attempts={"u": 1}, stayed={"v": "why"})),
    NodeReport(node="hv1", memory_total_mib=1, memory_available_mib=1, cores=1, load_1m=0.5, progress={"u": 50}),
    Ledger(vms={"u": Reservation(memory_mib=1, vcpus=2, incoming=True)}),
    Member(node="hv1", session="s", version="1", drivers={"selectors": ("mem",)}),
    Settings(memory_overcommit=1.5),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_comes_back_as_it_was(record: msgspec.Struct) -> None:
    stored = decode(Entry("/key", encode(record), 7), type(record))
    assert (stored.key, stored.value, stored.version, stored.data) == ("/key", record, 7, encode(record))


def test_fields_of_a_newer_version_are_kept_when_a_record_is_written_again() -> None:
    newer = msgspec.json.encode({**msgspec.to_builtins(a_vm()), "colour": "red", "sizes": [1, {"a": None}]})
    stored = decode(Entry("/vms/x", newer, 0), VmRecord)
    again = encode(msgspec.structs.replace(stored.value, vcpus=9), stored.data)
    assert msgspec.json.decode(again) == {**msgspec.json.decode(newer), "vcpus": 9}


def test_a_field_that_is_known_is_written_as_it_is_now() -> None:
    old = encode(a_vm(reason="old"))
    assert decode(Entry("/k", encode(a_vm(reason=""), old), 0), VmRecord).value.reason == ""


def test_a_record_of_an_older_version_gets_the_defaults() -> None:
    older = {k: v for k, v in msgspec.to_builtins(a_vm()).items() if k not in ("held", "transition", "metadata")}
    assert decode(Entry("/k", msgspec.json.encode(older), 0), VmRecord).value == a_vm()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"uuid": "x"}',
        encode(a_vm()).replace(b'"running"', b'"flying"'),
        encode(a_vm()).replace(b'"memory_mib":512', b'"memory_mib":"512"'),
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_record_is_a_broken_one_that_names_its_key(data: bytes) -> None:
    with pytest.raises(BrokenRecord) as caught:
        decode(Entry("/vms/x", data, 0), VmRecord)
    assert caught.value.key == "/vms/x"
    assert caught.value.problem


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_worse_than_being_broken(data: bytes) -> None:
    try:
        decode(Entry("/k", data, 0), Ledger)
    except BrokenRecord as broken:
        caught = broken.sentence()
    else:
        caught = "/k"
    assert "/k" in caught


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=4))
def test_whatever_a_newer_version_adds_is_kept(added: dict[str, Any]) -> None:
    known = set(VmRecord.__struct_encode_fields__)
    extra = {name: value for name, value in added.items() if name not in known}
    data = msgspec.json.encode({**msgspec.to_builtins(a_vm()), **extra})
    written = msgspec.json.decode(encode(a_vm(reason="again"), data))
    assert {name: value for name, value in written.items() if name not in known} == extra


def test_fields_inside_the_metadata_and_the_drain_of_a_newer_version_are_kept_too() -> None:
    vm = msgspec.json.encode({**msgspec.to_builtins(a_vm()), "metadata": {"priority": 1, "colour": "red"}})
    written = msgspec.json.decode(encode(decode(Entry("/vms/u", vm, 0), VmRecord).value, vm))
    assert (written["metadata"]["priority"], written["metadata"]["colour"]) == (1, "red")
    node = b'{"name": "hv1", "drain": {"total": 2, "began_by": "alice"}}'
    written = msgspec.json.decode(encode(decode(Entry("/nodes/hv1", node, 0), NodeRecord).value, node))
    assert (written["drain"]["total"], written["drain"]["began_by"]) == (2, "alice")


def test_settings_of_a_newer_version_are_read_for_what_is_known() -> None:
    data = b'{"memory_overcommit": 1.5, "a_setting_of_tomorrow": 7}'
    stored = decode(Entry("/settings", data, 0), Settings)
    assert stored.value == Settings(memory_overcommit=1.5)
    assert msgspec.json.decode(encode(stored.value, data))["a_setting_of_tomorrow"] == 7
