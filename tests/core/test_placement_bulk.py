# SPDX-License-Identifier: Apache-2.0
"""Placing in bulk, and in short, decides as placing one by one does, node for node, whatever cluster and VMs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, SelectorEntry
from pvc_core.model import Settings
from pvc_core.placement import Decision, Placer
from pvc_core.placement_bulk import place_in_bulk
from pvc_core.placement_drivers import GivenDrivers
from pvc_core.placement_room import places_in_short
from pvc_core.plugin_types import StorageNeed
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_rule, a_snapshot, a_vm

BUILT_IN = Registry.load()
NAMES = ["hv1", "hv2", "hv3", "hv4", "hv5", "hv6"]
untimed = hypothesis_settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


class FewestNames:
    """Depends on the other candidates, and does not promise otherwise."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: float(rank * request.vcpus % 3) for rank, node in enumerate(candidates)}


class Fullest:
    """A node becomes better with every VM that comes."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: float(node.assigned_vms) for node in candidates}


class Fragile:
    """Fails as soon as a node has several VMs."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: 1 / (2 - min(node.assigned_vms, 2)) for node in candidates}


class Odd:
    """A plugin's filter that looks at what is on the node."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        return {node.name: "is odd" for node in nodes if node.assigned_vms % 3 == 2}


SELECTORS = {
    **BUILT_IN.selectors,
    "names": SelectorEntry("names", "a name", FewestNames()),
    "fullest": SelectorEntry("fullest", "the most VMs", Fullest(), depends_on_node_only=True),
    "fragile": SelectorEntry("fragile", "luck", Fragile(), depends_on_node_only=True),
}
NEEDS = [(StorageNeed("ceph", ""),), (StorageNeed("ceph", ""), StorageNeed("local", "hv2"))]
WANTED = [*SELECTORS, "", "gone", "mem:2", "mem,vcpus:3", "mem,,"]


@st.composite
def clusters(draw: st.DrawFn) -> ClusterSnapshot:
    names = NAMES[: draw(st.integers(1, 6))]
    nodes = [
        a_node(
            name,
            memory_mib=draw(st.integers(3, 24)) * 100,
            cores=draw(st.integers(1, 8)),
            load_1m=draw(st.sampled_from([0.0, 0.0, 1.5])),
            mode=draw(st.sampled_from(["ready"] * 5 + ["flushing", "unflushing"])),
            alive=draw(st.sampled_from([True] * 9 + [False])),
            storage=draw(st.sampled_from([{"ceph": ""}, {"ceph": "", "local": ""}, {"ceph": "no quorum"}, None])),
        )
        for name in names
    ]
    states = st.sampled_from(["running", "running", "stopped", "starting"])
    vms = []
    for number in range(draw(st.integers(0, 8))):
        node = draw(st.sampled_from(names))
        away = draw(st.sampled_from(["", "", *names]))
        state, target = ("migrating", away) if away not in ("", node) else (draw(states), "")
        size = {"memory_mib": draw(st.integers(1, 6)) * 100, "vcpus": draw(st.integers(1, 3))}
        vms.append(a_vm(f"old{number}", node=node, state=state, target=target, **size))
    settings = Settings(
        memory_reserve_mib=draw(st.sampled_from([0, 100])),
        memory_overcommit=draw(st.sampled_from([1.0, 1.5])),
        vcpu_overcommit=draw(st.sampled_from([0.0, 0.0, 1.0, 2.5])),
        default_selector=draw(st.sampled_from(["mem", "vms", "gone"])),
    )
    rules = [a_rule("few", "apart", "new1", "new2", "old1", hard=True), a_rule("near", "together", "new3", "old2")]
    return a_snapshot(nodes, vms, settings, rules=rules if draw(st.booleans()) else ())


@st.composite
def batches(draw: st.DrawFn, snapshot: ClusterSnapshot) -> list[PlacementRequest]:
    limits = st.just(()) | st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple)
    chosen = {"node_selector": st.sampled_from(WANTED), "priority": st.integers(0, 2), "node_limit": limits}
    few = st.sampled_from(draw(st.lists(st.sampled_from(WANTED), min_size=1, max_size=2)))
    chosen["node_selector"] = few
    requests = [
        a_request(
            f"new{number}",
            storage=draw(st.sampled_from([(), *NEEDS])),
            memory_mib=draw(st.integers(1, 8)) * 100,
            vcpus=draw(st.integers(1, 3)),
            current_node=draw(st.sampled_from(["", "", "hv1", "hv2"])),
            **{field: draw(values) for field, values in chosen.items()},
        )
        for number in range(draw(st.integers(0, 14)))
    ]
    for stored in snapshot.vms.values():
        what = draw(st.sampled_from(["stays", "anywhere", "leaves", "returns"]))
        if what != "stays":
            exclude = frozenset({stored.value.node}) if what == "leaves" else frozenset()
            fields = {field: draw(values) for field, values in chosen.items()}
            request = a_request(stored.value, exclude=exclude, **fields)
            needs = draw(st.sampled_from([(), *NEEDS]))
            requests.append(replace(request, accept_unflushing=what == "returns", storage=needs))
    return requests


def essence(decisions: Sequence[Decision]) -> list[tuple[str, str, str, str]]:
    return [(one.vm, one.node, one.selector, one.degraded) for one in decisions]


@untimed
@given(st.data(), st.booleans())
def test_in_bulk_every_vm_goes_where_it_would_go_one_by_one(
    data: st.DataObject, has_a_filter_of_a_plugin: bool
) -> None:
    snapshot = data.draw(clusters())
    requests = data.draw(batches(snapshot))
    foreign = {"odd": FilterEntry("odd", "odd", Odd())} if has_a_filter_of_a_plugin else {}
    placer = Placer(GivenDrivers(SELECTORS, {**BUILT_IN.filters, **foreign}))
    one_by_one = placer.place_many(requests, snapshot)
    in_bulk = place_in_bulk(requests, snapshot, placer)
    assert essence(in_bulk) == essence(one_by_one)
    assert [one.reason for one in in_bulk if not one.node] == [one.reason for one in one_by_one if not one.node]
    assert all(one.reason for one in in_bulk)


@untimed
@given(st.data(), st.booleans())
def test_in_short_every_vm_goes_where_it_would_go_one_by_one_and_is_told_of_as_asked(
    data: st.DataObject, has_a_filter_of_a_plugin: bool
) -> None:
    snapshot = data.draw(clusters())
    requests = data.draw(batches(snapshot))
    told = data.draw(st.sets(st.sampled_from([request.uuid for request in requests]))) if requests else set()
    foreign = {"odd": FilterEntry("odd", "odd", Odd())} if has_a_filter_of_a_plugin else {}
    failed, failed_in_short = list[str](), list[str]()
    drivers = GivenDrivers(SELECTORS, {**BUILT_IN.filters, **foreign})
    one_by_one = Placer(drivers, lambda failure: failed.append(failure.plugin)).place_many(requests, snapshot)
    placer = Placer(drivers, lambda failure: failed_in_short.append(failure.plugin))
    in_short = list(places_in_short(requests, snapshot, placer, placer.planner(snapshot), told))
    assert [(one.uuid, one.node) for one in in_short] == [(one.uuid, one.node) for one in one_by_one]
    in_full = {one.uuid: one for one in one_by_one if one.node and one.uuid in told}
    assert {one.uuid: one for one in in_short if one.node and one.uuid in told} == in_full
    assert set(failed_in_short) <= set(failed)


def test_in_short_a_vm_whose_selector_promises_nothing_is_placed_without_a_look_at_every_node() -> None:
    """A full cluster: of 200 nodes one has room, and the selector is asked about that alone."""
    counting = Counting()
    placer = Placer(GivenDrivers({"counting": SelectorEntry("counting", "the most", counting)}, BUILT_IN.filters))
    full = [a_node(f"hv{n:03}", memory_mib=1024) for n in range(199)]
    snapshot = a_snapshot([*full, a_node("hv999", memory_mib=4096)])
    requests = [a_request(f"vm{n}", node_selector="counting", memory_mib=2048) for n in range(100)]
    found = list(places_in_short(requests, snapshot, placer, placer.planner(snapshot)))
    assert [one.node for one in found] == ["hv999", *[""] * 99]
    assert counting.shown == 1


def test_in_short_a_filter_of_a_plugin_is_asked_as_often_as_one_by_one() -> None:
    asked = list[str]()

    class Noting(Odd):
        def reject(
            self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings
        ) -> Mapping[str, str]:
            asked.append(request.vm)
            return super().reject(request, nodes, settings)

    placer = Placer(GivenDrivers(SELECTORS, {**BUILT_IN.filters, "odd": FilterEntry("odd", "odd", Noting())}))
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2")])
    requests = [a_request("web1"), a_request("web2")]
    placer.place_many(requests, snapshot)
    one_by_one = [*asked]
    list(places_in_short(requests, snapshot, placer, placer.planner(snapshot)))
    assert asked == [*one_by_one, *one_by_one]
    assert one_by_one


def test_a_decision_in_bulk_says_which_selector_and_why() -> None:
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2", memory_mib=8192)])
    (decision,) = place_in_bulk([a_request("web1")], snapshot, Placer(BUILT_IN))
    assert decision.reason == "selector mem: hv2 has the most free memory"
    assert (decision.selector, decision.ranking) == ("mem", ())


def test_in_bulk_as_well_nothing_is_placed_without_the_filters_that_keep_limits() -> None:
    filters = {name: entry for name, entry in BUILT_IN.filters.items() if name != "limit"}
    (decision,) = place_in_bulk([a_request()], a_snapshot([a_node()]), Placer(GivenDrivers(SELECTORS, filters)))
    assert "the filter limit is not loaded" in decision.reason


class Counting:
    """Counts how many nodes it is shown."""

    def __init__(self) -> None:
        self.shown = 0

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        self.shown += len(candidates)
        return {node.name: float(node.free_mib) for node in candidates}


def test_a_selector_that_promises_is_shown_again_only_the_nodes_that_have_changed() -> None:
    counting = Counting()
    entry = SelectorEntry("counting", "the most", counting, depends_on_node_only=True)
    placer = Placer(GivenDrivers({"counting": entry}, BUILT_IN.filters))
    snapshot = a_snapshot([a_node(f"hv{n:03}") for n in range(200)])
    requests = [a_request(f"vm{n}", node_selector="counting", memory_mib=10 + n) for n in range(100)]
    assert all(one.node for one in place_in_bulk(requests, snapshot, placer))
    assert counting.shown == 200 + 99


def test_why_vms_that_are_alike_find_no_place_is_said_of_each() -> None:
    snapshot = a_snapshot([a_node("hv1", memory_mib=1024)])
    requests = [a_request(f"vm{n}", memory_mib=4000) for n in range(3)]
    decisions = place_in_bulk(requests, snapshot, Placer(BUILT_IN))
    assert [(one.vm, one.node) for one in decisions] == [("vm0", ""), ("vm1", ""), ("vm2", "")]
    assert all("needs 4000 MiB, 512 MiB are free" in one.reason for one in decisions)


def test_a_vm_does_not_compete_with_itself_for_the_node_it_is_on() -> None:
    """Without itself hv1 is as empty as hv3, and hv2 is the fullest."""
    old, other = a_vm("old", node="hv1"), a_vm("other", node="hv2")
    snapshot = a_snapshot([a_node("hv1"), a_node("hv2"), a_node("hv3")], [old, other])
    placer = Placer(GivenDrivers(SELECTORS, BUILT_IN.filters))
    (decision,) = place_in_bulk([a_request(old, node_selector="fullest")], snapshot, placer)
    assert decision.node == "hv2"


def test_why_a_vm_finds_no_place_is_not_said_of_one_with_volumes_elsewhere() -> None:
    snapshot = a_snapshot([a_node("hv1", storage={"ceph": "no quorum"})])
    requests = [a_request(f"new{number}", storage=needs) for number, needs in enumerate(NEEDS)]
    reasons = [one.reason for one in place_in_bulk(requests, snapshot, Placer(BUILT_IN))]
    assert "no quorum" in reasons[0]
    assert "hv2" not in reasons[0]
    assert "lie on hv2" in reasons[1]
