# SPDX-License-Identifier: Apache-2.0
"""leader_held: a held VM that waits for any candidate starts once there is one, and not before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_cluster import Play, PlayedCluster

from pvc_core import leader
from pvc_core.errors import NoCandidate, Refused
from pvc_core.leader_actions import StartHeld, StartVm
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.vm_snapshot_standing import SnapshotStanding

S = VmState
NO_RESERVE = Settings(memory_reserve_mib=0)


def held(name: str = "web1", **more: Any) -> VmRecord:
    return a_vm(name, state="stopped", held=True, **{"held_until": "any", "memory_mib": 1024, **more})


def drained(name: str = "hv1", **more: Any) -> Any:
    return a_node(name, mode="flushed", **more)


def where(cluster: Any, name: str = "web1") -> tuple[str, str, str, bool]:
    vm = cluster.vm(name)
    return vm.state.value, vm.node, vm.home, vm.held


def test_it_starts_on_any_node_that_can_take_it_and_keeps_its_home(play: Play) -> None:
    cluster = play([drained(), a_node("hv2")], [held()])
    cluster.plays()
    assert where(cluster) == ("running", "hv2", "hv1", False)
    assert [type(action) for action in cluster.log] == [StartHeld]
    assert cluster.log[0].reason.startswith("it was held until a node can take it; ")


def test_one_that_waits_for_its_home_starts_when_that_is_in_service_and_has_room(play: Play) -> None:
    vms = [held(held_until="home", home="hv2"), a_vm("other", node="hv2", state="stopped", memory_mib=512)]
    cluster = play([drained(), a_node("hv2", memory_mib=1024)], vms, NO_RESERVE)
    cluster.plays()
    assert where(cluster)[0] == "stopped"
    cluster.commands.undefine("other")
    cluster.plays()
    assert where(cluster) == ("running", "hv2", "hv2", False)


def test_one_that_waits_for_its_home_is_left_alone(play: Play) -> None:
    cluster = play([drained(), a_node("hv2")], [held(held_until="home")])
    assert cluster.decisions() == ()


def test_without_a_candidate_nothing_is_done(play: Play) -> None:
    full = a_node("hv2", memory_mib=1024)
    cluster = play([drained(), full], [held(), a_vm("other", node="hv2", memory_mib=512)], NO_RESERVE)
    assert cluster.decisions() == ()


def test_it_starts_when_memory_comes_free(play: Play) -> None:
    vms = [held(), a_vm("other", node="hv2", state="stopped", memory_mib=512)]
    cluster = play([drained(), a_node("hv2", memory_mib=1024)], vms, NO_RESERVE)
    cluster.plays()
    assert where(cluster)[0] == "stopped"
    cluster.commands.undefine("other")
    cluster.plays()
    assert where(cluster)[:2] == ("running", "hv2")


def test_it_starts_when_another_node_is_ready_or_its_limit_is_another(play: Play) -> None:
    cluster = play([drained(), drained("hv2"), a_node("hv3")], [held("a"), held("b")])
    cluster.commands.change_metadata("a", {"node_limit": "hv2"})
    cluster.commands.change_metadata("b", {"node_limit": "hv1"})
    assert cluster.decisions() == ()
    cluster.commands.ready("hv2")
    cluster.plays()
    cluster.commands.change_metadata("b", {"node_limit": ""})
    cluster.plays()
    assert (where(cluster, "a")[:2], where(cluster, "b")[0]) == (("running", "hv2"), "running")


def test_the_most_important_gets_the_room_there_is(play: Play) -> None:
    vms = [held(name, priority=priority) for name, priority in (("low", 1), ("high", 10), ("middle", 5))]
    cluster = play([drained(), a_node("hv2", memory_mib=2048)], vms, NO_RESERVE)
    cluster.plays()
    assert [where(cluster, name)[0] for name in ("high", "middle", "low")] == ["running", "running", "stopped"]


def test_a_policy_that_keeps_the_vm_for_its_home_has_the_last_word(play: Play) -> None:
    cluster = play([drained(), a_node("hv2")], [held(recovery_policy="stay")])
    assert cluster.decisions() == ()


def test_one_that_its_policy_keeps_for_its_home_starts_there_when_that_is_in_service(play: Play) -> None:
    cluster = play([drained(), a_node("hv2"), a_node("hv3")], [held(recovery_policy="stay", home="hv2")])
    cluster.plays()
    assert where(cluster) == ("running", "hv2", "hv2", False)
    assert cluster.log[0].reason.startswith("it was held until its home is there and has room; ")


@pytest.mark.parametrize("more", [{"state": "shutting-down"}, {"state": "disabled"}, {"held": False}])
def test_only_what_is_off_and_held_is_started(play: Play, more: dict[str, Any]) -> None:
    vm = a_vm("web1", **{"state": "stopped", "held": True, "held_until": "any", **more})
    cluster = play([drained(), a_node("hv2")], [vm])
    assert not [action for action in cluster.decisions() if isinstance(action, StartHeld)]


def test_a_home_that_comes_back_starts_it_itself(play: Play) -> None:
    cluster = play([drained(), a_node("hv2")], [held(node_limit=("hv1", "hv2"))])
    cluster.commands.ready("hv1")
    cluster.plays()
    assert where(cluster)[:2] == ("running", "hv1")
    assert [type(action) for action in cluster.done(StartVm, StartHeld)] == [StartVm]


def test_room_that_a_drain_is_about_to_need_is_left_to_it(play: Play) -> None:
    vms = [held(node="hv3", home="hv3"), *(a_vm(f"run{n}", node="hv1", memory_mib=1024) for n in range(3))]
    nodes = [a_node("hv1", mode="flushing"), a_node("hv2", memory_mib=3 * 1024), drained("hv3")]
    cluster = play(nodes, vms, Settings(memory_reserve_mib=0, max_parallel_migrations=1))
    cluster.plays()
    assert {cluster.vm(f"run{n}").node for n in range(3)} == {"hv2"}
    assert where(cluster)[0] == "stopped"


def test_a_start_that_was_decided_before_something_changed_is_refused(play: Play) -> None:
    cluster = play([drained(), a_node("hv2")], [held()])
    (start,) = cluster.decisions()
    cluster.commands.flush("hv2")
    with pytest.raises(NoCandidate):
        leader.change_for(start, cluster.snapshot(), cluster.placer, "")
    stopped = play([drained(), a_node("hv2")], [a_vm("web1", state="stopped", held_until="any")])
    with pytest.raises(Refused):
        leader.change_for(start, stopped.snapshot(), stopped.placer, "")


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.sampled_from([256, 512, 1024])), min_size=1, max_size=6),
    st.lists(st.sampled_from([512, 1024, 2048]), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_each_starts_once_as_soon_as_it_fits_and_what_is_left_fits_nowhere(
    registry: Registry, sizes: list[tuple[int, int]], rooms_mib: list[int]
) -> None:
    vms = [held(f"vm{n}", node="hv0", priority=p, memory_mib=mib) for n, (p, mib) in enumerate(sizes)]
    nodes = [drained("hv0", memory_mib=8192), *(a_node(f"hv{n}", memory_mib=mib) for n, mib in enumerate(rooms_mib, 1))]
    cluster = PlayedCluster(registry, nodes, vms, NO_RESERVE)
    cluster.plays(rounds=4)
    started = [action.uuid for action in cluster.done(StartHeld)]
    assert len(started) == len(set(started))
    free_mib = [
        mib - sum(cluster.vm(name).memory_mib for name in cluster.on(f"hv{n}")) for n, mib in enumerate(rooms_mib, 1)
    ]
    for vm in (cluster.vm(vm.name) for vm in vms):
        assert (vm.state is S.RUNNING) == (vm.uuid in started)
        assert vm.state is S.RUNNING or vm.memory_mib > max(free_mib)


def test_one_that_a_snapshot_keeps_off_waits_for_that(play: Play) -> None:
    cluster = play([drained(), a_node("hv2")], [held(snapshots=SnapshotStanding(kept_off="old"))])
    assert cluster.decisions() == ()
