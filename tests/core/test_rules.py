# SPDX-License-Identifier: Apache-2.0
"""Rules: who goes where because of whom, and which rules are broken now."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pvc_core.model import DrainReport, Rule, VmRecord
from pvc_core.placement import Decision, Placer
from pvc_core.planner import Plan, Wish, plan
from pvc_core.plugin_types import PlacementRequest
from pvc_core.registry import Registry
from pvc_core.rules import Rulebook, violations
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.testing.builders import a_node, a_request, a_rule, a_snapshot, a_vm

PLACER = Placer(Registry.load())
APART = a_rule("web-apart", "apart", "web1", "web2", "new", hard=True)
TOGETHER = a_rule("pair", "together", "web1", "web2", "new", hard=True)
SOFTLY_APART = a_rule("web-apart", "apart", "web1", "web2", "new")
SOFTLY_TOGETHER = a_rule("pair", "together", "web1", "web2", "new")


def three_nodes() -> list[NodeView]:
    return [a_node("hv1", memory_mib=8192), a_node("hv2"), a_node("hv3")]


def a_cluster(rules: Iterable[Rule], *vms: VmRecord, nodes: Iterable[NodeView] | None = None) -> ClusterSnapshot:
    return a_snapshot(three_nodes() if nodes is None else nodes, vms, rules=rules)


def placed(snapshot: ClusterSnapshot, vm: VmRecord | str = "new") -> Decision:
    return PLACER.place(a_request(vm), snapshot)


def why_not(decision: Decision) -> dict[str, str]:
    return {one.node: one.reason for one in decision.rejections if one.plugin == "rules"}


# ------------------------------------------------------------------------------------------------- members


def test_a_member_is_a_vm_by_name_or_any_that_has_the_tag() -> None:
    rule = a_rule("r", "apart", "db1", "tag:web", "gone")
    snapshot = a_cluster([rule], a_vm("web1", tags=["web"]), a_vm("db1"), a_vm("other"))
    book = Rulebook(snapshot)
    assert [vm.name for vm in book.members(rule)] == ["db1", "web1"]
    assert book.missing(rule) == ("gone",)
    assert book.concerns("db1", ())
    assert book.concerns("any", ("front", "web"))
    assert not book.concerns("other", ("front",))
    assert not book.concerns("web", ())


def test_without_rules_nobody_is_concerned() -> None:
    assert not Rulebook(a_cluster([])).concerns("web1", ("web",))


# --------------------------------------------------------------------------------------------- hard, apart


def test_a_vm_is_kept_apart_from_a_member_that_runs() -> None:
    decision = placed(a_cluster([APART], a_vm("web2", node="hv1")))
    assert why_not(decision) == {"hv1": "rule web-apart keeps it apart from web2, which is on hv1"}
    assert decision.node == "hv2"


def test_a_member_that_migrates_is_avoided_on_both_sides() -> None:
    moving = a_vm("web2", node="hv1", state="migrating", target="hv2")
    decision = placed(a_cluster([APART], moving))
    assert why_not(decision) == {
        "hv1": "rule web-apart keeps it apart from web2, which has not left hv1 yet",
        "hv2": "rule web-apart keeps it apart from web2, which is going to hv2",
    }
    assert decision.node == "hv3"


def test_a_member_that_is_off_is_avoided_while_there_is_a_choice() -> None:
    off = a_vm("web2", node="hv1", state="stopped")
    assert placed(a_cluster([APART], off)).node == "hv2"
    assert placed(a_cluster([APART], off, nodes=[a_node("hv1")])).node == "hv1"


def test_when_every_node_has_a_member_nothing_is_placed() -> None:
    members = [a_vm("web1", node="hv1"), a_vm("web2", node="hv2")]
    decision = placed(a_cluster([APART], *members, nodes=[a_node("hv1"), a_node("hv2")]))
    assert decision.node == ""
    assert "hv1: rule web-apart keeps it apart from web1, which is on hv1" in decision.reason


def test_vms_placed_together_are_kept_apart_from_one_another() -> None:
    decisions = PLACER.place_many([a_request(name) for name in ("web1", "web2", "new")], a_cluster([APART]))
    assert sorted(decision.node for decision in decisions) == ["hv1", "hv2", "hv3"]


def test_a_rule_is_nothing_to_a_vm_that_is_not_its_member() -> None:
    assert placed(a_cluster([APART], a_vm("web2", node="hv1")), "stranger").node == "hv1"


# ------------------------------------------------------------------------------------------ hard, together


def test_a_vm_goes_where_the_others_are() -> None:
    decision = placed(a_cluster([TOGETHER], a_vm("web2", node="hv3")))
    reason = "rule pair keeps it together with web2, which is on hv3"
    assert (decision.node, why_not(decision)) == ("hv3", {"hv1": reason, "hv2": reason})


def test_a_vm_goes_where_the_others_are_going() -> None:
    moving = a_vm("web2", node="hv1", state="migrating", target="hv2")
    assert placed(a_cluster([TOGETHER], moving)).node == "hv2"


def test_a_vm_is_not_migrated_away_from_the_others() -> None:
    web1 = a_vm("web1", node="hv1")
    snapshot = a_cluster([TOGETHER], web1, a_vm("web2", node="hv1"))
    decision = PLACER.place(PlacementRequest.for_vm(web1, exclude=frozenset({"hv1"})), snapshot)
    assert decision.node == ""


@pytest.mark.parametrize("facts", [{"mode": "flushing"}, {"alive": False}, {"fenced": True}])
def test_a_member_on_a_node_that_is_being_left_keeps_nobody_there(facts: dict[str, object]) -> None:
    nodes = [a_node("hv1", **facts), a_node("hv2")]  # type: ignore[arg-type]  # facts of a node
    assert placed(a_cluster([TOGETHER], a_vm("web2", node="hv1"), nodes=nodes)).node == "hv2"


def test_a_member_that_goes_home_is_followed_there() -> None:
    nodes = [a_node("hv1", mode="unflushing"), a_node("hv2")]
    web1, web2 = (a_vm(name, node="hv2", home="hv1") for name in ("web1", "web2"))
    request = PlacementRequest.for_vm(web1, accept_unflushing=True)
    assert PLACER.place(request, a_cluster([TOGETHER], web1, web2, nodes=nodes), only="hv1").node == "hv1"


def test_a_member_that_a_return_leaves_where_it_runs_is_not_expected_at_home() -> None:
    drain = DrainReport(leaves_running=True, by_itself=True)
    nodes = [a_node("hv1", mode="unflushing", drain=drain), a_node("hv2")]
    held, running = a_vm("web1", state="stopped", held=True, node="hv1"), a_vm("web2", node="hv2", home="hv1")
    request = PlacementRequest.for_vm(held, accept_unflushing=True)
    decision = PLACER.place(request, a_cluster([TOGETHER], held, running, nodes=nodes), only="hv1")
    assert "rule pair keeps it together with web2, which is on hv2" in decision.reason


def a_flush_of_three(*nodes: NodeView, rule: Rule | None = None) -> dict[str, str]:
    """Where the group of three (1024 MiB each) goes that is on hv1, and with it a larger VM that is in no rule."""
    vms = [a_vm(name, node="hv1", memory_mib=1024) for name in ("a", "b", "c")] + [a_vm("big", memory_mib=1500)]
    rule = rule or a_rule("trio", "together", "a", "b", "c", hard=True)
    snapshot = a_cluster([rule], *vms, nodes=[a_node("hv1", memory_mib=8192, mode="flushing"), *nodes])
    requests = [PlacementRequest.for_vm(vm, exclude=frozenset({"hv1"})) for vm in vms]
    return {decision.vm: decision.node for decision in PLACER.place_many(requests, snapshot)}


def test_a_group_goes_where_there_is_room_for_all_of_it() -> None:
    """hv2 has more free memory than hv3 has for one of them, once the big one has taken the most."""
    nodes = [a_node("hv2", memory_mib=512 + 4500), a_node("hv3", memory_mib=512 + 3072), a_node("hv4", memory_mib=3000)]
    places = a_flush_of_three(*nodes)
    assert places == {"big": "hv2", "a": "hv3", "b": "hv3", "c": "hv3"}


def test_a_group_that_fits_nowhere_as_a_whole_is_not_scattered() -> None:
    places = a_flush_of_three(a_node("hv2", memory_mib=512 + 2048), a_node("hv3", memory_mib=512 + 2048))
    assert len({places[name] for name in ("a", "b", "c")} - {""}) == 1


def test_a_group_on_a_node_that_is_ready_may_leave_it_as_a_whole() -> None:
    vms = [a_vm(name, node="hv1") for name in ("web1", "web2")]
    requests = [PlacementRequest.for_vm(vm, exclude=frozenset({"hv1"})) for vm in vms]
    decisions = PLACER.place_many(requests, a_cluster([TOGETHER], *vms))
    assert [decision.node for decision in decisions] == ["hv2", "hv2"]


def test_the_limit_of_one_is_the_limit_of_the_group() -> None:
    vms = [a_vm("web1", node="hv1"), a_vm("web2", node="hv1", node_limit=["hv1", "hv3"])]
    requests = [PlacementRequest.for_vm(vm, exclude=frozenset({"hv1"})) for vm in vms]
    decisions = PLACER.place_many(requests, a_cluster([TOGETHER], *vms))
    assert [decision.node for decision in decisions] == ["hv3", "hv3"]
    assert why_not(decisions[0])["hv2"] == "cannot take web2 as well, which rules keep together with it"


# ---------------------------------------------------------------------------------------------------- soft


def test_a_soft_rule_comes_before_the_selector_and_says_so() -> None:
    decision = placed(a_cluster([SOFTLY_APART], a_vm("web2", node="hv1"), nodes=three_nodes()[:2]))
    assert (decision.node, decision.reason) == ("hv2", "rule web-apart prefers hv2")
    assert [(one.node, one.preference) for one in decision.ranking] == [("hv2", 0), ("hv1", -100)]


def test_among_nodes_that_rules_like_equally_the_selector_decides() -> None:
    decision = placed(a_cluster([SOFTLY_APART], a_vm("web2", node="hv2")))
    assert decision.node == "hv1"
    assert decision.reason == (
        "rule web-apart prefers hv1, hv3; selector mem: hv1 of 2 candidates has the most free memory"
    )


def test_a_soft_rule_gives_way_where_there_is_no_other_node() -> None:
    decision = placed(
        a_cluster([SOFTLY_TOGETHER], a_vm("web2", node="hv2"), nodes=[a_node("hv1"), a_node("hv2", mode="flushed")])
    )
    assert decision.node == "hv1"


def test_each_member_that_would_be_missed_or_met_counts() -> None:
    others = [a_vm("web1", node="hv2"), a_vm("web2", node="hv3"), a_vm("new2", node="hv3")]
    rule = a_rule("r", "together", "web1", "web2", "new", "new2")
    ranking = placed(a_cluster([rule], *others)).ranking
    assert [(one.node, one.preference) for one in ranking] == [("hv3", -100), ("hv2", -200), ("hv1", -300)]


def test_weights_of_preferred_nodes_add_up_with_the_other_rules() -> None:
    rules = [SOFTLY_APART, a_rule("near", "prefer", "new", hv2=50, hv3=-1), a_rule("also", "prefer", "new", hv3=2.5)]
    ranking = placed(a_cluster(rules, a_vm("web1", node="hv2"))).ranking
    assert [(one.node, one.preference) for one in ranking] == [("hv3", 1.5), ("hv1", 0), ("hv2", -50)]


# ------------------------------------------------------------------------------------------------ violations


def broken(rule: Rule, *vms: VmRecord) -> list[str]:
    return [found.reason for found in violations(a_cluster([rule], *vms))]


def test_vms_that_are_to_be_apart_and_meet_break_the_rule() -> None:
    (found,) = violations(a_cluster([APART], a_vm("web1", node="hv1"), a_vm("web2", node="hv1")))
    assert found.reason == "web1 and web2 are both on hv1, and are to be apart"
    assert (found.rule, found.hard, found.vms, found.nodes) == ("web-apart", True, ("web1", "web2"), ("hv1",))


def test_vms_that_are_to_be_together_and_are_not_break_the_rule() -> None:
    found = broken(TOGETHER, a_vm("web1", node="hv1"), a_vm("web2", node="hv2"), a_vm("new", node="hv2"))
    assert found == ["they are to be together, and are not: new and web2 on hv2; web1 on hv1"]


def test_vms_that_are_off_break_no_rule() -> None:
    assert not broken(APART, a_vm("web1", node="hv1"), a_vm("web2", node="hv1", state="stopped"))
    assert not broken(TOGETHER, a_vm("web1", node="hv1"), a_vm("web2", node="hv2", state="disabled"))


def test_a_vm_on_its_way_to_the_others_is_together_with_them() -> None:
    assert not broken(TOGETHER, a_vm("web1", node="hv1", state="migrating", target="hv2"), a_vm("web2", node="hv2"))


def test_a_vm_that_has_not_left_is_not_apart_yet() -> None:
    assert broken(APART, a_vm("web1", node="hv1", state="migrating", target="hv2"), a_vm("web2", node="hv1"))


def test_a_soft_rule_is_broken_too_and_a_preference_never() -> None:
    both = (a_vm("web1", node="hv1"), a_vm("web2", node="hv1"))
    assert [found.hard for found in violations(a_cluster([SOFTLY_APART], *both))] == [False]
    assert not broken(a_rule("near", "prefer", "web1", hv2=10), *both)


# ------------------------------------------------------------------------------------------------------ plans


def making_room(*rules: Rule) -> Plan:
    """big goes to hv2, which is full of two VMs; there is room elsewhere for one of them."""
    nodes = [a_node("hv1"), a_node("hv2", memory_mib=2560), a_node("hv3", memory_mib=1536)]
    big = a_vm("big", node="hv1", memory_mib=1024)
    others = [a_vm(name, node="hv2", memory_mib=1024) for name in ("web1", "web2")]
    snapshot = a_cluster(rules, big, *others, nodes=nodes)
    wish = Wish(PlacementRequest.for_vm(big, exclude=frozenset({"hv1"})), "hv2")
    return plan([wish], snapshot, PLACER, may_move_others=True)


def test_a_plan_does_not_tear_a_group_apart_to_make_room() -> None:
    assert len(making_room().steps) == 2
    assert len(making_room(SOFTLY_TOGETHER).steps) == 2
    assert not making_room(TOGETHER).steps


def test_a_plan_moves_nobody_next_to_one_it_is_kept_apart_from() -> None:
    apart = a_rule("apart", "apart", "web1", "web2", "db1", hard=True)
    nodes = [a_node("hv1"), a_node("hv2", memory_mib=1536), a_node("hv3")]
    vms = [a_vm("big", node="hv1", memory_mib=1024), a_vm("web1", node="hv2", memory_mib=1024)]
    wish = Wish(PlacementRequest.for_vm(vms[0], exclude=frozenset({"hv1"})), "hv2")

    def steps(*more: VmRecord) -> set[str]:
        snapshot = a_cluster([apart], *vms, *more, nodes=nodes)
        return {f"{step.vm} to {step.target}" for step in plan([wish], snapshot, PLACER, may_move_others=True).steps}

    assert "big to hv2" in steps()
    assert steps(a_vm("db1", node="hv3")) == {"web1 to hv1", "big to hv2"}
    assert steps(a_vm("db1", node="hv3"), a_vm("web2", node="hv1")) == set()
