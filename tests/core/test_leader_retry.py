# SPDX-License-Identifier: Apache-2.0
"""leader_retry: a VM that has failed on one node is tried on others, each once, as often as it may."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_cluster import Play, PlayedCluster
from played_guest import NOW_S, a_domain, action, recorded

from pvc_core import leader
from pvc_core.agent_snapshot import Seen
from pvc_core.errors import NoCandidate, Refused
from pvc_core.leader_actions import RetryVm
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.vm_states import VmEvent, advance

S, E = VmState, VmEvent
TWICE = Settings(relocations=2)


def failed(*failed_on: str, **more: Any) -> VmRecord:
    return a_vm(state="failed", node=(failed_on or ("hv1",))[-1], home="hv1", failed_on=failed_on, **more)


def four() -> list[Any]:
    return [a_node(f"hv{n}") for n in range(1, 5)]


def test_a_vm_that_has_failed_is_left_alone_by_default(play: Play) -> None:
    assert play(four(), [failed("hv1")]).decisions() == ()


def test_where_it_may_be_it_starts_on_another_node_and_keeps_its_home(play: Play) -> None:
    cluster = play(four(), [failed("hv1")], TWICE)
    cluster.plays()
    vm = cluster.vm("web1")
    assert vm.state is S.RUNNING
    assert (vm.node != "hv1", vm.home, vm.failed_on) == (True, "hv1", ("hv1",))
    assert [done.reason.startswith("it failed on hv1; ") for done in cluster.done(RetryVm)] == [True]


def test_it_is_tried_on_each_node_once_and_not_on_more_than_it_may(play: Play) -> None:
    cluster = play(four(), [a_vm("web1", state="starting")], TWICE)
    cluster.unstartable = {"web1"}
    cluster.plays()
    vm = cluster.vm("web1")
    assert vm.state is S.FAILED
    assert (len(vm.failed_on), len(set(vm.failed_on)), vm.failed_on[0]) == (3, 3, "hv1")


def test_a_vms_own_number_counts_before_the_clusters(play: Play) -> None:
    assert play(four(), [failed("hv1", relocations=0)], TWICE).decisions() == ()
    assert len(play(four(), [failed("hv1", relocations=1)]).decisions()) == 1


def test_a_limit_that_leaves_no_other_node_leaves_it_failed(play: Play) -> None:
    assert play(four(), [failed("hv1", node_limit=("hv1",))], TWICE).decisions() == ()


@pytest.mark.parametrize("policy", ["stay", "stop"])
def test_a_policy_that_does_not_restart_a_vm_elsewhere_does_not_try_it_there_either(play: Play, policy: str) -> None:
    assert play(four(), [failed("hv1", recovery_policy=policy)], TWICE).decisions() == ()


@pytest.mark.parametrize("command", [E.START, E.STOP, E.DISABLE, E.RELOCATE])
def test_a_person_who_takes_over_begins_anew(command: VmEvent) -> None:
    target = "hv2" if command is E.RELOCATE else ""
    assert advance(failed("hv1", "hv3"), command, "", "", target).failed_on == ()


def test_a_command_that_was_faster_is_not_undone(play: Play) -> None:
    cluster = play(four(), [failed("hv1")], TWICE)
    (retry,) = cluster.decisions()
    cluster.commands.stop("web1")
    with pytest.raises(Refused):
        leader.change_for(retry, cluster.snapshot(), cluster.placer, "")
    other = play(four(), [failed("hv1")], TWICE)
    other.commands.flush(retry.node)
    with pytest.raises(NoCandidate):
        leader.change_for(retry, other.snapshot(), other.placer, "")


def test_what_has_run_for_as_long_as_failures_count_may_be_tried_elsewhere_again() -> None:
    vm = a_vm(failed_on=("hv2",))
    seen = {vm.uuid: Seen("other", NOW_S)}
    assert action(vm, domains=[a_domain()], seen=seen, now_s=NOW_S + 599) is None
    settles = action(vm, domains=[a_domain()], seen=seen, now_s=NOW_S + 600)
    assert recorded(settles) is E.SETTLED
    assert advance(vm, E.SETTLED, "", "").failed_on == ()
    assert action(a_vm(), domains=[a_domain()]) is None


@given(st.integers(0, 4), st.integers(1, 4), st.sets(st.sampled_from(["hv1", "hv2", "hv3", "hv4"])))
@settings(max_examples=60, deadline=None)
def test_however_many_nodes_there_are_it_comes_to_rest(
    registry: Registry, times: int, node_count: int, limit: set[str]
) -> None:
    vm = a_vm("web1", state="starting", node_limit=tuple(sorted(limit)))
    cluster = PlayedCluster(registry, four()[:node_count], [vm], Settings(relocations=times))
    cluster.unstartable = {"web1"}
    cluster.plays(rounds=12)
    record = cluster.vm("web1")
    assert record.state is S.FAILED
    assert len(cluster.done(RetryVm)) == len(record.failed_on) - 1 <= times
    assert len(set(record.failed_on)) == len(record.failed_on)


def test_one_that_a_snapshot_keeps_off_is_not_tried(play: Play) -> None:
    assert play(four(), [failed("hv1", snapshots=SnapshotStanding(kept_off="old"))], TWICE).decisions() == ()
