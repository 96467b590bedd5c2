# SPDX-License-Identifier: Apache-2.0
"""A balance that repairs rules and limits is carried out by the leader to the end, on a whole cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pvc_core.model import Rule, Settings
from pvc_core.registry import Registry
from pvc_core.rules import violations
from pvc_core.testing.builders import a_node, a_rule, a_vm
from pvc_core.testing.fake_cluster import FakeCluster

Build = Callable[..., FakeCluster]


@pytest.fixture
def build(registry: Registry) -> Iterator[Build]:
    made: list[FakeCluster] = []

    def make(*vms: tuple[str, str, int], nodes: dict[str, int], rules: tuple[Rule, ...] = ()) -> FakeCluster:
        """VMs as (name, node, MiB) on nodes with their MiB; the rules come when the VMs are there."""
        cluster = FakeCluster(
            [a_node(name, memory_mib=memory_mib) for name, memory_mib in nodes.items()],
            [a_vm(name, node=node, memory_mib=memory_mib) for name, node, memory_mib in vms],
            Settings(memory_reserve_mib=0, balance_threshold=100),
            registry,
        )
        made.append(cluster)
        for rule in rules:
            cluster.commands.add_rule(rule.name, {"kind": rule.kind, "members": list(rule.members), "hard": rule.hard})
        return cluster

    yield make
    for cluster in made:
        cluster.close()


def balanced(cluster: FakeCluster) -> list[str]:
    """The VMs that a balance has moved, once it is carried out."""
    plan = cluster.commands.questions().balance()
    cluster.commands.apply_plan(plan)
    cluster.settle()
    steps = cluster.snapshot().plan
    assert steps is not None
    assert {step.state for step in steps.value.steps} == {"done"}, [step.reason for step in steps.value.steps]
    return [step.vm for step in plan.steps]


EQUAL = {"hv1": 1000, "hv2": 1000, "hv3": 1000}


@pytest.mark.parametrize("hard", [True, False])
def test_vms_that_came_to_be_on_one_node_part(build: Build, hard: bool) -> None:
    rule = a_rule("dbs", "apart", "db1", "db2", "db3", hard=hard)
    cluster = build(*((f"db{n}", "hv1", 100) for n in (1, 2, 3)), nodes=EQUAL, rules=(rule,))
    assert len(balanced(cluster)) == 2
    assert len({cluster.node_of(f"db{n}") for n in (1, 2, 3)}) == 3


@pytest.mark.parametrize("hard", [True, False])
def test_vms_that_came_to_be_apart_meet(build: Build, hard: bool) -> None:
    rule = a_rule("app", "together", "app1", "app2", "app3", hard=hard)
    cluster = build(("app1", "hv1", 100), ("app2", "hv2", 100), ("app3", "hv2", 100), nodes=EQUAL, rules=(rule,))
    assert balanced(cluster) == ["app1"]
    assert not list(violations(cluster.snapshot()))


@pytest.mark.parametrize("hard", [True, False])
def test_vms_meet_on_a_third_node_where_no_other_has_the_room(build: Build, hard: bool) -> None:
    rule = a_rule("app", "together", "app1", "app2", hard=hard)
    nodes = {"hv1": 400, "hv2": 400, "hv3": 1000}
    cluster = build(("app1", "hv1", 300), ("app2", "hv2", 300), nodes=nodes, rules=(rule,))
    assert sorted(balanced(cluster)) == ["app1", "app2"]
    assert {cluster.node_of("app1"), cluster.node_of("app2")} == {"hv3"}


def test_a_vm_goes_into_its_new_limit_and_another_makes_room(build: Build) -> None:
    cluster = build(("web1", "hv1", 500), ("big", "hv3", 600), ("small", "hv3", 400), nodes=EQUAL)
    cluster.change("web1", node_limit=["hv3"])
    assert balanced(cluster) == ["big", "web1"]
    assert cluster.node_of("web1") == "hv3"
    assert cluster.commands.questions().balance().steps == ()
