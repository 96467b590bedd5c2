# SPDX-License-Identifier: Apache-2.0
"""lost_together: for which nodes' proof the VMs of another lost node may wait, and which of them do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pvc_core import layout, leader
from pvc_core.errors import BrokenRecord
from pvc_core.fence_memory import AskAgents, FenceMemory, answered, asked, look
from pvc_core.fencing import FenceVerdict
from pvc_core.leader_actions import FinishRecovery, LeaderAction, LoseVm, RecoverVm, StartHeld
from pvc_core.lost_together import LONGEST_WAIT_S, lost_together
from pvc_core.model import FenceReport, FenceStep, Settings, VmRecord
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.shut_out_record import ShutOut
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.testing.builders import a_node, a_snapshot, a_vm

NO_RESERVE = Settings(memory_reserve_mib=0)
FENCING, RECOVERING = FenceReport(step=FenceStep.FENCING), FenceReport(step=FenceStep.RECOVERING)
OFF_AND_NOT = ("hv1", "hv2")
DUE_S = Settings().fence_grace_s
"""When a node lost at 0 is to be fenced."""


def off(name: str = "hv1") -> NodeView:
    return a_node(name, alive=False, fenced=True, mode="flushed", fence=RECOVERING)


def awaited(name: str = "hv2", **more: Any) -> NodeView:
    return a_node(name, alive=False, **{"fence": FENCING, **more})


def left(room_mib: int) -> NodeView:
    return a_node("hv3", memory_mib=room_mib)


def gib(name: str, node: str = "hv1", **more: Any) -> VmRecord:
    return a_vm(name, node=node, **{"memory_mib": 1024, **more})


@pytest.fixture
def decided(registry: Registry) -> Any:
    def decide(snapshot: ClusterSnapshot, together: Sequence[str] = OFF_AND_NOT) -> tuple[LeaderAction, ...]:
        return leader.decide(snapshot, Placer(registry), registry.recovery_policies, frozenset(together))

    return decide


@pytest.fixture
def outcome(decided: Any) -> Any:
    """What is done, by the names of VMs: where each starts, or "" for one that is held. Who waits is not in it."""

    def of(nodes: Sequence[NodeView], vms: Sequence[VmRecord], together: Sequence[str] = OFF_AND_NOT) -> dict[str, str]:
        snapshot = a_snapshot(nodes, vms, NO_RESERVE)
        actions = [one for one in decided(snapshot, together) if not isinstance(one, FinishRecovery)]
        return {
            snapshot.vms[one.uuid].value.name: one.target
            if isinstance(one, RecoverVm)
            else one.node
            if isinstance(one, StartHeld)
            else ""
            for one in actions
        }

    return of


# ------------------------------------------------------------------------------------------------- who waits


def test_a_vm_waits_that_would_take_the_place_of_a_more_important_one(decided: Any) -> None:
    vms = [gib("batch"), gib("db", "hv2", priority=100)]
    assert decided(a_snapshot([off(), awaited(), left(1024)], vms, NO_RESERVE)) == (), "nor is hv1 done"


@pytest.mark.parametrize(
    ("room_mib", "db", "together"),
    [
        (2048, {"priority": 100}, OFF_AND_NOT),
        (1024, {"priority": 100}, ("hv2",)),
        (1024, {"priority": 100}, ("hv1",)),
        (1024, {"priority": 0, "memory_mib": 1024}, OFF_AND_NOT),
        (1024, {"priority": -5}, OFF_AND_NOT),
        (1024, {"priority": 100, "memory_mib": 4096}, OFF_AND_NOT),
        (1024, {"priority": 100, "node_limit": ("hv2",)}, OFF_AND_NOT),
        (1024, {"priority": 100, "recovery_policy": "stay"}, OFF_AND_NOT),
        (1024, {"priority": 100, "state": "shutting-down"}, OFF_AND_NOT),
        (1024, {"priority": 100, "state": "stopped"}, OFF_AND_NOT),
        (1024, {"priority": 100, "state": "migrating", "target": "hv4"}, OFF_AND_NOT),
    ],
    ids=[
        "there is room for both",
        "its own node was lost long ago",
        "the other node is not proven off soon",
        "the other is as important",
        "the other is less important",
        "the other finds no place in any case",
        "the other may not go there",
        "the other waits for its home",
        "the other is being stopped",
        "the other is off",
        "the other goes on where it migrates to",
    ],
)
def test_a_vm_does_not_wait_when(outcome: Any, room_mib: int, db: dict[str, Any], together: Sequence[str]) -> None:
    nodes = [off(), awaited(), left(room_mib), a_node("hv4", mode="flushed")]
    assert outcome(nodes, [gib("batch"), gib("db", "hv2", **db)], together) == {"batch": "hv3"}


def test_a_vm_goes_before_a_larger_one_of_the_same_priority_whose_node_is_not_known_to_be_off(outcome: Any) -> None:
    vms = [gib("batch"), gib("same", "hv2", memory_mib=2048), gib("db", "hv2", priority=100)]
    vms.append(gib("giant", memory_mib=9000, priority=-1))
    assert outcome([off(), awaited(), left(3072)], vms) == {"batch": "hv3", "giant": ""}


def test_only_those_wait_that_are_less_important(outcome: Any) -> None:
    vms = [gib("top", priority=200), gib("batch"), gib("db", "hv2", priority=100)]
    assert outcome([off(), awaited(), left(2048)], vms) == {"top": "hv3"}


def test_a_vm_without_a_place_in_any_case_is_held_at_once(outcome: Any) -> None:
    vms = [gib("giant", memory_mib=9000), gib("db", "hv2", priority=100)]
    assert outcome([off(), awaited(), left(1024)], vms) == {"giant": ""}


def test_of_two_nodes_known_to_be_off_the_more_important_vm_goes_first(decided: Any) -> None:
    vms = [gib("batch"), gib("db", "hv2", priority=100)]
    snapshot = a_snapshot([off(), off("hv2"), left(1024)], vms, NO_RESERVE)
    recover, lose = decided(snapshot, ())
    assert (type(recover), recover.node, recover.target) == (RecoverVm, "hv2", "hv3")
    assert (type(lose), lose.node) == (LoseVm, "hv1")


def test_no_place_is_kept_for_the_vms_of_a_node_whose_ledger_does_not_parse(decided: Any) -> None:
    snapshot = a_snapshot([off(), awaited(), left(1024)], [gib("batch"), gib("db", "hv2", priority=100)], NO_RESERVE)
    key = layout.ledger("hv2")
    damaged = replace(snapshot, broken={key: BrokenRecord(key, "it is no JSON")})
    assert [type(action) for action in decided(damaged)] == [RecoverVm]


def test_a_held_vm_does_not_start_where_a_place_is_kept_for_a_more_important_one(outcome: Any) -> None:
    held = gib("held", "hv4", state="stopped", held=True, held_until="any")
    nodes = [awaited(), left(1024), a_node("hv4", mode="flushed")]
    vms = [held, gib("db", "hv2", priority=100)]
    assert outcome(nodes, vms) == {}
    assert outcome(nodes, vms, ()) == {"held": "hv3"}
    assert outcome(nodes, [held, gib("db", "hv2", priority=-1)]) == {"held": "hv3"}


# ------------------------------------------------------------------------------------------- which nodes, how long


def lost(memory: FenceMemory, now_s: float, *nodes: NodeView, settings: Settings | None = None) -> set[str]:
    """Which of the nodes are lost together at that time, when they were lost at 0."""
    vms = [a_vm(f"on-{node.name}", node=node.name) for node in nodes]
    snapshot = a_snapshot([*nodes, a_node("hv9")], vms, settings)
    seen = look(look(memory, snapshot, 0.0), snapshot, now_s)
    return set(lost_together(snapshot, seen, now_s))


def refused(node: str = "hv2") -> FenceMemory:
    ask = AskAgents(node, 1, "it is lost")
    return answered(asked(FenceMemory(), ask), ask, FenceVerdict(False, "no answer"), 1.0)


def test_a_node_is_waited_for_from_its_loss_for_a_bounded_time() -> None:
    assert lost(FenceMemory(), 0.0, off(), awaited(fence=None)) == {"hv1", "hv2"}
    assert lost(FenceMemory(), DUE_S + LONGEST_WAIT_S - 0.1, off(), awaited()) == {"hv1", "hv2"}
    assert lost(FenceMemory(), DUE_S + LONGEST_WAIT_S, off(), awaited()) == set()


def test_a_node_whose_devices_have_failed_once_is_not_waited_for() -> None:
    assert lost(refused(), 3.0, off(), awaited()) == {"hv1"}
    noted = FenceReport(step=FenceStep.FENCING, attempts=1, problem="no answer")
    assert lost(FenceMemory(), 3.0, off(), awaited(fence=noted)) == {"hv1"}, "another leader had asked them"
    earlier = FenceReport(step=FenceStep.RECOVERED, attempts=1)
    assert lost(FenceMemory(), 1.0, off(), awaited(fence=earlier)) == {"hv1", "hv2"}


def test_a_watchdog_is_waited_for_if_its_time_is_over_soon_enough() -> None:
    margin_s = Settings().watchdog_margin_s
    for watchdog_s, is_awaited in ((30.0, True), (LONGEST_WAIT_S + DUE_S - margin_s, False)):
        expected = {"hv1", "hv2"} if is_awaited else {"hv1"}
        assert lost(refused(), 20.0, off(), awaited(watchdog_s=watchdog_s)) == expected


@pytest.mark.parametrize(
    ("shut_out", "is_awaited"),
    [
        (ShutOut(fence=1), True),
        (ShutOut(fence=1, attempts=1), False),
        (ShutOut(fence=1, state="given-up"), False),
        (ShutOut(fence=7), False),
    ],
    ids=["asked", "refused", "given up", "of another fence"],
)
def test_storage_that_is_told_to_shut_a_node_out_is_waited_for_until_it_has_answered(
    shut_out: ShutOut, is_awaited: bool
) -> None:
    nodes = off(), awaited(shut_out={"ceph": shut_out})
    assert lost(refused(), 3.0, *nodes) == ({"hv1", "hv2"} if is_awaited else {"hv1"})


@pytest.mark.parametrize("fields", [{"left": True}, {"maintenance": True}, {"alive": True}])
def test_a_node_that_is_not_to_be_fenced_is_not_waited_for(fields: dict[str, Any]) -> None:
    assert lost(FenceMemory(), 1.0, off(), a_node("hv2", **{"alive": False, **fields})) == {"hv1"}


def test_a_node_that_may_still_be_booting_is_not_waited_for() -> None:
    settings = Settings(fence_startup_s=300)
    nodes = [awaited(f"hv{number}", fence=None) for number in (1, 2)]
    starting = FenceMemory(connected_s=0.0)
    assert lost(starting, 10.0, *nodes, settings=settings) == set()
    assert lost(starting, 299.0, *nodes, settings=settings) == {"hv1", "hv2"}
