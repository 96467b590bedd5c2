# SPDX-License-Identifier: Apache-2.0
"""changes: a record and the ledgers it touches change together, on the versions that were read, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode
from pvc_core.errors import BrokenRecord, Refused
from pvc_core.model import Ledger, Reservation, VmRecord, VmState
from pvc_core.ports import Check, Create, Delete, Entry, Op, Set
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, stored, uuid_of
from pvc_core.vm_states import VmEvent

E = VmEvent
WEB1 = uuid_of("web1")
NODES = ("hv1", "hv2", "hv3")


def a_stored(vm: VmRecord, version: int = 4) -> Stored[VmRecord]:
    return stored(layout.vm(vm.uuid), vm, version)


def a_ledger(node: str, *vms: VmRecord, version: int = 9) -> Stored[Ledger]:
    reservations = {vm.uuid: changes.reservation_of(vm, incoming=vm.node != node) for vm in vms}
    return stored(layout.ledger(node), Ledger(vms=reservations), version)


def ledgers_after(ops: tuple[Op, ...], ledgers: Mapping[str, Stored[Ledger] | None]) -> dict[str, set[str]]:
    """Whose VMs (by UUID) stand where once the operations are done."""
    found = {node: set(ledger.value.vms) if ledger else set() for node, ledger in ledgers.items()}
    for op in ops:
        if op.key.startswith(layout.LEDGERS) and isinstance(op, Set | Create):
            found[layout.name_in(op.key)] = set(decode(Entry(op.key, op.data, 0), Ledger).value.vms)
    return found


# ------------------------------------------------------------------------------------------------- ledgers


def test_a_migration_reserves_on_the_target_and_keeps_the_source() -> None:
    vm = a_vm()
    ledgers = {"hv1": a_ledger("hv1", vm), "hv2": a_ledger("hv2")}
    change = changes.of_event(a_stored(vm), E.MIGRATE, "r", "now", ledgers, target="hv2")
    record, ledger = change.ops
    assert isinstance(record, Set)
    assert isinstance(ledger, Set)
    assert (record.key, record.version) == (layout.vm(WEB1), 4)
    assert (ledger.key, ledger.version) == (layout.ledger("hv2"), 9)
    reserved = decode(Entry(ledger.key, ledger.data, 0), Ledger).value.vms
    assert reserved == {WEB1: Reservation(memory_mib=512, vcpus=1, incoming=True)}


def test_an_arrival_gives_the_source_back_and_the_reservation_is_incoming_no_more() -> None:
    vm = a_vm(state="migrating", target="hv2")
    ledgers = {"hv1": a_ledger("hv1", vm), "hv2": a_ledger("hv2", vm)}
    change = changes.of_event(a_stored(vm), E.ARRIVED, "r", "now", ledgers)
    assert ledgers_after(change.ops, ledgers) == {"hv1": set(), "hv2": {WEB1}}
    assert change.vm is not None
    assert change.vm.node == "hv2"


def test_a_change_of_state_that_moves_nothing_leaves_the_ledgers_alone() -> None:
    vm = a_vm()
    change = changes.of_event(a_stored(vm), E.SHUTDOWN, "r", "now", {"hv1": a_ledger("hv1", vm)})
    assert [op.key for op in change.ops] == [layout.vm(WEB1)]


def test_a_ledger_that_reads_as_it_is_to_be_is_written_all_the_same_when_the_reservation_changes() -> None:
    """It was read before the last migration was cancelled: what it says is older than the record."""
    vm = a_vm()
    old = a_ledger("hv2", a_vm(state="migrating", target="hv2"), version=3)
    change = changes.of_event(
        a_stored(vm), E.MIGRATE, "r", "now", {"hv1": a_ledger("hv1", vm), "hv2": old}, target="hv2"
    )
    assert [(op.key, op.version) for op in change.ops if isinstance(op, Set)][1:] == [(layout.ledger("hv2"), 3)]


def test_a_reservation_that_is_missing_is_made_with_the_next_change() -> None:
    ledgers: dict[str, Stored[Ledger] | None] = {"hv1": None}
    change = changes.of_event(a_stored(a_vm()), E.SHUTDOWN, "r", "now", ledgers)
    assert ledgers_after(change.ops, ledgers) == {"hv1": {WEB1}}
    assert isinstance(change.ops[1], Create)


def test_other_vms_in_a_ledger_are_kept() -> None:
    vm, other = a_vm(), a_vm("web2")
    ledgers = {"hv1": a_ledger("hv1", vm, other), "hv2": a_ledger("hv2", a_vm("web3", node="hv2"))}
    change = changes.start_on(a_stored(a_vm(state="stopped")), "hv2", "r", "now", ledgers)
    assert ledgers_after(change.ops, ledgers) == {"hv1": {other.uuid}, "hv2": {WEB1, uuid_of("web3")}}


def test_fields_of_a_ledger_that_this_version_does_not_know_are_kept() -> None:
    newer = Stored(layout.ledger("hv1"), Ledger(), 1, b'{"schema":1,"vms":{},"colour":"red"}')
    op = changes.edit_ledger("hv1", newer, put={WEB1: changes.reservation_of(a_vm())})
    assert isinstance(op, Set)
    assert msgspec.json.decode(op.data)["colour"] == "red"


def test_a_ledger_that_cannot_be_read_may_be_left_out_only_while_nothing_changes_in_it() -> None:
    assert changes.of_event(a_stored(a_vm()), E.SHUTDOWN, "r", "now", {}).ops
    with pytest.raises(BrokenRecord, match="/ledger/hv2"):
        changes.of_event(a_stored(a_vm()), E.MIGRATE, "r", "now", {"hv1": a_ledger("hv1", a_vm())}, target="hv2")


def test_ledgers_of_leaves_out_what_does_not_parse_and_knows_nothing_of_other_nodes() -> None:
    key = layout.ledger("hv2")
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2")])
    broken = replace(snapshot, broken={key: BrokenRecord(key, "rubbish")})
    assert set(changes.ledgers_of(broken, "hv1", "hv2", "hv9", "")) == {"hv1"}
    assert changes.unreadable_ledger(broken, "hv2") == "the ledger of hv2 does not parse"
    assert changes.unreadable_ledger(broken, "hv9") == "the record of hv9 is missing or does not parse"
    assert changes.unreadable_ledger(broken, "hv1") == ""


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[VmEvent, str, bool]]:
    return draw(
        st.lists(st.tuples(st.sampled_from(VmEvent), st.sampled_from(NODES), st.booleans()), min_size=1, max_size=25)
    )


@given(histories())
def test_whatever_happens_to_a_vm_exactly_the_nodes_of_its_record_hold_a_reservation(
    history: list[tuple[VmEvent, str, bool]],
) -> None:
    record = a_vm(state="stopped")
    ledgers: dict[str, Stored[Ledger] | None] = {"hv1": a_ledger("hv1", record), "hv2": None, "hv3": a_ledger("hv3")}
    for event, target, permanent in history:
        if target == record.node:
            continue
        try:
            change = changes.of_event(a_stored(record), event, "r", "", ledgers, target=target, permanent=permanent)
        except Refused:
            continue
        assert change.vm is not None
        record = change.vm
        for op in change.ops:
            if isinstance(op, Set | Create) and op.key.startswith(layout.LEDGERS):
                ledgers[layout.name_in(op.key)] = decode(Entry(op.key, op.data, 0), Ledger)
        holders = {node for node, ledger in ledgers.items() if ledger and WEB1 in ledger.value.vms}
        assert holders == {record.node, record.target} - {""}
        incoming = {node for node in holders if (held := ledgers[node]) and held.value.vms[WEB1].incoming}
        assert incoming == {record.target} - {""}


# ------------------------------------------------------------------------------------------ whole changes


def test_what_is_so_already_carries_what_it_was_concluded_from() -> None:
    change = changes.of_event(a_stored(a_vm()), E.START, "r", "now", {})
    assert (change.ops, change.seen, change.reason) == ((), (Check(layout.vm(WEB1), 4),), "web1 is running already")


def test_a_new_vm_is_name_record_definition_and_reservation() -> None:
    change = changes.create_vm(a_vm(state="stopped"), "<domain/>", None, {})
    assert [(type(op), op.key) for op in change.ops] == [
        (Create, layout.vm_name("web1")),
        (Create, layout.vm(WEB1)),
        (Create, layout.definition(WEB1)),
        (Create, layout.ledger("hv1")),
    ]


def test_a_vm_that_is_removed_leaves_with_the_versions_that_were_read() -> None:
    vm = a_vm(state="stopped")
    change = changes.remove_vm(a_stored(vm), {"hv1": a_ledger("hv1", vm)}, definition_version=2, name_version=1)
    assert change.ops[:3] == (
        Delete(layout.vm(WEB1), 4),
        Delete(layout.definition(WEB1), 2),
        Delete(layout.vm_name("web1"), 1),
    )
    with pytest.raises(BrokenRecord):
        changes.remove_vm(a_stored(vm), {}, 0, 0)


def test_a_leaders_change_holds_only_in_its_epoch() -> None:
    change = Change((Check("/x", 1),), "r")
    assert changes.guarded(change, 7).ops == (Check(layout.LEADER_EPOCH, 7), Check("/x", 1))
    nothing = Change((), "r")
    assert changes.guarded(nothing, 7) is nothing


def test_a_node_without_a_ledger_is_the_same_only_while_it_has_none() -> None:
    with_one = a_node("hv1")
    without = replace(with_one, ledger=None)
    assert changes.same_ledger(with_one) == Check(layout.ledger("hv1"), 0)
    assert isinstance(changes.same_ledger(without), Create)
    assert changes.same_node(with_one) == Check(layout.node("hv1"), 0)


def test_starting_elsewhere_moves_the_reservation_and_keeps_the_home() -> None:
    vm = a_vm(state="stopped")
    ledgers = {"hv1": a_ledger("hv1", vm), "hv2": None}
    change = changes.start_on(a_stored(vm), "hv2", "r", "now", ledgers)
    assert change.vm is not None
    assert (change.vm.state, change.vm.node, change.vm.home) == (VmState.STARTING, "hv2", "hv1")
    assert ledgers_after(change.ops, ledgers) == {"hv1": set(), "hv2": {WEB1}}
