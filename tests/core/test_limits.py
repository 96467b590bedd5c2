# SPDX-License-Identifier: Apache-2.0
"""A limit names nodes, and labels for all nodes that have them; what nobody has is refused."""

from __future__ import annotations

from typing import Any

import pytest
from stored_cluster import Xml, limited, refused_without_a_trace

from pvc_core.errors import InvalidInput, NoCandidate
from pvc_core.limits import check_limit, is_outside_limit, is_within, limit_words, nodes_within
from pvc_core.placement import Placer
from pvc_core.planner import Wish, plan
from pvc_core.plugin_types import PlacementRequest
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_request, a_snapshot, a_vm

RACK_A = ("label:rack=a",)
PLACER = Placer(Registry.load())


def racks(*vms: Any) -> ClusterSnapshot:
    """hv1 and hv2 in rack a, hv3 in rack b, hv4 without labels."""
    nodes = [
        a_node("hv1", labels={"rack": "a"}),
        a_node("hv2", labels={"rack": "a", "disks": "fast"}),
        a_node("hv3", labels={"rack": "b"}),
        a_node("hv4"),
    ]
    return a_snapshot(nodes, vms)


@pytest.mark.parametrize(
    ("limit", "nodes"),
    [
        ((), {"hv1", "hv2", "hv3", "hv4"}),
        (("hv4",), {"hv4"}),
        (RACK_A, {"hv1", "hv2"}),
        (("label:rack=a", "label:rack=b"), {"hv1", "hv2", "hv3"}),
        (("hv4", "label:disks=fast"), {"hv2", "hv4"}),
        (("label:rack=c",), set()),
    ],
)
def test_a_limit_is_its_nodes_and_those_with_its_labels(limit: tuple[str, ...], nodes: set[str]) -> None:
    assert nodes_within(limit, racks()) == nodes
    decision = PLACER.place(a_request("new", node_limit=limit), racks())
    assert {one.node for one in decision.ranking} == nodes


def test_a_label_is_compared_as_a_whole() -> None:
    assert not is_within(RACK_A, "x", {"rack": "ab"})
    assert not is_within(RACK_A, "x", {"a": "rack"})
    assert is_within(RACK_A, "x", {"rack": "a"})


def test_a_node_outside_says_what_the_limit_is() -> None:
    decision = PLACER.place(a_request("new", node_limit=RACK_A), racks(), only="hv3")
    assert decision.rejections[0].reason == "outside the VM's limit (label:rack=a)"


def test_a_vm_is_outside_its_limit_when_its_node_loses_the_label() -> None:
    snapshot = racks(a_vm("in", node="hv2", node_limit=RACK_A), a_vm("out", node="hv3", node_limit=RACK_A))
    assert not is_outside_limit(snapshot.vm("in").value, snapshot)
    assert is_outside_limit(snapshot.vm("out").value, snapshot)
    assert is_outside_limit(a_vm("lost", node="hv9", node_limit=RACK_A), snapshot)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("hv9", "node_limit 'hv9': is not a node of this cluster (allowed: hv1, hv2, hv3, hv4)"),
        ("label:rack=c", "is a label of no node now; is label:rack=b meant? (allowed: label:disks=fast, label:rack=a"),
        ("label:rack", "must name a label as label:NAME=VALUE, such as label:rack=a"),
        ("label:=a", "must name a label as"),
        ("label:rack=", "must name a label as"),
    ],
)
def test_what_no_node_has_is_refused(entry: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_limit(["hv1", entry], limit_words(racks()))
    assert sentence in refused.value.sentence()


def test_where_no_node_has_a_label_the_refusal_says_so() -> None:
    with pytest.raises(InvalidInput, match="is a label of no node now: no node has any"):
        check_limit(RACK_A, limit_words(a_snapshot([a_node("hv1")])))


@pytest.mark.parametrize(("to", "goes"), [("hv2", True), ("hv3", False)])
def test_a_plan_for_one_node_keeps_to_a_limit_by_label(to: str, goes: bool) -> None:
    vm = a_vm("web1", node="hv1", node_limit=RACK_A)
    assert plan([Wish(PlacementRequest.for_vm(vm), to)], racks(vm), PLACER).complete == goes


def test_a_limit_by_label_holds_from_define_on(cluster: Any, xml: Xml) -> None:
    cluster.add_nodes("hv1", labels={"rack": "a"})
    cluster.add_nodes("hv2", labels={"rack": "b"})
    assert cluster.commands.define(xml("web1"), limited("label:rack=b")).vm.node == "hv2"
    with refused_without_a_trace(cluster, NoCandidate, match="outside the VM's limit"):
        cluster.commands.move("web1", "hv1")
    outcome = cluster.commands.change_metadata("web1", {"node_limit": "label:rack=a"})
    assert outcome.reason == "metadata changed; hv2, where it is now, is outside its limit until it is moved"
