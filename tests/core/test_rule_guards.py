# SPDX-License-Identifier: Apache-2.0
"""Hard rules hold also among placements that do not know of one another yet; and the commands on rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from lagging_store import LaggingStore
from stored_cluster import ANY, Xml, refused_without_a_trace, vm

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.commands import Commands
from pvc_core.errors import AlreadyExists, InvalidInput, NoCandidate, NotFound, Refused
from pvc_core.model import Rule, VmMetadata
from pvc_core.ports import Check, Set
from pvc_core.rule_guards import guarded_by_rules
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_rule, a_snapshot, a_vm, uuid_of
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import VmEvent

APART = a_rule("pair", "apart", "web1", "web2", hard=True)
WEB = VmMetadata(tags=("web",))


def a_cluster(*rules: Rule, **more: Any) -> Any:
    vms = [a_vm("web1", state="stopped"), a_vm("web2", node="hv2"), a_vm("db1")]
    return a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3")], vms, rules=rules, **more)


def guards(snapshot: Any, change: Change) -> list[str]:
    guarded = guarded_by_rules(change, snapshot).change
    return [op.key for op in guarded.ops[len(change.ops) :]]


def start_of(name: str, snapshot: Any, node: str = "hv1") -> Change:
    stored = snapshot.vm(name)
    return changes.start_on(stored, node, "r", "now", changes.ledgers_of(snapshot, stored.value.node, node))


# --------------------------------------------------------------------------------------------- what is guarded


def test_a_member_that_starts_writes_its_hard_rules() -> None:
    soft = a_rule("soft", "together", "web1", "web2")
    snapshot = a_cluster(APART, soft)
    assert guards(snapshot, start_of("web1", snapshot)) == [layout.rule("pair")]


def test_the_rule_notes_the_record_that_was_written() -> None:
    snapshot = a_cluster(APART)
    change = guarded_by_rules(start_of("web1", snapshot), snapshot).change
    (guard,) = (op for op in change.ops if op.key == layout.rule("pair"))
    assert isinstance(guard, Set)
    assert guard.version == snapshot.rules["pair"].version
    assert f'"guard":{{"{uuid_of("web1")}":1}}'.encode() in guard.data


def test_a_migration_and_a_move_are_guarded_and_what_an_agent_finds_out_is_not() -> None:
    snapshot = a_cluster(APART)
    stored, ledgers = snapshot.vm("web2"), changes.ledgers_of(snapshot, "hv2", "hv3")
    migration = changes.of_event(stored, VmEvent.MIGRATE, "r", "now", ledgers, target="hv3")
    assert guards(snapshot, migration) == [layout.rule("pair")]
    assert guards(snapshot, changes.of_event(stored, VmEvent.SHUTDOWN, "r", "now", ledgers)) == []


def test_a_vm_in_no_rule_is_placed_while_no_rule_was_added() -> None:
    snapshot = a_cluster(APART)
    change = changes.create_vm(a_vm("new"), "<domain/>", snapshot.nodes["hv1"].ledger, {})
    known = replace(snapshot, rules_version=7)
    assert guarded_by_rules(change, known).change.ops == (*change.ops, Check(layout.RULES, 7))


def test_a_vm_that_becomes_a_member_by_its_tags_writes_the_rule() -> None:
    snapshot = a_cluster(a_rule("all", "apart", "tag:web", hard=True))
    stored = snapshot.vm("web1")
    tagged = a_vm("web1", state="stopped", tags=["web"])
    assert guards(snapshot, Change((changes.write_vm(stored, tagged),), "r")) == [layout.rule("all")]


# ------------------------------------------------------------------------------------------ watches that lag


@pytest.fixture
def late(three: Any) -> Any:
    """Three nodes, and beside the cluster's own commands a process to which no watch tells anything."""
    three.lagging = LaggingStore(three.store)
    three.late_view = three.new_view(three.lagging)
    three.late = Commands(three.late_view, three.lagging, three.registry, ManualClock())
    return three


def test_a_member_that_was_defined_a_moment_ago_is_seen(late: Any, xml: Xml) -> None:
    late.commands.add_rule("all", {"kind": "apart", "members": "tag:web", "hard": True})
    late.late.put_rule("other", {"kind": "apart", "members": "tag:other"})  # it knows the rules now
    late.commands.define(xml("web1"), WEB, target="hv1", start=True)
    with pytest.raises(NoCandidate, match="rule all keeps it apart from web1, which is on hv1"):
        late.late.define(xml("web2"), WEB, target="hv1", start=True)
    assert late.late.define(xml("web2"), WEB, start=True).vm.node == "hv2"


def test_a_rule_that_was_added_a_moment_ago_is_kept(late: Any, xml: Xml) -> None:
    late.commands.define(xml("web1"), WEB, target="hv1", start=True)
    late.commands.add_rule("all", {"kind": "together", "members": "tag:web", "hard": True})
    with pytest.raises(NoCandidate, match="rule all keeps it together with web1"):
        late.late.define(xml("web2"), WEB, target="hv2", start=True)


def test_a_vm_that_got_its_tag_a_moment_ago_is_avoided(late: Any, xml: Xml) -> None:
    late.commands.add_rule("all", {"kind": "apart", "members": "tag:web", "hard": True})
    late.commands.define(xml("web1"), ANY, target="hv1", start=True)
    late.late.put_rule("other", {"kind": "apart", "members": "tag:other"})
    late.commands.change_metadata("web1", {"tags": "web"})
    with pytest.raises(NoCandidate, match="apart from web1"):
        late.late.define(xml("web2"), WEB, target="hv1", start=True)


def test_a_member_of_which_a_watch_tells_while_it_is_decided_is_decided_on_again(late: Any, xml: Xml) -> None:
    late.commands.add_rule("all", {"kind": "apart", "members": "tag:web", "hard": True})
    web1 = late.commands.define(xml("web1"), WEB, target="hv1", start=True).vm
    late.late_view.refresh([layout.rule("all"), layout.RULES, layout.ledger("hv1")])
    there = late.store.get(layout.vm(web1.uuid))
    late.late_view._take_over(there.key, None)  # the rule is known as it stands, the VM that it names is not
    seen = []

    def decide(snapshot: ClusterSnapshot) -> Change:
        seen.append(web1.uuid in snapshot.vms)
        late.lagging.tells(there.key, there)
        ledger = snapshot.nodes["hv1"].ledger
        new = a_vm("web2", state="starting", tags=["web"])
        return changes.create_vm(new, "<domain/>", ledger, {})

    late.late_view.commit(decide)
    assert seen == [False, True]


# ------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def webs(three: Any, xml: Xml) -> Any:
    """web1 and web2, both running on hv1."""
    for name in ("web1", "web2"):
        three.commands.define(xml(name), ANY, target="hv1", start=True)
        three.happens(name, VmEvent.STARTED)
    return three


def test_a_rule_that_is_broken_from_the_beginning_is_accepted_and_says_so(webs: Any) -> None:
    outcome = webs.commands.add_rule("pair", {"kind": "apart", "members": "web1,web2", "hard": True})
    assert outcome.reason == "rule pair added; it is broken now: web1 and web2 are both on hv1, and are to be apart"
    assert webs.snapshot().rules["pair"].value == APART


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kind": "apart", "members": "web1,web9"}, "members 'web9': is no VM of this cluster; is web2 or web1 meant?"),
        ({"kind": "apart", "members": "web1,zzz"}, "VMs with a tag are written tag:T"),
        ({"kind": "apart", "members": "web1"}, "must name two VMs or a tag at least: a VM alone is always apart"),
        ({"kind": "apart", "members": "web1,web1"}, "must name two VMs or a tag"),
        ({"kind": "apart", "members": "tag:"}, "has no tag after tag:"),
        (
            {"kind": "near", "members": "web1,web2"},
            "kind 'near': is no kind of rule (allowed: together, apart",
        ),
        ({"members": "web1,web2"}, "kind: is required"),
        ({"kind": "apart", "membres": "web1"}, "membres: is not a field of a rule (allowed: members)"),
        ({"kind": "apart", "members": "web1,web2", "nodes": {"hv1": 1}}, "nodes: belong to a rule that prefers"),
        (
            {"kind": "prefer", "members": "web1", "nodes": {"hv1": 1}, "hard": True},
            "hard: belongs to a rule that",
        ),
        ({"kind": "prefer", "members": "web1", "nodes": {"hv9": 1}}, "nodes 'hv9': is not a node of this cluster"),
        ({"kind": "prefer", "members": "web1", "nodes": {"hv1": 1001}}, "nodes"),
        ({"kind": "prefer", "members": "web1"}, "nodes: must name the nodes with their weights"),
        ({"kind": "prefer", "nodes": {"hv1": 1}}, "members: must name a VM or a tag"),
        ({"kind": "apart", "members": "web1,web2", "hard": "maybe"}, "hard"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(webs: Any, fields: Any, problem: str) -> None:
    with refused_without_a_trace(webs, InvalidInput) as refused:
        webs.commands.add_rule("r", fields)
    assert problem in refused.value.sentence()


def test_a_member_named_by_its_uuid_is_kept_by_its_name(webs: Any) -> None:
    webs.commands.add_rule("pair", {"kind": "apart", "members": [vm(webs, "web1").uuid, "web2"]})
    assert webs.snapshot().rules["pair"].value.members == ("web1", "web2")


def test_vms_cannot_have_to_be_together_and_apart(webs: Any, xml: Xml) -> None:
    webs.commands.define(xml("web3"), WEB)
    webs.commands.add_rule("pair", {"kind": "together", "members": "web1,web2", "hard": True})
    webs.commands.add_rule("chain", {"kind": "together", "members": "web2,tag:web", "hard": True})
    with refused_without_a_trace(webs, Refused, match="rule pair keeps web1 and web2 together"):
        webs.commands.add_rule("no", {"kind": "apart", "members": "web1,web2", "hard": True})
    with refused_without_a_trace(webs, Refused, match="rules chain and pair keep web1 and web3 together"):
        webs.commands.add_rule("no", {"kind": "apart", "members": "web1,web3", "hard": True})
    webs.commands.add_rule("soft", {"kind": "apart", "members": "web1,web2"})


def test_a_rule_is_written_anew_and_removed(webs: Any) -> None:
    commands = webs.commands
    commands.put_rule("pair", {"kind": "apart", "members": "web1,web2"})
    assert not commands.put_rule("pair", {"kind": "apart", "members": "web1,web2"}).changed
    assert commands.put_rule("pair", {"kind": "together", "members": "web1,web2"}).reason == "rule pair changed"
    with pytest.raises(AlreadyExists):
        commands.add_rule("pair", {"kind": "apart", "members": "web1,web2"})
    assert commands.remove_rule("pair").reason == "rule pair is removed"
    assert not webs.snapshot().rules
    with pytest.raises(NotFound):
        commands.remove_rule("pair")


def test_a_rule_that_does_not_parse_can_be_removed(webs: Any) -> None:
    webs.put(layout.rule("odd"), b"rubbish")
    with pytest.raises(AlreadyExists):
        webs.commands.add_rule("odd", {"kind": "apart", "members": "web1,web2"})
    webs.commands.remove_rule("odd")
    assert not webs.snapshot().broken


def test_a_vm_that_is_renamed_stays_in_its_rules(stopped: Any, xml: Xml) -> None:
    stopped.commands.define(xml("web2"), ANY, target="hv1", start=True)
    stopped.commands.add_rule("pair", {"kind": "apart", "members": "web1,web2", "hard": True})
    stopped.commands.rename("web1", "front")
    assert stopped.snapshot().rules["pair"].value.members == ("front", "web2")
    assert stopped.commands.start("front").vm.node != "hv1"


def test_a_vm_that_is_forgotten_stays_named_for_one_that_is_defined_anew(stopped: Any, xml: Xml) -> None:
    stopped.commands.define(xml("web2"), ANY, target="hv1", start=True)
    stopped.commands.add_rule("pair", {"kind": "apart", "members": "web1,web2", "hard": True})
    assert stopped.commands.undefine("web1").reason == "web1 is undefined; still named in rule pair"
    assert stopped.commands.define(xml("web1"), ANY, start=True).vm.node != "hv1"


def test_a_tag_that_breaks_a_rule_is_accepted_and_says_so(webs: Any) -> None:
    webs.commands.add_rule("all", {"kind": "apart", "members": "web1,tag:web", "hard": True})
    outcome = webs.commands.change_metadata("web2", {"tags": "web"})
    assert outcome.reason.endswith("rule all is broken now: web1 and web2 are both on hv1, and are to be apart")


def test_an_explicit_target_that_breaks_a_hard_rule_is_refused(webs: Any) -> None:
    webs.commands.add_rule("pair", {"kind": "together", "members": "web1,web2", "hard": True})
    with refused_without_a_trace(webs, NoCandidate, match="rule pair keeps it together with web2, which is on hv1"):
        webs.commands.migrate("web1", "hv2")
