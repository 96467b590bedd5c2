# SPDX-License-Identifier: Apache-2.0
"""filter_suite: what every filter must do; a subclass with a name is enough to prove it of yours.

    from pvc_core.testing.filter_suite import FilterSuite

    class TestLicensed(FilterSuite):
        name = "licensed"

The filter is the one that the installed plugins register. Override `registry` to test a plugin that is not
installed, `requests` and `nodes` for cases that your filter treats in a special way: the rules are asked of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core.model import NodeMode, Settings
from pvc_core.placement import Placer
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.placement_steps import CORE_MEM
from pvc_core.plugin_types import FilterEntry, NodeCapacity, PlacementRequest, StorageNeed
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot, a_vm
from pvc_core.testing.driver_suite import DriverSuite, installed


class FilterSuite(DriverSuite[FilterEntry]):
    """The rules for every filter."""

    kind = "filters"

    # ------------------------------------------------------------------------------------------- tools

    def requests(self) -> Sequence[PlacementRequest]:
        """The VMs that the filter is asked about: new and existing, limited, excluded, tagged, enormous."""
        web = a_vm("web1", node="hv2", tags=("web", "oracle"), node_limit=("hv1", "hv2"))
        return (
            a_request(),
            a_request(web),
            a_request(web, exclude=frozenset({"hv2"})),
            a_request("huge", memory_mib=2**30, vcpus=4096),
            a_request("home", accept_unflushing=True),
            a_request("stored", storage=(StorageNeed("ceph", ""), StorageNeed("directory", "hv2"))),
        )

    @staticmethod
    def nodes() -> tuple[NodeCapacity, ...]:
        """Nodes that differ in everything, among them one of which nothing is known."""
        return (
            a_capacity("hv1", labels={"rack": "a"}, storage={"ceph": "", "directory": "it is full"}),
            a_capacity("hv2", assigned_mib=4096, running_mib=2048, assigned_vcpus=64, assigned_vms=40, load_1m=97.5),
            a_capacity("hv3", mode=NodeMode.UNFLUSHING, labels={"rack": "b", "zone": "quiet"}),
            a_capacity("hv4", mode=NodeMode.FLUSHED, maintenance=True, left=True, alive=False),
            a_capacity(
                "hv5", memory_total_mib=0, memory_available_mib=0, cores=0, report_age_s=None, problem="no ledger"
            ),
        )

    def rejected(
        self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings | None = None
    ) -> Mapping[str, str]:
        """What the filter says of the nodes."""
        return self.entry().filter.reject(self.with_options(request), tuple(nodes), settings or self.settings())

    def placer(self) -> Placer:
        """A placer that knows this filter beside the installed ones."""
        registry = self.registry()
        filters = {**installed().filters, self.name: self.entry()}
        selectors = {CORE_MEM.name: CORE_MEM, **installed().selectors}
        return Placer(GivenDrivers(selectors, filters, registry.calls, registry.options))

    # ------------------------------------------------------------------------------------------- rules

    def test_it_answers_with_a_reason_in_one_line_for_each_node_that_it_rejects(self) -> None:
        for request in self.requests():
            answer = self.rejected(request, self.nodes())
            assert isinstance(answer, Mapping), f"{type(answer).__name__} instead of a mapping"
            for node, reason in answer.items():
                assert isinstance(reason, str), f"{node}: {reason!r} is no sentence"
                assert reason.strip(), f"{node} is rejected without a reason"
                assert "\n" not in reason, f"{node}: the reason has several lines"

    def test_it_names_no_node_that_it_was_not_asked_about(self) -> None:
        for request in self.requests():
            for node in self.nodes():
                assert set(self.rejected(request, [node])) <= {node.name}

    def test_where_there_is_no_node_it_rejects_none(self) -> None:
        assert all(not self.rejected(request, []) for request in self.requests())

    def test_the_order_of_the_nodes_does_not_matter(self) -> None:
        for request in self.requests():
            forwards, backwards = self.rejected(request, self.nodes()), self.rejected(request, self.nodes()[::-1])
            assert dict(forwards) == dict(backwards), f"{dict(forwards)} against {dict(backwards)}"

    def test_it_gives_the_same_answer_twice(self) -> None:
        for request in self.requests():
            assert dict(self.rejected(request, self.nodes())) == dict(self.rejected(request, self.nodes()))

    def test_it_leaves_what_it_is_given_as_it_was(self) -> None:
        for request, same in zip(self.requests(), self.requests(), strict=True):
            nodes, settings, asked = self.nodes(), self.settings(), self.with_options(request)
            self.entry().filter.reject(asked, nodes, settings)
            assert nodes == self.nodes()
            assert asked == self.with_options(same)
            assert settings == self.settings()

    def test_a_placement_keeps_away_from_the_nodes_that_it_rejects_and_says_why(self) -> None:
        snapshot = a_snapshot([a_node(f"hv{n}", memory_mib=n * 4096) for n in range(1, 6)], settings=self.settings())
        capacities = tuple(self.placer().capacities(snapshot).values())
        expected = self.rejected(a_request(), capacities)
        decision = self.placer().place(a_request(), snapshot)
        assert decision.degraded == ""
        said = {each.node: each.reason for each in decision.rejections if each.plugin == self.name}
        assert said == dict(expected)
        assert decision.node not in expected
