# SPDX-License-Identifier: Apache-2.0
"""leftovers: a VM whose node is lost may be given up, and its guest is ended when the node can be asked again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from stored_cluster import ANY, UUID, Xml, refused_without_a_trace, vm

from pvc_core import changes, layout
from pvc_core.codec import decode
from pvc_core.commands import Commands
from pvc_core.errors import BrokenRecord, NoCandidate, Refused
from pvc_core.event_log import EventLog
from pvc_core.events import Event, EventKind
from pvc_core.leftovers import EndLeftover, StrikeOut, decide, struck_out, why_not_by_force
from pvc_core.model import FenceReport, FenceStep, Ledger, Member, NodeRecord, Reservation, VmState
from pvc_core.ports import Delete
from pvc_core.testing.builders import a_node, a_vm, stored
from pvc_core.testing.counting_store import CountingStore
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import OFF
from pvc_core.vm_volumes import VmVolume, claim_key
from pvc_core.volume_claims import new_claim, refuse_claimed

LEFT = Ledger(leftovers={"u1": "web1", "u2": "web2"})


def lose(cluster: Any, node: str) -> None:
    """The session of its daemon ends."""
    entry = cluster.store.get(layout.member(node))
    cluster.store.transaction([Delete(entry.key, entry.version)])
    cluster.view.refresh([entry.key])


def ledger(cluster: Any, node: str) -> Ledger:
    return decode(cluster.store.get(layout.ledger(node)), Ledger).value


def last_event(cluster: Any) -> Event:
    return EventLog(cluster.store).last(1).events[-1]


# ------------------------------------------------------------------------------------------ undefining by force


def test_by_force_all_of_a_vm_goes_at_once_and_its_node_keeps_a_leftover(running: Any, xml: Xml) -> None:
    node = vm(running).node
    running.commands.define(xml("web2"), ANY, target=node)
    lose(running, node)
    outcome = running.commands.undefine("web1", force=True)
    assert outcome.reason == f"web1 is undefined by force; its guest may still run on {node} and write to its disks"
    for key in (layout.vm(UUID), layout.definition(UUID), layout.vm_name("web1")):
        assert running.store.get(key) is None
    left = ledger(running, node)
    assert (left.leftovers, list(left.vms)) == ({UUID: "web1"}, [vm(running, "web2").uuid])
    told = last_event(running)
    assert (told.kind, told.vm, told.node, told.reason) == ("vm_undefined_by_force", "web1", node, outcome.reason)


def test_its_volumes_stay_its_own_as_long_as_its_guest_may_write_to_them(running: Any) -> None:
    volume = VmVolume(device="vda", backend="d", pool="p", name="web1")
    running.put(layout.vm(UUID), msgspec.structs.replace(vm(running), volumes=(volume,)))
    running.put(claim_key(volume), new_claim(volume, vm(running), "", "attached"))
    lose(running, vm(running).node)
    running.commands.undefine("web1", force=True)
    with pytest.raises(Refused, match="is a volume of web1 already"):
        refuse_claimed(running.store, claim_key(volume))


def test_a_vm_that_is_off_leaves_nothing_also_with_force(stopped: Any) -> None:
    node = vm(stopped).node
    lose(stopped, node)
    stopped.commands.undefine("web1", force=True)
    assert ledger(stopped, node) == Ledger()
    assert last_event(stopped).kind == "vm_undefined"


def test_without_force_the_refusal_names_the_option_if_that_is_of_use(running: Any) -> None:
    with refused_without_a_trace(running, Refused, "is running; stop it before it is undefined"):
        running.commands.undefine("web1")
    lose(running, vm(running).node)
    with refused_without_a_trace(running, Refused, "which is lost: .*`pvc vm undefine web1 --force`"):
        running.commands.undefine("web1")


def test_with_force_a_vm_on_a_node_that_is_alive_is_refused(running: Any) -> None:
    with refused_without_a_trace(running, Refused, "daemon is alive: `pvc vm stop web1` ends its guest"):
        running.commands.undefine("web1", force=True)


@pytest.mark.parametrize("state", [state for state in VmState if state not in OFF])
def test_a_vm_that_may_run_is_given_up_in_any_state(state: VmState) -> None:
    record = a_vm("web1", state=state, target="hv2" if state is VmState.MIGRATING else "")
    assert why_not_by_force(record, a_node("hv1", alive=False)) == ""
    assert "alive" in why_not_by_force(record, a_node("hv1"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"left": True}, "stopped on purpose: .* `pvc node fence hv1`"),
        ({"fenced": True, "fence": FenceReport(step=FenceStep.RECOVERING)}, "known to be off: `pvc vm stop web1`"),
    ],
)
def test_it_is_not_given_up_where_something_else_helps(running: Any, fields: dict[str, Any], why: str) -> None:
    node = vm(running).node
    lose(running, node)
    running.put(layout.node(node), msgspec.structs.replace(NodeRecord(name=node), **fields))
    with refused_without_a_trace(running, Refused, why.replace("hv1", node)):
        running.commands.undefine("web1", force=True)


class Joining(CountingStore):
    """A store to which the daemon of a node joins when its life sign is looked for: just before, or just after."""

    def __init__(self, cluster: Any, node: str, *, before: bool) -> None:
        super().__init__(cluster.store)
        self._cluster, self._node, self._before, self._joined = cluster, node, before, False

    def get(self, key: str) -> Any:
        if key != layout.member(self._node) or self._joined:
            return super().get(key)
        found = None if self._before else super().get(key)
        self._joined = True
        record = self._cluster.snapshot().node(self._node).record.value
        self._cluster.put(layout.node(self._node), msgspec.structs.replace(record, session="new"))
        self._cluster.put(layout.member(self._node), Member(node=self._node, session="new", version="test"))
        return super().get(key) if self._before else found


@pytest.mark.parametrize("before", [True, False])
def test_a_node_whose_daemon_joins_at_that_very_moment_is_not_taken_for_lost(running: Any, before: bool) -> None:
    node = vm(running).node
    lose(running, node)
    commands = Commands(running.view, Joining(running, node, before=before), running.registry, ManualClock())
    with pytest.raises(Refused, match="whose daemon is"):
        commands.undefine("web1", force=True)
    assert vm(running).node == node
    assert ledger(running, node).leftovers == {}


def test_a_vm_on_its_way_leaves_something_to_do_at_both_ends(running: Any) -> None:
    source = vm(running).node
    running.commands.migrate("web1", "hv3" if source != "hv3" else "hv2")
    target = vm(running).target
    lose(running, source)
    outcome = running.commands.undefine("web1", force=True)
    assert outcome.reason.startswith(f"web1 is undefined by force; its guest may still run on {source} or {target}")
    for node in (source, target):
        assert ledger(running, node) == Ledger(leftovers={UUID: "web1"})


def test_what_the_ledger_cannot_keep_is_not_forgotten(running: Any) -> None:
    node = vm(running).node
    lose(running, node)
    running.put(layout.ledger(node), b"{")
    with refused_without_a_trace(running, BrokenRecord):
        running.commands.undefine("web1", force=True)


def test_a_node_takes_no_vm_before_it_is_rid_of_its_leftovers(running: Any, xml: Xml) -> None:
    node = vm(running).node
    lose(running, node)
    running.commands.undefine("web1", force=True)
    running.put(layout.member(node), Member(node=node, session="new", version="test"))
    with pytest.raises(NoCandidate, match="may still run web1, undefined by force"):
        running.commands.define(xml("web2"), ANY, target=node)
    strike = StrikeOut(UUID, "web1", "it does not run here")
    running.view.commit(lambda snapshot: struck_out([strike], node, snapshot.node(node).ledger))
    assert running.commands.define(xml("web2"), ANY, target=node).vm.node == node


# --------------------------------------------------------------------------------------- what the agent does


def test_a_guest_without_a_record_is_ended_and_one_that_does_not_run_is_struck_out() -> None:
    decision = decide(LEFT, active={"u1", "other"}, without_record={"u1": "web1", "other": "x"}, busy=())
    assert decision.ends == (EndLeftover("u1", "web1"),)
    assert decision.strikes == (StrikeOut("u2", "web2", "web2, undefined by force, does not run here"),)


def test_a_record_with_the_uuid_of_a_leftover_comes_first() -> None:
    decision = decide(LEFT, active={"u1"}, without_record={}, busy={"u2"})
    assert decision.ends == ()
    assert [(strike.uuid, "defined anew" in strike.reason) for strike in decision.strikes] == [("u1", True)]


def test_what_an_action_under_way_may_still_create_is_waited_for() -> None:
    decision = decide(LEFT, active={"u1"}, without_record={"u1": "web1"}, busy={"u1", "u2"})
    assert (decision.ends, decision.strikes) == ((), ())


def test_what_is_struck_out_goes_in_one_transaction_and_the_rest_of_the_ledger_stays() -> None:
    held = {"u3": Reservation(memory_mib=1, vcpus=1)}
    before = stored(layout.ledger("hv1"), msgspec.structs.replace(LEFT, vms=held), 4)
    strikes = [StrikeOut("u1", "web1", "gone"), StrikeOut("u9", "never", "gone")]
    change = struck_out(strikes, "hv1", before)
    assert change.ops == (changes.edit_ledger("hv1", before, leftovers={"u2": "web2"}),)
    assert [(told.kind, told.vm, told.node) for told in change.happenings] == [
        (EventKind.VM_LEFTOVER_GONE, "web1", "hv1")
    ]
    assert not struck_out(strikes[1:], "hv1", before).ops
    assert not struck_out(strikes, "hv1", None).ops
