# SPDX-License-Identifier: Apache-2.0
"""leader: what a drain waits for because it ends by itself, and what it does not wait for."""

from __future__ import annotations

from pvc_core import leader
from pvc_core.leader import HoldVm, LeaveVm
from pvc_core.model import DrainReport
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_snapshot, a_vm


def test_a_vm_waits_for_memory_that_a_migration_is_about_to_free_and_is_not_held() -> None:
    nodes = [a_node("hv1", mode="flushing"), a_node("hv2", memory_mib=2048), a_node("hv3", memory_mib=2048)]
    leaving = a_vm("leaving", node="hv2", memory_mib=1000, state="migrating", target="hv3")
    waiting = a_vm("waiting", node="hv1", memory_mib=1000)
    registry = Registry.load()
    actions = leader.decide(a_snapshot(nodes, [leaving, waiting]), Placer(registry), registry.recovery_policies)
    assert actions == ()


def test_without_such_a_migration_it_is_held() -> None:
    nodes = [a_node("hv1", mode="flushing"), a_node("hv2", memory_mib=2048)]
    settled = a_vm("settled", node="hv2", memory_mib=1000)
    waiting = a_vm("waiting", node="hv1", memory_mib=1000)
    registry = Registry.load()
    actions = leader.decide(a_snapshot(nodes, [settled, waiting]), Placer(registry), registry.recovery_policies)
    assert [type(action) for action in actions] == [HoldVm]


def test_a_ready_does_not_wait_for_a_node_whose_daemon_is_away() -> None:
    nodes = [a_node("hv1", mode="unflushing", drain=DrainReport(total=1)), a_node("hv2", alive=False)]
    stuck = a_vm("stuck", node="hv2", home="hv1", state="migrating", target="hv3")
    registry = Registry.load()
    (action,) = leader.decide(
        a_snapshot([*nodes, a_node("hv3")], [stuck]), Placer(registry), registry.recovery_policies
    )
    assert isinstance(action, LeaveVm)
    assert "hv2, whose daemon is lost" in action.reason
