# SPDX-License-Identifier: Apache-2.0
"""Whatever a third party's plugin does, a placement decides as if it were not there, and says so."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, SelectorEntry, VmProposal, hookimpl
from pvc_core.domain_xml import DomainDefinition
from pvc_core.model import Settings, VmMetadata
from pvc_core.placement import Decision, Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.plugin_calls import CallLimits, PluginCalls
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

BUILT_IN = Registry.load()
OWN = {"filters", "selectors", "recovery"}
SHORT_S = 0.02

hang = threading.Event()


@pytest.fixture(autouse=True, scope="module")
def _released_at_the_end() -> Iterator[None]:
    yield
    hang.set()


def recurses(nodes: Sequence[NodeCapacity]) -> Any:
    return recurses(nodes)


def interrupts(nodes: Sequence[NodeCapacity]) -> Any:
    raise KeyboardInterrupt


def mutates(nodes: Sequence[NodeCapacity]) -> Any:
    nodes[0].assigned_mib = 0  # type: ignore[misc]


FAILURES: Mapping[str, Callable[[Sequence[NodeCapacity]], Any]] = {
    "it raises": lambda nodes: 1 / 0,
    "it exits": lambda nodes: sys.exit(1),
    "it raises KeyboardInterrupt": interrupts,
    "it recurses without end": recurses,
    "it hangs": lambda nodes: hang.wait(60) and {},
    "it changes a node": mutates,
    "it changes a node's labels": lambda nodes: nodes[0].labels.update(rack="b"),  # type: ignore[attr-defined]
    "it adds a node": lambda nodes: nodes.append(nodes[0]),  # type: ignore[attr-defined]
    "it answers nothing": lambda nodes: None,
    "it answers a list": lambda nodes: [1.0],
}
NONSENSE: Mapping[str, Callable[[Sequence[NodeCapacity]], Any]] = {
    "NaN": lambda nodes: {node.name: float("nan") for node in nodes},
    "infinity": lambda nodes: {node.name: float("-inf") for node in nodes},
    "words": lambda nodes: {node.name: "best" for node in nodes},
    "an unknown node": lambda nodes: {"hv99": 1.0, **{node.name: 1.0 for node in nodes}},
    "no node": lambda nodes: {},
}


class Acme:
    """A selector and a filter whose answer is whatever a function says."""

    def __init__(self, answer: Callable[[Sequence[NodeCapacity]], Any]) -> None:
        self._answer = answer

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        scores: Mapping[str, float] = self._answer(candidates)
        return scores

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        reasons: Mapping[str, str] = self._answer(nodes)
        return reasons


def without_plugin() -> Placer:
    return Placer(BUILT_IN)


def with_selector(answer: Callable[[Sequence[NodeCapacity]], Any]) -> Placer:
    entry = SelectorEntry("acme", "", Acme(answer), plugin="acme-plugin")
    calls = PluginCalls(OWN, limits=CallLimits(answer_s=SHORT_S))
    return Placer(GivenDrivers({**BUILT_IN.selectors, "acme": entry}, BUILT_IN.filters, calls))


def with_filter(answer: Callable[[Sequence[NodeCapacity]], Any]) -> Placer:
    entry = FilterEntry("acme", "", Acme(answer), plugin="acme-plugin")
    calls = PluginCalls(OWN, limits=CallLimits(answer_s=SHORT_S))
    return Placer(GivenDrivers(BUILT_IN.selectors, {**BUILT_IN.filters, "acme": entry}, calls))


def as_without(decision: Decision, expected: Decision) -> bool:
    """The same decision, but for the note that a plugin did not do its part.

    Where there is no candidate nobody is asked for a score, and the decision names the selector that was wanted.
    """
    selector = decision.selector if decision.node else expected.selector
    return msgspec.structs.replace(decision, degraded="", selector=selector) == expected


NODE_FACTS: Mapping[str, st.SearchStrategy[Any]] = {
    "memory_mib": st.integers(600, 8192),
    "cores": st.integers(1, 8),
    "load_1m": st.floats(0, 32),
    "mode": st.sampled_from(["ready", "ready", "flushed"]),
    "labels": st.sampled_from([{}, {"rack": "a"}]),
}


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    names = [f"hv{number}" for number in range(draw(st.integers(1, 5)))]
    settings = Settings(default_selector=draw(st.sampled_from(list(BUILT_IN.selectors))))
    made = [draw(st.builds(a_node, st.just(name), **NODE_FACTS)) for name in names]
    return a_snapshot(made, [a_vm("old", node=names[0])], settings)


SOME = hypothesis_settings(deadline=None, max_examples=8)


@pytest.mark.parametrize("failure", [*FAILURES, *NONSENSE])
@SOME
@given(snapshot=clusters())
def test_a_selector_that_fails_leaves_the_decision_to_the_default(failure: str, snapshot: ClusterSnapshot) -> None:
    placer = with_selector({**FAILURES, **NONSENSE}[failure])
    expected = without_plugin().place(a_request(), snapshot)
    for _ in range(5):  # also once it is left out
        decision = placer.place(a_request(), snapshot)
        assert as_without(decision, expected)
        decision = placer.place(a_request(node_selector="acme"), snapshot)
        assert as_without(decision, expected)
        assert not expected.node or decision.degraded.startswith("plugin acme-plugin: ")


@pytest.mark.parametrize("failure", FAILURES)
@SOME
@given(snapshot=clusters())
def test_a_filter_that_fails_leaves_the_decision_to_the_others(failure: str, snapshot: ClusterSnapshot) -> None:
    placer = with_filter(FAILURES[failure])
    expected = without_plugin().place(a_request(), snapshot)
    for _ in range(5):
        decision = placer.place(a_request(), snapshot)
        assert as_without(decision, expected)
        assert decision.degraded.startswith("plugin acme-plugin: ")


# ------------------------------------------------------------------------------------------- what is given


class Vandal:
    """A veto that changes all it was given."""

    @hookimpl
    def pvc_validate_vm(self, proposal: VmProposal, snapshot: ClusterSnapshot) -> list[str]:
        node: Any = snapshot.node("hv1")
        node.record.value.labels["rack"] = "b"
        node.ledger.value.vms.clear()
        node.report.value.domains.clear()
        cluster: Any = snapshot
        cluster.vms_by_node.clear()
        cluster.broken.clear()
        return [] if self.cannot_be_changed(cluster.nodes) and self.cannot_be_changed(cluster.vms) else ["changed"]

    @staticmethod
    def cannot_be_changed(held: Any) -> bool:
        try:
            held.clear()
        except AttributeError:
            return True
        return False


def test_a_plugin_that_changes_what_it_was_given_changes_its_own_copy() -> None:
    snapshot = a_snapshot([a_node("hv1", labels={"rack": "a"}), a_node("hv2")], [a_vm("web1", node="hv1")])
    intact = a_snapshot([a_node("hv1", labels={"rack": "a"}), a_node("hv2")], [a_vm("web1", node="hv1")])
    proposal = VmProposal(DomainDefinition(None, "new", 512, 1), VmMetadata())
    validation = Registry.of(vandal=Vandal()).validate_vm(proposal, snapshot)
    assert (validation.failures, validation.objections) == ((), ())
    assert snapshot == intact
    assert list(snapshot.vms_by_node) == ["hv1"]


def test_what_is_handed_out_uncopied_holds_nothing_that_can_be_changed() -> None:
    record = a_vm("web1")
    values = [*msgspec.structs.asdict(record).values(), *msgspec.structs.asdict(record.metadata).values()]
    assert all(value.__hash__ is not None for value in values)
    assert hash(a_request()) == hash(a_request())
