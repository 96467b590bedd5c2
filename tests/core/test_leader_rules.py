# SPDX-License-Identifier: Apache-2.0
"""A drained node's VMs keep to the cluster's rules on their way out and back."""

from __future__ import annotations

import pytest

from pvc_core import leader
from pvc_core.errors import NoCandidate
from pvc_core.leader_actions import HoldVm, MoveVm
from pvc_core.model import Settings, VmState
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_rule, a_snapshot, a_vm
from pvc_core.testing.fake_cluster import FakeCluster

REGISTRY = Registry.load(disabled_env="")
TRIO = a_rule("trio", "together", "a", "b", "c", hard=True)
MEMBERS = ("a", "b", "c")


def moves(snapshot: ClusterSnapshot) -> dict[str, str]:
    """Where the leader sends whom now."""
    actions = leader.decide(snapshot, Placer(REGISTRY), REGISTRY.recovery_policies)
    return {snapshot.vms[one.uuid].value.name: one.target for one in actions if isinstance(one, MoveVm)}


def test_a_group_leaves_a_drained_node_for_the_one_that_has_room_for_all_of_it() -> None:
    nodes = [a_node("hv1", mode="flushing"), a_node("hv2", memory_mib=2560), a_node("hv3", memory_mib=3584)]
    vms = [a_vm(name, node="hv1", memory_mib=1024) for name in MEMBERS]
    snapshot = a_snapshot(nodes, vms, Settings(max_parallel_migrations=3), rules=[TRIO])
    assert moves(snapshot) == {"a": "hv3", "b": "hv3", "c": "hv3"}


def test_the_rest_of_a_group_follows_those_that_are_on_their_way() -> None:
    nodes = [a_node("hv1", mode="flushing"), a_node("hv2", memory_mib=65536), a_node("hv3")]
    vms = [
        a_vm("a", node="hv1", state=VmState.MIGRATING, target="hv3"),
        *(a_vm(name, node="hv1") for name in MEMBERS[1:]),
    ]
    snapshot = a_snapshot(nodes, vms, Settings(max_parallel_migrations=3), rules=[TRIO])
    assert moves(snapshot) == {"b": "hv3", "c": "hv3"}


def test_vms_that_are_kept_apart_leave_for_different_nodes_and_one_too_many_is_held() -> None:
    nodes = [a_node("hv1", mode="flushing"), a_node("hv2"), a_node("hv3")]
    vms = [a_vm(name, node="hv1") for name in MEMBERS]
    rule = a_rule("apart", "apart", *MEMBERS, hard=True)
    snapshot = a_snapshot(nodes, vms, Settings(max_parallel_migrations=3), rules=[rule])
    assert sorted(moves(snapshot).values()) == ["hv2", "hv3"]
    actions = leader.decide(snapshot, Placer(REGISTRY), REGISTRY.recovery_policies)
    (held,) = (one for one in actions if isinstance(one, HoldVm))
    assert "rule apart keeps it apart from" in held.reason


@pytest.mark.parametrize("hard", [True, False])
def test_a_group_leaves_and_comes_home_as_one(hard: bool) -> None:
    vms = [a_vm(name, node="hv1", tags=["trio"]) for name in MEMBERS]
    with FakeCluster(["hv1", "hv2", "hv3"], vms) as cluster:
        cluster.commands.add_rule("trio", {"kind": "together", "members": "tag:trio", "hard": hard})
        report = cluster.flush("hv1")
        assert not report.stayed
        assert len({cluster.vm(name).node for name in MEMBERS}) == 1
        assert cluster.vm("a").node != "hv1"
        report = cluster.ready("hv1")
        assert not report.stayed
        assert {cluster.vm(name).node for name in MEMBERS} == {"hv1"}


def test_a_hard_rule_stands_between_a_vm_and_its_home() -> None:
    """While web1 was away, db1 was started on its home, and the two are kept apart."""
    vms = [a_vm("web1", node="hv1"), a_vm("db1", node="hv2", state="stopped")]
    with FakeCluster(["hv1", "hv2"], vms) as cluster:
        cluster.commands.add_rule("apart", {"kind": "apart", "members": "web1,db1", "hard": True})
        cluster.commands.migrate("web1", "hv2")
        cluster.settle()
        cluster.commands.start("db1")
        cluster.settle()
        assert cluster.vm("db1").node == "hv1"
        with pytest.raises(NoCandidate, match="rule apart keeps it apart from db1, which is on hv1"):
            cluster.commands.unmigrate("web1")
