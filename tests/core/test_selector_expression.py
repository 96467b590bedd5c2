# SPDX-License-Identifier: Apache-2.0
"""Selector expressions: what one may write, what it means, and how several selectors rank together."""

from __future__ import annotations

import pytest

from pvc_core.errors import InvalidInput
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.selector_expression import check_selector, parse_selector
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

PLACER = Placer(Registry.load())


@pytest.mark.parametrize(
    ("text", "kept"),
    [("mem", "mem"), ("mem:3", "mem"), (" mem : 2 , load ", "mem:2,load:1"), ("mem:0.5,vms:1e1", "mem:0.5,vms:10")],
)
def test_an_expression_is_kept_in_one_form(text: str, kept: str) -> None:
    assert str(parse_selector(text)) == kept


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mem:", "the weight \\(none\\) is not a number above 0"),
        ("mem:0", "the weight 0 is not"),
        ("mem:-1", "the weight -1 is not"),
        ("mem:nan", "the weight nan is not"),
        ("mem:1001", "at most 1000"),
        ("mem,mem:2", "names mem twice"),
        (",mem", "needs a selector's name"),
        ("mem:2,", "needs a selector's name"),
        (":2", "needs a selector's name"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        parse_selector(text)


def test_every_selector_in_an_expression_must_be_known() -> None:
    with pytest.raises(InvalidInput, match=r"is not registered by any plugin \(allowed: load, mem\)"):
        check_selector("mem:2,lod", ["mem", "load"])


@pytest.mark.parametrize(("selector", "node"), [("mem:2,vms:1", "hv1"), ("mem:1,vms:2", "hv2")])
def test_the_weights_decide_between_selectors_that_disagree(selector: str, node: str) -> None:
    snapshot = a_snapshot(
        [a_node("hv1", memory_mib=9000), a_node("hv2", memory_mib=4000)], [a_vm("a", node="hv1", memory_mib=100)]
    )
    decision = PLACER.place(a_request(node_selector=selector), snapshot)
    assert (decision.node, decision.selector, decision.degraded) == (node, selector, "")
    assert f"{node} of 2 candidates has the best weighted mean of {selector}" in decision.reason
    assert {one.node: one.parts for one in decision.ranking} == {
        "hv1": {"mem": 100.0, "vms": 0.0},
        "hv2": {"mem": 0.0, "vms": 100.0},
    }


def test_a_selector_of_an_expression_that_is_missing_is_left_out_and_the_decision_says_so() -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2", memory_mib=9000)])
    decision = PLACER.place(a_request(node_selector="acme:9,mem:1"), snapshot)
    assert (decision.node, decision.selector) == ("hv2", "mem")
    assert decision.degraded == "the selector acme is not installed; mem ranked instead"


def test_an_expression_of_which_nothing_is_left_gives_way_to_the_default() -> None:
    decision = PLACER.place(a_request(node_selector="acme:9,other:1"), a_snapshot([a_node("hv1")]))
    assert (decision.node, decision.selector) == ("hv1", "mem")
    assert "the selector acme is not installed; the selector other is not installed" in decision.degraded


def test_a_record_that_names_nonsense_is_placed_by_the_default() -> None:
    decision = PLACER.place(a_request(node_selector="mem:::"), a_snapshot([a_node("hv1")]))
    assert (decision.node, decision.selector) == ("hv1", "mem")
    assert "the selector mem::: is not installed" in decision.degraded
