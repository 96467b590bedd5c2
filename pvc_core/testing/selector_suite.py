# SPDX-License-Identifier: Apache-2.0
"""selector_suite: what every selector must do; a subclass with a name is enough to prove it of yours.

    from pvc_core.testing.selector_suite import SelectorSuite

    class TestAcme(SelectorSuite):
        name = "acme"

The selector is the one that the installed plugins register. Override `registry` to test a plugin that is not
installed: `return Registry.of(my_plugin)`; it is loaded beside the filters that placement needs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pvc_core.model import NodeMode
from pvc_core.placement import Decision, Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.placement_steps import CORE_MEM
from pvc_core.plugin_types import NodeCapacity, SelectorEntry
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot, a_vm
from pvc_core.testing.driver_suite import DriverSuite, installed


class SelectorSuite(DriverSuite[SelectorEntry]):
    """The rules for every selector."""

    kind = "selectors"

    # ------------------------------------------------------------------------------------------- tools

    def scores(self, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        """What the selector says of the candidates for a small VM."""
        return self.entry().selector.score(self.with_options(a_request()), tuple(candidates))

    def placer(self) -> Placer:
        """A placer that knows this selector."""
        registry = self.registry()
        selectors = {CORE_MEM.name: CORE_MEM, **registry.selectors}
        return Placer(GivenDrivers(selectors, installed().filters, registry.calls, registry.options))

    @staticmethod
    def candidates() -> tuple[NodeCapacity, ...]:
        """Nodes that differ in everything, among them an empty, a full and an enormous one."""
        return (
            a_capacity("hv1"),
            a_capacity("hv2", assigned_mib=4096, running_mib=2048, assigned_vcpus=64, assigned_vms=40, load_1m=97.5),
            a_capacity("hv3", memory_total_mib=2**24, cores=1024, labels={"rack": "a"}),
            a_capacity("hv4", memory_total_mib=1, memory_available_mib=0, cores=1, coming_vcpus=7),
            a_capacity("hv5", mode=NodeMode.UNFLUSHING, report_age_s=29.0),
        )

    # ------------------------------------------------------------------------------------------- rules

    def test_it_gives_exactly_the_candidates_a_finite_number(self) -> None:
        scores = self.scores(self.candidates())
        assert set(scores) == {node.name for node in self.candidates()}
        assert all(math.isfinite(score) for score in scores.values()), f"not all finite: {dict(scores)}"

    def test_it_scores_a_single_candidate(self) -> None:
        for node in self.candidates():
            assert set(self.scores([node])) == {node.name}

    def test_it_scores_a_node_that_reports_no_cores_and_no_memory(self) -> None:
        bare = a_capacity("hv1", memory_total_mib=0, memory_available_mib=0, cores=0)
        assert math.isfinite(self.scores([bare])["hv1"])

    def test_the_order_of_the_candidates_does_not_matter(self) -> None:
        forwards, backwards = self.scores(self.candidates()), self.scores(self.candidates()[::-1])
        assert dict(forwards) == dict(backwards), f"{dict(forwards)} against {dict(backwards)}"

    def test_it_gives_the_same_answer_twice(self) -> None:
        assert dict(self.scores(self.candidates())) == dict(self.scores(self.candidates()))

    def test_if_it_promises_so_a_score_depends_on_the_node_only(self) -> None:
        if not self.entry().depends_on_node_only:
            return
        among_others, large = self.scores(self.candidates()), a_request("large", memory_mib=3000, vcpus=4)
        for node in self.candidates():
            assert self.scores([node])[node.name] == among_others[node.name]
            assert self.entry().selector.score(large, [node])[node.name] == among_others[node.name]

    def test_it_leaves_the_candidates_as_they_were(self) -> None:
        candidates = self.candidates()
        self.entry().selector.score(self.with_options(a_request()), candidates)
        assert candidates == self.candidates()

    def test_a_vm_that_names_it_is_placed_by_it_within_its_limit(self) -> None:
        snapshot = a_snapshot([a_node(f"hv{n}", memory_mib=n * 4096) for n in range(1, 6)], settings=self.settings())
        decision = self.placer().place(a_request(node_selector=self.name, node_limit=("hv2", "hv4")), snapshot)
        assert decision.degraded == ""
        assert decision.selector == self.name
        assert decision.node in ("hv2", "hv4")


class SpreadingSelectorSuite(SelectorSuite):
    """Further rules for selectors that look at how much a node has been given already."""

    def flush_of_12_guests_on_3_nodes(self) -> tuple[Decision, ...]:
        """The plan for hv1's guests."""
        guests = [a_vm(f"web{n:02}", node="hv1", node_selector=self.name, memory_mib=256) for n in range(12)]
        snapshot = a_snapshot(
            [a_node("hv1", mode=NodeMode.FLUSHING), a_node("hv2"), a_node("hv3")], guests, self.settings()
        )
        requests = [a_request(guest, exclude=frozenset({"hv1"})) for guest in guests]
        return self.placer().place_many(requests, snapshot)

    def test_a_flush_does_not_send_all_guests_to_one_node(self) -> None:
        targets = Counter(decision.node for decision in self.flush_of_12_guests_on_3_nodes())
        assert targets == {"hv2": 6, "hv3": 6}
