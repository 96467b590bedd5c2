# SPDX-License-Identifier: Apache-2.0
"""The suites for selectors, filters and recovery policies catch every driver that breaks one of their rules."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kit.suite_proof import assert_every_rule_can_fail, assert_keeps_all, broken, suite_of
from pvc_core.plugin_types import FilterEntry, NodeCapacity, PlacementRequest, RecoveryPolicyEntry, SelectorEntry
from pvc_core.testing.filter_suite import FilterSuite
from pvc_core.testing.recovery_suite import RecoveryPolicySuite
from pvc_core.testing.selector_suite import SelectorSuite, SpreadingSelectorSuite

Nodes = Sequence[NodeCapacity]


class Answering:
    """A driver of any of the three kinds, whose answer is what a function says."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def score(self, request: PlacementRequest, candidates: Nodes) -> Any:
        return self._answer(candidates)

    def reject(self, request: PlacementRequest, nodes: Nodes, settings: Any) -> Any:
        return self._answer(request, nodes)

    def without_candidate(self, request: PlacementRequest) -> Any:
        return self._answer(request)

    def after_loss(self, request: PlacementRequest) -> Any:
        return self._answer(request)


# ------------------------------------------------------------------------------------------- selectors


def selecting(answer: Callable[[Nodes], Any], summary: str = "the fewest VMs") -> SelectorEntry:
    return SelectorEntry("acme", summary, Answering(answer))


def fewest(nodes: Nodes) -> dict[str, float]:
    return {node.name: -float(node.assigned_vms) for node in nodes}


def relabelling(nodes: Nodes) -> dict[str, float]:
    for node in nodes:
        if isinstance(node.labels, dict):
            node.labels["seen"] = "yes"
    return fewest(nodes)


def always_the_same(nodes: Nodes) -> dict[str, float]:
    return {node.name: 0.0 for node in nodes}


_counter = itertools.count()
BROKEN_SELECTORS: list[tuple[str, SelectorEntry]] = [
    ("test_its_summary_is_one_line", selecting(fewest, "")),
    ("test_its_summary_is_one_line", selecting(fewest, "the fewest\nVMs")),
    ("test_it_gives_exactly_the_candidates_a_finite_number", selecting(lambda nodes: fewest(nodes[1:]))),
    ("test_it_gives_exactly_the_candidates_a_finite_number", selecting(lambda nodes: {**fewest(nodes), "hv99": 1.0})),
    (
        "test_it_gives_exactly_the_candidates_a_finite_number",
        selecting(lambda nodes: {node.name: float("nan") for node in nodes}),
    ),
    (
        "test_it_scores_a_single_candidate",
        selecting(lambda nodes: {n.name: 1.0 / (len(nodes) - 1) for n in nodes}),
    ),
    (
        "test_it_scores_a_node_that_reports_no_cores_and_no_memory",
        selecting(lambda nodes: {node.name: -node.assigned_vcpus / node.cores for node in nodes}),
    ),
    (
        "test_the_order_of_the_candidates_does_not_matter",
        selecting(lambda nodes: {node.name: -float(place) for place, node in enumerate(nodes)}),
    ),
    (
        "test_it_gives_the_same_answer_twice",
        selecting(lambda nodes: {node.name: random.random() for node in nodes}),
    ),
    (
        "test_it_gives_the_same_answer_twice",
        selecting(lambda nodes: {node.name: float(next(_counter)) for node in nodes}),
    ),
    (
        "test_if_it_promises_so_a_score_depends_on_the_node_only",
        replace(selecting(lambda nodes: {n.name: float(len(nodes)) for n in nodes}), depends_on_node_only=True),
    ),
    ("test_it_leaves_the_candidates_as_they_were", selecting(relabelling)),
    (
        "test_a_vm_that_names_it_is_placed_by_it_within_its_limit",
        selecting(lambda nodes: {node.name: 1.0 for node in nodes if node.name not in ("hv2", "hv4")}),
    ),
    ("test_a_flush_does_not_send_all_guests_to_one_node", selecting(always_the_same)),
]


def test_an_honest_selector_passes() -> None:
    assert_keeps_all(suite_of(SpreadingSelectorSuite, selecting(fewest)))


@pytest.mark.parametrize(("rule", "entry"), BROKEN_SELECTORS)
def test_the_suite_catches_a_broken_selector(rule: str, entry: SelectorEntry) -> None:
    assert rule in broken(suite_of(SpreadingSelectorSuite, entry))


def test_every_rule_for_selectors_can_fail() -> None:
    assert_every_rule_can_fail(SpreadingSelectorSuite, [rule for rule, _ in BROKEN_SELECTORS])


def test_a_selector_that_does_not_count_is_not_asked_to_spread() -> None:
    assert_keeps_all(suite_of(SelectorSuite, selecting(always_the_same)))


# --------------------------------------------------------------------------------------------- filters


def filtering(answer: Callable[[PlacementRequest, Nodes], Any], summary: str = "the second node") -> FilterEntry:
    return FilterEntry("acme", summary, Answering(answer))


def not_hv2(request: PlacementRequest, nodes: Nodes) -> dict[str, str]:
    return {node.name: "has no licence" for node in nodes if node.name == "hv2"}


def all_but_the_first(request: PlacementRequest, nodes: Nodes) -> dict[str, str]:
    return {node.name: "is not the first" for node in nodes[1:]}


def marking(request: PlacementRequest, nodes: Nodes) -> dict[str, str]:
    for node in nodes:
        if isinstance(node.labels, dict):
            node.labels["seen"] = "yes"
    return {}


def forgetful(request: PlacementRequest, nodes: Nodes) -> dict[str, str]:
    return {node.name: "it is too late" for node in nodes if next(_counter) % 2}


BROKEN_FILTERS: list[tuple[str, FilterEntry]] = [
    ("test_its_summary_is_one_line", filtering(not_hv2, "")),
    (
        "test_it_answers_with_a_reason_in_one_line_for_each_node_that_it_rejects",
        filtering(lambda request, nodes: [node.name for node in nodes]),
    ),
    (
        "test_it_answers_with_a_reason_in_one_line_for_each_node_that_it_rejects",
        filtering(lambda request, nodes: {node.name: "" for node in nodes}),
    ),
    (
        "test_it_answers_with_a_reason_in_one_line_for_each_node_that_it_rejects",
        filtering(lambda request, nodes: {node.name: True for node in nodes}),
    ),
    (
        "test_it_answers_with_a_reason_in_one_line_for_each_node_that_it_rejects",
        filtering(lambda request, nodes: {node.name: "no\nlicence" for node in nodes}),
    ),
    (
        "test_it_names_no_node_that_it_was_not_asked_about",
        filtering(lambda request, nodes: {"hv9": "has no licence"}),
    ),
    (
        "test_where_there_is_no_node_it_rejects_none",
        filtering(lambda request, nodes: not_hv2(request, nodes) if nodes[0] else {}),
    ),
    ("test_the_order_of_the_nodes_does_not_matter", filtering(all_but_the_first)),
    ("test_it_gives_the_same_answer_twice", filtering(forgetful)),
    ("test_it_leaves_what_it_is_given_as_it_was", filtering(marking)),
    (
        "test_a_placement_keeps_away_from_the_nodes_that_it_rejects_and_says_why",
        filtering(lambda request, nodes: {} if len(nodes) != 5 else all_but_the_first(request, nodes[:0]) or 1 / 0),
    ),
]


def test_an_honest_filter_passes() -> None:
    assert_keeps_all(suite_of(FilterSuite, filtering(not_hv2)))


@pytest.mark.parametrize(("rule", "entry"), BROKEN_FILTERS)
def test_the_suite_catches_a_broken_filter(rule: str, entry: FilterEntry) -> None:
    assert rule in broken(suite_of(FilterSuite, entry))


def test_every_rule_for_filters_can_fail() -> None:
    assert_every_rule_can_fail(FilterSuite, [rule for rule, _ in BROKEN_FILTERS])


# -------------------------------------------------------------------------------------- recovery policies


def recovering(answer: Callable[[PlacementRequest], Any], summary: str = "held") -> RecoveryPolicyEntry:
    return RecoveryPolicyEntry("acme", summary, Answering(answer))


_seen = [""]


def by_the_one_before(request: PlacementRequest) -> str:
    """The same VM twice in a row gets the same answer; which other one came before it changes it."""
    if request.vm != _seen[-1]:
        _seen.append(request.vm)
    return "stay" if _seen[-2] == "auto1" else "hold"


BROKEN_POLICIES: list[tuple[str, RecoveryPolicyEntry]] = [
    ("test_its_summary_is_one_line", recovering(lambda request: "hold", "")),
    ("test_it_says_hold_or_stay", recovering(lambda request: "kill")),
    ("test_after_a_loss_it_says_restart_hold_or_stop", recovering(lambda request: "stay")),
    ("test_it_says_hold_or_stay", recovering(lambda request: None)),
    ("test_it_says_hold_or_stay", recovering(lambda request: {}[request.vm])),
    ("test_it_gives_the_same_answer_twice", recovering(lambda request: ("hold", "stay")[next(_counter) % 2])),
    ("test_another_vm_in_between_does_not_change_its_answer", recovering(by_the_one_before)),
]


def test_an_honest_policy_passes() -> None:
    assert_keeps_all(suite_of(RecoveryPolicySuite, recovering(lambda request: "hold")))


@pytest.mark.parametrize(("rule", "entry"), BROKEN_POLICIES)
def test_the_suite_catches_a_broken_policy(rule: str, entry: RecoveryPolicyEntry) -> None:
    assert rule in broken(suite_of(RecoveryPolicySuite, entry))


def test_every_rule_for_policies_can_fail() -> None:
    assert_every_rule_can_fail(RecoveryPolicySuite, [rule for rule, _ in BROKEN_POLICIES])
