# SPDX-License-Identifier: Apache-2.0
"""questions: what is planned is what would be done, and an answer from a file is the answer of the cluster."""

from __future__ import annotations

from typing import Any

import pytest
from played_cluster import Play, nodes, scene, twelve

from pvc_core.capacity import VmSize
from pvc_core.errors import InvalidInput, NotFound, Refused
from pvc_core.leader import HoldVm, LeaveVm, MoveVm
from pvc_core.model import NodeMode, Settings, VmMetadata
from pvc_core.placement import Placer
from pvc_core.plan_document import changed_since
from pvc_core.questions import Questions
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.snapshot_file import file_of, snapshot_of
from pvc_core.testing.builders import a_node, a_snapshot, a_vm


def asked(snapshot: ClusterSnapshot, registry: Registry) -> Questions:
    return Questions(snapshot, Placer(registry), registry.recovery_policies)


def moves(plan: Any) -> dict[str, str]:
    return {step.vm: step.target for step in plan.steps if step.action == "migrate"}


def tight() -> ClusterSnapshot:
    """Three nodes with 3 288 MiB free in all, and a VM of 3 000 that fits nowhere else."""
    no_reserve = Settings(memory_reserve_mib=0)
    vms = [a_vm("big", node="hv1", memory_mib=3000), a_vm("b", node="hv2", memory_mib=2452)]
    return a_snapshot(nodes("hv1", "hv2", "hv3"), [*vms, a_vm("c", node="hv3", memory_mib=2452)], no_reserve)


# ------------------------------------------------------------------------------------------------- a flush


def test_a_flush_does_what_its_plan_says(play: Play) -> None:
    cluster = scene(play)
    plan = cluster.commands.questions().flush("hv1")
    cluster.immovable = set()
    cluster.commands.flush("hv1")
    cluster.plays()
    done = {cluster.snapshot().vms[a.uuid].value.name: a.target for a in cluster.done(MoveVm)}
    assert moves(plan) == done
    held = {cluster.snapshot().vms[a.uuid].value.name for a in cluster.done(HoldVm)}
    assert {step.vm for step in plan.steps if step.action == "shutdown"} == held == {"alone"}
    assert [(stay.vm, stay.node) for stay in plan.stay] == [("stays", "hv1")]
    assert len(cluster.done(LeaveVm)) == 1
    assert not plan.complete


def test_the_plan_of_a_flush_changes_nothing_and_spreads(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2", "hv3", "hv4"), twelve())
    before = dict(cluster.entries)
    plan = cluster.commands.questions().flush("hv1")
    assert cluster.entries == before
    assert plan.complete
    assert sorted(list(moves(plan).values()).count(node) for node in ("hv2", "hv3", "hv4")) == [4, 4, 4]


def test_small_medium_and_large_all_find_a_place_when_their_node_is_drained(play: Play) -> None:
    """One by one the medium and the small would leave the large one without a place."""
    gib = 1024
    sizes = {"small": 1, "medium": 2, "large": 3}
    vms = [a_vm(name, memory_mib=size * gib, vcpus=size, priority=3 - size) for name, size in sizes.items()]
    hosts = [
        a_node("hv1", memory_mib=8 * gib, cores=8),
        a_node("hv2", memory_mib=2 * gib, cores=2),
        a_node("hv3", memory_mib=4 * gib, cores=4),
    ]
    cluster = play(hosts, vms, Settings(memory_reserve_mib=0))
    plan = cluster.commands.questions().flush("hv1")
    assert plan.complete
    assert moves(plan)["large"] == "hv3"
    cluster.commands.flush("hv1")
    cluster.plays()
    assert {vm: cluster.vm(vm).node for vm in sizes} == moves(plan)
    assert cluster.node("hv1").mode is NodeMode.FLUSHED
    assert not cluster.done(HoldVm)


def test_the_plan_of_a_flush_under_way_is_what_is_left_of_it(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(f"web{n}", memory_mib=256) for n in range(4)])
    cluster.commands.flush("hv1")
    cluster.leader_acts()
    plan = cluster.commands.questions().flush("hv1")
    assert len(plan.steps) == 2
    cluster.plays()
    done = cluster.commands.questions().flush("hv1")
    assert (done.steps, done.reason) == ((), "hv1 is flushed already")


def test_a_vm_that_is_about_to_run_is_part_of_the_plan(registry: Registry) -> None:
    snapshot = a_snapshot(nodes("hv1", "hv2"), [a_vm("web1", state="starting"), a_vm("web2", state="stopped")])
    assert moves(asked(snapshot, registry).flush("hv1")) == {"web1": "hv2"}


def test_what_cannot_be_flushed_is_not_planned_either(registry: Registry) -> None:
    snapshot = a_snapshot([a_node("hv1", alive=False), a_node("hv2")])
    with pytest.raises(Refused, match="its daemon is lost"):
        asked(snapshot, registry).flush("hv1")
    with pytest.raises(NotFound, match="hv9"):
        asked(snapshot, registry).flush("hv9")


# --------------------------------------------------------------------------------------------- a migration


def test_a_migration_goes_where_its_plan_says(running: Any) -> None:
    plan = running.commands.questions().migrate("web1")
    assert running.commands.migrate("web1").vm.target == plan.steps[0].target
    assert (plan.kind, plan.subject, plan.complete) == ("migrate", "web1", True)


def test_a_target_that_may_not_have_the_vm_leaves_it_where_it_is_with_the_reason(registry: Registry) -> None:
    snapshot = a_snapshot(nodes("hv1", "hv2"), [a_vm(node_limit=("hv1",))])
    plan = asked(snapshot, registry).migrate("web1", "hv2")
    assert not plan.complete
    assert "outside the VM's limit" in plan.stay[0].reason


def test_others_step_aside_only_when_that_was_asked_for(registry: Registry) -> None:
    vms = [
        a_vm("large", node="hv1", memory_mib=3000, node_limit=("hv1", "hv2")),
        a_vm("small", node="hv2", memory_mib=1000),
    ]
    snapshot = a_snapshot(nodes("hv1", "hv2", "hv3"), vms)
    questions = asked(snapshot, registry)
    assert not questions.migrate("large", "hv2").complete
    plan = questions.migrate("large", "hv2", make_room=True)
    assert [(step.vm, step.target, step.after) for step in plan.steps] == [("small", "hv3", ()), ("large", "hv2", (0,))]


def test_a_migration_that_would_be_refused_has_no_plan(registry: Registry) -> None:
    questions = asked(a_snapshot(nodes("hv1", "hv2"), [a_vm(state="stopped")]), registry)
    with pytest.raises(Refused, match="`pvc vm move` gives it another node"):
        questions.migrate("web1")
    assert moves(questions.migrate("web1", permanent=True)) == {"web1": "hv2"}
    assert questions.migrate("web1", "hv1", permanent=True).reason == "web1 is on hv1 already"


# ---------------------------------------------------------------------------------------- place and capacity


def test_a_vm_that_does_not_exist_is_explained_by_its_size_limit_and_selector(registry: Registry) -> None:
    questions = asked(a_snapshot([a_node("hv1"), a_node("hv2", memory_mib=8192)]), registry)
    decision = questions.explain_new(VmSize(4096, 2), VmMetadata(node_selector="vcpus"))
    assert (decision.node, decision.selector) == ("hv2", "vcpus")
    assert {rejection.node for rejection in decision.rejections} == {"hv1"}
    with pytest.raises(InvalidInput, match="hv9"):
        questions.explain_new(VmSize(512, 1), VmMetadata(node_limit=("hv9",)))


def test_capacity_names_the_vm_that_would_not_come_back_although_the_sum_of_free_memory_is_enough(
    registry: Registry,
) -> None:
    found = asked(tight(), registry).capacity(VmSize(1600, 1))
    assert [vm.vm for vm in found.nodes["hv1"].stranded] == ["big"]
    assert found.fit == 2
    assert list(asked(tight(), registry).capacity(node="hv2").nodes) == ["hv2"]
    with pytest.raises(NotFound):
        asked(tight(), registry).capacity(node="hv9")


# ------------------------------------------------------------------------------------------ files and bases


def test_answers_from_a_file_are_those_of_the_cluster(play: Play, registry: Registry) -> None:
    cluster = scene(play)
    cluster.nodes_report()
    live = cluster.commands.questions()
    file = asked(snapshot_of(file_of(cluster.snapshot())), registry)
    assert file.flush("hv1") == live.flush("hv1")
    assert file.migrate("a1") == live.migrate("a1")
    assert file.capacity(VmSize(256, 1)) == live.capacity(VmSize(256, 1))
    assert file.explain("a2").ranking == live.explain("a2").ranking


def test_a_plan_from_a_file_holds_for_the_cluster_until_that_changes(play: Play, registry: Registry) -> None:
    cluster = scene(play)
    plan = asked(snapshot_of(file_of(cluster.snapshot())), registry).flush("hv1")
    assert changed_since(plan.basis, cluster.snapshot()) == ()
    cluster.nodes_report()
    assert changed_since(plan.basis, cluster.snapshot()) == (), "a new report is no change"
    cluster.commands.shutdown("a1")
    cluster.agents_act()
    assert changed_since(plan.basis, cluster.snapshot()) == (
        "VM a1 is not as it was: it is stopped on hv1 now, with 256 MiB",
    )
    cluster.commands.undefine("a1")
    cluster.commands.change_settings({"max_parallel_migrations": 4})
    assert changed_since(plan.basis, cluster.snapshot()) == (
        "VM a1 is gone",
        "node hv1 is not as it was: it is ready and alive now, 8 VMs with 2048 MiB are assigned to it",
        "the cluster's settings have changed",
    )
