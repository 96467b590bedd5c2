# SPDX-License-Identifier: Apache-2.0
"""Placement with plugins that are missing, fail or return nonsense: no VM waits for them, no limit suffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from pvc_core.errors import PluginError
from pvc_core.model import Settings
from pvc_core.placement import Placer, Rejection
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.plugin_types import FilterEntry, NodeCapacity, PlacementRequest, SelectorEntry
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

BUILT_IN = Registry.load()
THREE_NODES = a_snapshot([a_node("hv1", memory_mib=2048), a_node("hv2", memory_mib=8192), a_node("hv3")])


class Scoring:
    """A selector whose answer is whatever a function says."""

    def __init__(self, score: Callable[[Sequence[NodeCapacity]], Any]) -> None:
        self._score = score

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        answer: Mapping[str, float] = self._score(candidates)
        return answer


class Rejecting:
    """A filter whose answer is whatever a function says."""

    def __init__(self, reject: Callable[[Sequence[NodeCapacity]], Any]) -> None:
        self._reject = reject

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        answer: Mapping[str, str] = self._reject(nodes)
        return answer


def a_placer(
    selectors: Mapping[str, SelectorEntry] | None = None,
    filters: Mapping[str, FilterEntry] | None = None,
    on_plugin_failure: Callable[[PluginError], None] | None = None,
) -> Placer:
    """The built-in drivers and further ones."""
    drivers = GivenDrivers(
        selectors={**BUILT_IN.selectors, **(selectors or {})}, filters={**BUILT_IN.filters, **(filters or {})}
    )
    return Placer(drivers, on_plugin_failure)


def with_selector(name: str, score: Callable[[Sequence[NodeCapacity]], Any], plugin: str = "acme-plugin") -> Placer:
    return a_placer({name: SelectorEntry(name, "the best", Scoring(score), plugin)})


def with_filter(reject: Callable[[Sequence[NodeCapacity]], Any], fail_closed: bool = False) -> Placer:
    return a_placer(filters={"acme": FilterEntry("acme", "", Rejecting(reject), fail_closed, "acme-plugin")})


# -------------------------------------------------------------------------------------------- selectors


def test_the_largest_numbers_there_are_can_be_normalised() -> None:
    placer = with_selector("acme", lambda nodes: {"hv1": -1.7e308, "hv2": 1.7e308, "hv3": 0.0})
    ranking = placer.place(a_request(node_selector="acme"), THREE_NODES).ranking
    assert [(r.node, r.score) for r in ranking] == [("hv2", 100.0), ("hv3", 50.0), ("hv1", 0.0)]


def test_none_and_nothing_mean_the_clusters_default_selector() -> None:
    snapshot = a_snapshot(
        [a_node("hv1", memory_mib=9000), a_node("hv2")], [a_vm("a")], Settings(default_selector="vms")
    )
    for name in ("", "none"):
        decision = a_placer().place(a_request(node_selector=name), snapshot)
        assert (decision.node, decision.selector, decision.degraded) == ("hv2", "vms", "")


def test_a_selector_that_is_not_installed_is_replaced_by_the_default_and_the_decision_says_so() -> None:
    decision = a_placer().place(a_request(node_selector="acme"), THREE_NODES)
    assert decision.node == "hv2"
    assert decision.selector == "mem"
    assert decision.degraded == "the selector acme is not installed; mem ranked instead"


def test_without_any_selector_the_core_ranks_by_free_memory() -> None:
    placer = Placer(GivenDrivers(selectors={}, filters=BUILT_IN.filters))
    decision = placer.place(a_request(node_selector="acme"), THREE_NODES)
    assert (decision.node, decision.selector) == ("hv2", "mem")
    assert "the selector mem is not installed" in decision.degraded


def raising(error: BaseException) -> Callable[[object], Any]:
    def answer(_: object) -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (raising(ValueError("boom")), "ValueError: boom"),
        (raising(SystemExit(1)), "SystemExit: 1"),
        (lambda nodes: None, "returned NoneType instead of a mapping"),
        (lambda nodes: [1.0 for _ in nodes], "returned list instead of a mapping"),
        (lambda nodes: {}, "has no score for hv1, hv2, hv3"),
        (lambda nodes: {node.name: float("nan") for node in nodes}, "scored hv1 with nan"),
        (lambda nodes: {node.name: float("inf") for node in nodes}, "scored hv1 with inf"),
        (lambda nodes: {node.name: "best" for node in nodes}, "scored hv1 with str instead of a number"),
        (lambda nodes: {node.name: 10**400 for node in nodes}, "OverflowError"),
        (lambda nodes: {**{node.name: 1.0 for node in nodes}, "hv9": 2.0}, "scored hv9, no candidate"),
        (lambda nodes: setattr(nodes[0], "assigned_mib", 0), "AttributeError: immutable"),
        (lambda nodes: nodes[0].labels.update(rack="b"), "AttributeError"),
    ],
)
def test_a_selector_that_fails_does_not_stop_a_placement(answer: Callable[[Any], Any], problem: str) -> None:
    failures: list[PluginError] = []
    entry = SelectorEntry("acme", "the best", Scoring(answer), plugin="acme-plugin")
    placer = a_placer({"acme": entry}, on_plugin_failure=failures.append)
    decision = placer.place(a_request(node_selector="acme"), THREE_NODES)
    assert (decision.node, decision.selector) == ("hv2", "mem")
    assert decision.degraded.startswith("plugin acme-plugin: ")
    assert problem in decision.degraded
    assert decision.degraded.endswith("; mem ranked instead")
    assert [failure.plugin for failure in failures] == ["acme-plugin"]
    assert failures[0].__cause__ is not None


def test_a_default_selector_that_fails_too_leaves_the_cores_own() -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2", memory_mib=9000)], settings=Settings(default_selector="acme"))
    placer = with_selector("acme", raising(RuntimeError("broken")))
    decision = placer.place(a_request(), snapshot)
    assert (decision.node, decision.selector) == ("hv2", "mem")
    assert "RuntimeError: broken" in decision.degraded


def test_a_third_partys_filter_rejects_nodes_like_any_other() -> None:
    decision = with_filter(lambda nodes: {"hv2": "has no licence", "elsewhere": "unknown"}).place(
        a_request(), THREE_NODES
    )
    assert decision.node == "hv3"
    assert decision.rejections == (Rejection("hv2", "has no licence", "acme"),)


@pytest.mark.parametrize("answer", [raising(OSError("no network")), raising(SystemExit()), lambda nodes: {"hv2"}])
def test_a_filter_that_fails_is_left_out_so_that_it_never_stops_a_recovery(answer: Callable[[Any], Any]) -> None:
    decision = with_filter(answer).place(a_request(), THREE_NODES)
    assert decision.node == "hv2"
    assert decision.degraded.startswith("plugin acme-plugin: ")


def test_a_filter_that_fails_closed_leaves_no_node_when_it_fails() -> None:
    decision = with_filter(raising(OSError("no network")), fail_closed=True).place(a_request(), THREE_NODES)
    assert decision.node == ""
    assert "hv1, hv2, hv3: the filter acme failed: OSError: no network" in decision.reason
    assert decision.degraded.startswith("plugin acme-plugin: ")


@pytest.mark.parametrize("name", ["limit", "ready", "memory", "rules"])
def test_without_a_required_filter_nothing_is_placed(name: str) -> None:
    filters = {other: entry for other, entry in BUILT_IN.filters.items() if other != name}
    decision = Placer(GivenDrivers(selectors=BUILT_IN.selectors, filters=filters)).place(a_request(), THREE_NODES)
    assert decision.node == ""
    assert f"the filter {name} is not loaded" in decision.reason
