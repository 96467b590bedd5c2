# SPDX-License-Identifier: Apache-2.0
"""leader_plan: an applied plan is carried out step by step, gives way to everything else, and comes to an end."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from played_cluster import Play, nodes, twelve

from pvc_core.codec import encode
from pvc_core.errors import InvalidInput, NotFound, PlanOutdated, PvcError, Refused
from pvc_core.leader_actions import BeginStep, EndStep, FinishPlan
from pvc_core.model import NodeMode, Settings, VmState
from pvc_core.plan_document import PlanDocument, document_of
from pvc_core.planner import Plan, Step
from pvc_core.ports import Entry
from pvc_core.testing.builders import a_node, a_vm
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


def a_plan(
    cluster: Any, *steps: tuple[str, str, tuple[int, ...]], kind: Any = "balance", **fields: Any
) -> PlanDocument:
    """A plan of these moves, (VM, target, after), made from the cluster as it is."""
    where = {stored.value.name: stored.value.node for stored in cluster.snapshot().vms.values()}
    made = []
    for vm, target, after in steps:
        made.append(Step(vm=vm, source=where[vm], target=target, after=after, reason=f"{vm} to {target}"))
        where[vm] = target
    document = document_of(Plan(steps=tuple(made)), kind, "", "as the test wants", cluster.snapshot())
    return msgspec.structs.replace(document, **fields)


def ring(play: Play) -> Any:
    """Three full nodes whose VMs want to change places in a ring, and a fourth that has room for one."""
    vms = [a_vm(name, node=node, memory_mib=3000) for name, node in (("a", "hv1"), ("b", "hv2"), ("c", "hv3"))]
    return play(nodes("hv1", "hv2", "hv3", "hv4"), vms)


RING = (("a", "hv4", ()), ("c", "hv1", (0,)), ("b", "hv3", (1,)), ("a", "hv2", (0, 2)))


def states(cluster: Any) -> list[str]:
    return [step.state for step in cluster.snapshot().plan.value.steps]


def notes(cluster: Any) -> dict[str, str]:
    return {step.vm: step.note for step in cluster.snapshot().plan.value.steps}


def places(cluster: Any) -> dict[str, str]:
    return {stored.value.name: stored.value.node for stored in cluster.snapshot().vms.values()}


# ------------------------------------------------------------------------------------------ carried out


def test_a_ring_turns_by_a_parking_move_each_step_after_those_that_make_its_room(play: Play) -> None:
    cluster = ring(play)
    cluster.commands.apply_plan(a_plan(cluster, *RING))
    cluster.plays()
    assert places(cluster) == {"a": "hv2", "b": "hv3", "c": "hv1"}
    plan = cluster.snapshot().plan.value
    assert (states(cluster), plan.reason) == (["done"] * 4, "4 of 4 steps done")
    assert plan.finished_at


def test_what_was_balanced_is_at_home_there_and_what_was_migrated_is_not(play: Play) -> None:
    for kind, home in (("balance", "hv2"), ("move", "hv2"), ("migrate", "hv1")):
        cluster = play(nodes("hv1", "hv2"), [a_vm()])
        cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ()), kind=kind))
        cluster.plays()
        assert (cluster.vm("web1").node, cluster.vm("web1").home) == ("hv2", home)


def test_no_more_migrations_go_on_at_one_time_than_the_settings_allow(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2", "hv3"), twelve())
    steps = [(f"web{n:02}", "hv2" if n % 2 else "hv3", ()) for n in range(1, 9)]
    cluster.commands.apply_plan(a_plan(cluster, *steps))
    cluster.leader_acts()
    assert states(cluster).count("under-way") == cluster.snapshot().settings.max_parallel_migrations
    cluster.plays()
    assert states(cluster) == ["done"] * 8


def test_a_vm_that_is_off_only_changes_its_node(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(state="stopped")])
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ()), kind="move"))
    cluster.plays()
    assert (cluster.vm("web1").state, cluster.vm("web1").node, cluster.vm("web1").home) == (S.STOPPED, "hv2", "hv2")
    assert states(cluster) == ["done"]


def test_a_step_that_fails_is_tried_as_often_as_a_flush_would_and_does_not_stop_the_others(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2", "hv3"), [a_vm("web1"), a_vm("web2")])
    cluster.immovable = {"web1"}
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ()), ("web2", "hv3", ())))
    cluster.plays()
    assert states(cluster) == ["failed", "done"]
    assert sum(action.uuid == cluster.vm("web1").uuid for action in cluster.done(BeginStep)) == 2
    assert cluster.snapshot().plan.value.reason == "1 of 2 steps done, 1 failed"


def test_a_step_whose_room_was_not_made_fails_and_says_by_whom(play: Play) -> None:
    cluster = ring(play)
    cluster.immovable = {"a"}
    cluster.commands.apply_plan(a_plan(cluster, *RING))
    cluster.plays()
    assert states(cluster) == ["failed", "failed", "failed", "dropped"]
    assert "and a has not made room" in notes(cluster)["c"]
    assert places(cluster) == {"a": "hv1", "b": "hv2", "c": "hv3"}


# ------------------------------------------------------------------------------- everything else comes first


@pytest.mark.parametrize(
    ("command", "note"),
    [
        (lambda commands: commands.stop("web2"), "it is shutting-down"),
        (lambda commands: commands.migrate("web2", "hv3"), "it is on hv3 now, not on hv1"),
        (lambda commands: commands.migrate("web2", "hv2"), "it was there already"),
    ],
)
def test_what_an_operator_does_with_a_vm_is_not_undone(play: Play, command: Any, note: str) -> None:
    cluster = play(nodes("hv1", "hv2", "hv3"), [a_vm("web1"), a_vm("web2")], Settings(max_parallel_migrations=1))
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ()), ("web2", "hv2", ())))
    cluster.leader_acts()
    cluster.counts_slots = False
    command(cluster.commands)
    cluster.plays()
    assert cluster.vm("web1").node == "hv2"
    assert notes(cluster)["web2"] == note


def test_a_migration_that_an_operator_cancels_is_not_begun_again(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ())))
    cluster.leader_acts()
    cluster.commands.start("web1")
    cluster.plays()
    assert (cluster.vm("web1").node, notes(cluster)["web1"]) == ("hv1", "its migration is being cancelled")


def test_a_vm_that_is_undefined_is_dropped_from_the_plan(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm(state="stopped")])
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ()), kind="move"))
    cluster.commands.undefine("web1")
    cluster.plays()
    assert (states(cluster), notes(cluster)) == (["dropped"], {"web1": "the VM is gone"})


def test_a_flush_that_begins_meanwhile_has_the_vms_of_its_node(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2", "hv3"), [a_vm(f"web{n}", memory_mib=256) for n in range(6)])
    cluster.commands.apply_plan(a_plan(cluster, *((f"web{n}", "hv2", ()) for n in range(6))))
    cluster.leader_acts()
    cluster.commands.flush("hv1")
    cluster.plays()
    assert cluster.node("hv1").mode is NodeMode.FLUSHED
    assert cluster.on("hv1") == []
    assert set(states(cluster)) == {"done", "dropped"}


def test_a_target_that_is_drained_meanwhile_is_not_gone_to(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ())))
    cluster.commands.flush("hv2")
    cluster.plays()
    assert cluster.vm("web1").node == "hv1"
    assert states(cluster) == ["failed"]
    assert "flush" in notes(cluster)["web1"]


# -------------------------------------------------------------------------------- applied, refused, cancelled


def test_a_plan_is_refused_with_what_has_changed_since_it_was_made(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm("web1"), a_vm("web2")])
    plan = a_plan(cluster, ("web1", "hv2", ()))
    cluster.commands.migrate("web2", "hv2")
    cluster.plays()
    with pytest.raises(PlanOutdated) as refused:
        cluster.commands.apply_plan(plan)
    assert [change.partition(" is not")[0] for change in refused.value.changes] == ["node hv1", "node hv2"]
    assert cluster.snapshot().plan is None


def test_one_plan_at_a_time(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm("web1"), a_vm("web2")])
    cluster.commands.apply_plan(a_plan(cluster, ("web1", "hv2", ())))
    with pytest.raises(Refused, match="another is being carried out"):
        cluster.commands.apply_plan(a_plan(cluster, ("web2", "hv2", ())))
    cluster.plays()
    assert cluster.commands.apply_plan(a_plan(cluster, ("web2", "hv2", ()))).changed


def test_a_cancelled_plan_ends_with_what_has_begun(play: Play) -> None:
    cluster = ring(play)
    cluster.commands.apply_plan(a_plan(cluster, *RING))
    cluster.leader_acts()
    assert cluster.commands.cancel_plan().changed
    assert not cluster.commands.cancel_plan().changed
    cluster.plays()
    assert places(cluster) == {"a": "hv4", "b": "hv2", "c": "hv3"}
    assert cluster.snapshot().plan.value.reason == "cancelled, 1 of 4 steps done, 3 dropped"
    with pytest.raises(Refused, match="none is being carried out"):
        cluster.commands.cancel_plan()


def test_spreading_again_so_soon_is_refused_and_repairing_is_not(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm("web1"), a_vm("web2"), a_vm("web3")])
    for vm, more in (("web1", {"spreads": True}), ("web2", {})):
        cluster.commands.apply_plan(a_plan(cluster, (vm, "hv2", ()), **more))
        cluster.plays()
    again = a_plan(cluster, ("web3", "hv2", ()), spreads=True)
    with pytest.raises(Refused, match=r"the last balance was at .*; the next is due at .*Z, unless it is forced"):
        cluster.commands.apply_plan(again)
    assert cluster.commands.apply_plan(again, force=True).changed


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"steps": [{"after": [0]}]}, "steps[0].after"),
        ({"steps": [{"action": "start"}]}, "steps[0].action"),
        ({"steps": [{"vm": "nobody"}]}, "basis.vms"),
        ({"steps": [{"to": "hv9"}]}, "basis.nodes"),
        ({"kind": "flush", "subject": ""}, "subject"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(play: Play, fields: dict[str, Any], error: str) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    plan = msgspec.to_builtins(a_plan(cluster, ("web1", "hv2", ())))
    step = {**plan["steps"][0], **fields.pop("steps", [{}])[0]}
    with pytest.raises(InvalidInput) as refused:
        cluster.commands.apply_plan(msgspec.convert({**plan, "steps": [step], **fields}, PlanDocument))
    assert refused.value.field == error


def test_a_plan_without_steps_is_nothing_to_do(play: Play) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    assert not cluster.commands.apply_plan(a_plan(cluster)).changed


# --------------------------------------------------------------------------------- a flush as it was planned


def test_a_planned_flush_goes_where_the_plan_says_also_when_the_selector_would_not_any_more(play: Play) -> None:
    cluster = play([a_node("hv1"), a_node("hv2"), a_node("hv3", load_1m=3.0)], [a_vm(node_selector="load")])
    plan = cluster.commands.questions().flush("hv1")
    assert [step.target for step in plan.steps] == ["hv2"]
    hv2 = cluster.snapshot().nodes["hv2"].report
    busy = msgspec.structs.replace(hv2.value, load_1m=9.0)
    cluster.entries[hv2.key] = Entry(hv2.key, encode(busy), hv2.version + 1)
    cluster.reports_lag = True
    assert cluster.commands.questions().flush("hv1").steps[0].target == "hv3"
    assert cluster.commands.apply_plan(plan).node.mode is NodeMode.FLUSHING
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv2", NodeMode.FLUSHED)


def test_a_planned_flush_whose_place_is_taken_meanwhile_still_drains_the_node(play: Play, xml: Any) -> None:
    cluster = play([a_node("hv1"), a_node("hv2"), a_node("hv3", memory_mib=3072)], [a_vm(memory_mib=2048)])
    plan = cluster.commands.questions().flush("hv1")
    assert plan.steps[0].target == "hv2"
    cluster.commands.apply_plan(plan)
    cluster.commands.define(xml("new", 3000), a_vm().metadata, target="hv2")
    cluster.plays()
    assert (cluster.vm("web1").node, cluster.node("hv1").mode) == ("hv3", NodeMode.FLUSHED)


def test_a_planned_flush_is_refused_when_a_vm_has_come_to_the_node(play: Play, xml: Any) -> None:
    cluster = play(nodes("hv1", "hv2"), [a_vm()])
    plan = cluster.commands.questions().flush("hv1")
    cluster.commands.define(xml("new"), a_vm().metadata, target="hv1")
    with pytest.raises(PlanOutdated, match="node hv1 is not as it was"):
        cluster.commands.apply_plan(plan)
    with pytest.raises(NotFound):
        cluster.commands.questions().flush("hv9")


# -------------------------------------------------------------------------------- any leader, any operator


def test_whenever_the_leader_dies_the_next_one_brings_the_plan_to_the_same_end(play: Play) -> None:
    cluster = ring(play)
    cluster.commands.apply_plan(a_plan(cluster, *RING))
    cluster.plays(agents_at_most=1)
    end, lines = places(cluster), list(cluster.history)
    assert len(lines) > 12
    for number, entries in enumerate(lines):
        heir = cluster.again_from(entries)
        heir.plays(agents_at_most=1)
        assert (places(heir), states(heir)) == (end, ["done"] * 4), f"after line {number} of {len(lines)}"


@pytest.mark.parametrize("seed", range(30))
def test_whatever_operators_do_between_any_two_lines_a_plan_ends_and_nothing_is_broken(play: Play, seed: int) -> None:
    random = Random(seed)
    names = [f"web{n}" for n in range(6)]
    cluster = play(nodes("hv1", "hv2", "hv3"), [a_vm(name, memory_mib=512) for name in names])
    steps = [(name, random.choice(["hv2", "hv3"]), (0,) if n > 3 else ()) for n, name in enumerate(names)]
    cluster.commands.apply_plan(a_plan(cluster, *steps))
    cluster.lag = lambda: random.randrange(3)
    cluster.counts_slots = False
    commands = cluster.commands
    for _ in range(40):
        vm, node = random.choice(names), random.choice(["hv1", "hv2", "hv3"])
        possible: list[Any] = [
            lambda vm=vm: commands.stop(vm),
            lambda vm=vm: commands.start(vm),
            lambda vm=vm, node=node: commands.migrate(vm, node),
            lambda node=node: commands.flush(node),
            lambda node=node: commands.ready(node),
            cluster.leader_acts,
            lambda: cluster.agents_act(at_most=1),
        ]
        try:
            random.choice(possible)()
        except PvcError:
            continue
    cluster.lag = None
    for node in ("hv1", "hv2", "hv3"):
        if cluster.node(node).mode in (NodeMode.FLUSHED, NodeMode.FLUSHING):
            commands.ready(node)
    cluster.plays()
    plan = cluster.snapshot().plan.value
    assert plan.finished_at
    assert all(step.note for step in plan.steps)
    assert cluster.done(FinishPlan)
    assert len(cluster.done(EndStep)) >= 1
