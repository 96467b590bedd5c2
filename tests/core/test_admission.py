# SPDX-License-Identifier: Apache-2.0
"""Whom a VM in its new place would cost the way back, and only those: compared with the cluster without it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pvc_core.admission import Endangered, admit, endangered, in_turn
from pvc_core.capacity import losses
from pvc_core.errors import NotAdmitted
from pvc_core.model import Settings, VmRecord
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_rule, a_snapshot, a_vm

PLACER = Placer(Registry.load())
WARN = Settings(memory_reserve_mib=0)
OFF, REFUSE = (msgspec.structs.replace(WARN, admission=value) for value in ("off", "refuse"))


def nodes(*sizes_mib: int) -> list[object]:
    return [a_node(f"hv{number}", memory_mib=size) for number, size in enumerate(sizes_mib, start=1)]


def found(after: VmRecord, snapshot: ClusterSnapshot) -> dict[str, tuple[str, ...]]:
    """Who would be lost by which node."""
    return {one.node: one.vms for one in endangered(after, snapshot, PLACER)}


def with_setting(snapshot: ClusterSnapshot, settings: Settings) -> ClusterSnapshot:
    return replace(snapshot, settings=settings)


@pytest.fixture
def full() -> ClusterSnapshot:
    """Three nodes with 3,000 MiB, each a third empty: whichever is lost, the two others have room for its VMs."""
    vms = [a_vm(f"{name}{n}", node=f"hv{n}", memory_mib=1000) for n in (1, 2, 3) for name in ("a", "b")]
    return a_snapshot(nodes(3000, 3000, 3000), vms, WARN)


# ------------------------------------------------------------------------------------- who is endangered


def test_a_vm_with_room_for_all_to_come_back_endangers_nobody() -> None:
    vms = [a_vm(f"vm{n}", node=f"hv{n}", memory_mib=1000) for n in (1, 2, 3)]
    snapshot = a_snapshot(nodes(3000, 3000, 3000), vms, WARN)
    assert found(a_vm("new", node="hv1", memory_mib=1000, state="starting"), snapshot) == {}


def test_the_vm_too_many_is_named_with_those_whose_room_it_takes(full: ClusterSnapshot) -> None:
    """On hv1 it has no place to come back to, and takes the one that a VM of hv2 or of hv3 would need."""
    lost = found(a_vm("new", node="hv1", memory_mib=1000, state="starting"), full)
    assert list(lost) == ["hv1", "hv2", "hv3"]
    assert all(len(vms) == 1 for vms in lost.values())
    assert set(lost["hv1"]) <= {"a1", "b1", "new"}


def test_a_vm_that_is_off_takes_room_but_is_not_missed(full: ClusterSnapshot) -> None:
    assert list(found(a_vm("new", node="hv1", memory_mib=1000, state="stopped"), full)) == ["hv2", "hv3"]


def test_what_was_so_before_is_not_said_again() -> None:
    vms = [a_vm("huge", node="hv1", memory_mib=5000), a_vm("small", node="hv2", memory_mib=500)]
    snapshot = a_snapshot(nodes(6000, 4000, 4000), vms, WARN)
    assert not losses(snapshot, PLACER)["hv1"].survivable
    assert found(a_vm("new", node="hv2", memory_mib=1000), snapshot) == {}
    assert found(a_vm("new", node="hv1", memory_mib=1000), snapshot) == {}


def test_every_further_vm_of_a_cluster_that_is_too_full_is_named(full: ClusterSnapshot) -> None:
    vms = [stored.value for stored in full.vms.values()]
    fuller = a_snapshot(nodes(3000, 3000, 3000), [*vms, a_vm("c1", node="hv1", memory_mib=1000)], WARN)
    assert "hv2" in found(a_vm("new", node="hv2", memory_mib=1000), fuller)


def test_a_start_endangers_by_being_missed_alone() -> None:
    """Its memory was reserved before, so nobody else's room gets less."""
    stopped = a_vm("db", node="hv1", memory_mib=3000, state="stopped")
    others = [a_vm("web", node="hv2", memory_mib=500), a_vm("app", node="hv3", memory_mib=500)]
    snapshot = a_snapshot(nodes(3000, 3000, 3000), [stopped, *others], WARN)
    assert found(msgspec.structs.replace(stopped, state="starting"), snapshot) == {"hv1": ("db",)}


def test_a_move_to_where_others_need_the_room_is_told() -> None:
    vms = [a_vm("db", node="hv2", memory_mib=1000), a_vm("web", node="hv3", memory_mib=1500)]
    snapshot = a_snapshot(nodes(2000, 1000, 2000), vms, WARN)
    assert all(loss.survivable for loss in losses(snapshot, PLACER).values())
    assert found(msgspec.structs.replace(snapshot.vm("db").value, node="hv1"), snapshot) == {"hv3": ("web",)}


def test_a_move_that_takes_the_danger_along_is_told_of_the_others_only() -> None:
    """There is one place for the two VMs of the sick node: light would not come back from there, nor from hv2."""
    light, vital = (a_vm(name, node="sick", memory_mib=2000, priority=p) for name, p in (("light", 0), ("vital", 5)))
    sick = a_node("sick", memory_mib=4000, mode="flushed")
    snapshot = a_snapshot([*nodes(1000, 3000, 1000), sick], [light, vital], WARN)
    assert [one.vm for one in losses(snapshot, PLACER)["sick"].stranded] == ["light"]
    assert found(msgspec.structs.replace(light, node="hv2"), snapshot) == {"sick": ("vital",)}


def test_a_vm_that_its_limit_leaves_one_node_goes_down_with_it_and_nobody_is_told(full: ClusterSnapshot) -> None:
    roomy = a_snapshot(nodes(3000, 3000, 3000), (), WARN)
    assert found(a_vm("tied", node="hv1", memory_mib=1000, node_limit=["hv1"]), roomy) == {}
    assert found(a_vm("tied", node="hv1", memory_mib=1000, node_limit=["hv1"]), full).keys() == {"hv2", "hv3"}


def test_a_limit_without_room_in_it_counts() -> None:
    snapshot = a_snapshot(nodes(3000, 1000, 9000), (), WARN)
    assert found(a_vm("new", node="hv1", memory_mib=2000, node_limit=["hv1", "hv2"]), snapshot) == {"hv1": ("new",)}


def test_hard_rules_count() -> None:
    """Three VMs that are apart need a fourth node to come back to."""
    rule = a_rule("apart", "apart", "a", "b", "c", hard=True)
    vms = [a_vm("a", node="hv1"), a_vm("b", node="hv2")]
    snapshot = a_snapshot(nodes(4096, 4096, 4096), vms, WARN, rules=[rule])
    assert found(a_vm("c", node="hv3"), snapshot) == {"hv1": ("a",), "hv2": ("b",), "hv3": ("c",)}


def test_a_more_important_vm_that_loses_its_way_back_to_a_lesser_one_is_named() -> None:
    """As many are left out as before, but now it is the one that matters."""
    vital = a_vm("vital", node="hv1", memory_mib=2000, priority=9)
    vms = [vital, a_vm("idle", node="hv1", memory_mib=1000)]
    snapshot = a_snapshot(nodes(4000, 2000, 500), vms, WARN)
    assert [one.vm for one in losses(snapshot, PLACER)["hv1"].stranded] == ["idle"]
    assert found(a_vm("new", node="hv2", memory_mib=1000), snapshot)["hv1"] == ("vital",)


# ------------------------------------------------------------------------------------- small clusters


@pytest.mark.parametrize("more", [[], [a_node("hv2", mode="flushed")], [a_node("hv2", alive=False)]])
def test_a_node_that_is_alone_in_service_is_not_looked_at(more: list[object]) -> None:
    snapshot = a_snapshot([a_node("hv1"), *more], (), WARN)
    assert found(a_vm("new", node="hv1", memory_mib=3000), snapshot) == {}


def test_two_nodes_are_told_once_that_neither_can_stand_in_for_the_other_any_more() -> None:
    vms = [a_vm("a", node="hv1", memory_mib=1500), a_vm("b", node="hv2", memory_mib=1500)]
    snapshot = a_snapshot(nodes(4000, 4000), vms, WARN)
    too_many = a_vm("c", node="hv1", memory_mib=1500)
    assert found(too_many, snapshot).keys() == {"hv1", "hv2"}
    beyond = a_snapshot(nodes(4000, 4000), [*vms, too_many], WARN)
    assert found(a_vm("d", node="hv2", memory_mib=1000), beyond) == {}


# ------------------------------------------------------------------------------------- what the setting makes of it


def test_off_does_not_look_and_warn_tells_with_the_command_that_tells_more(full: ClusterSnapshot) -> None:
    new = a_vm("new", node="hv1", memory_mib=1000)
    assert admit(new, with_setting(full, OFF), PLACER) == ()
    warnings = admit(new, full, PLACER)
    assert len(warnings) == 3
    assert warnings[0].startswith("if hv1 were lost, ")
    assert warnings[0].endswith(" would not come back; see `pvc cluster capacity --node hv1`")


def test_a_refusal_names_the_losses_and_whom_they_would_cost(full: ClusterSnapshot) -> None:
    with pytest.raises(NotAdmitted, match="new is not admitted on hv1: if hv1 were lost, ") as caught:
        admit(a_vm("new", node="hv1", memory_mib=1000), with_setting(full, REFUSE), PLACER)
    assert caught.value.losses.keys() == {"hv1", "hv2", "hv3"}
    assert caught.value.elsewhere == ""
    assert "stop VMs, or add memory or a node; see `pvc cluster capacity`" in caught.value.sentence()


def test_a_refusal_names_a_place_where_the_vm_would_be_admitted() -> None:
    """On hv1 it takes the only place that web has to come back to."""
    snapshot = a_snapshot(nodes(3000, 2000, 3000), [a_vm("web", node="hv3", memory_mib=3000)], REFUSE)
    with pytest.raises(NotAdmitted, match="; it would be admitted on hv2") as caught:
        admit(a_vm("new", node="hv1", memory_mib=1000), snapshot, PLACER)
    assert (caught.value.losses, caught.value.elsewhere) == ({"hv3": ("web",)}, "hv2")


def test_what_goes_home_or_leaves_a_node_out_of_service_is_warned_of_only(full: ClusterSnapshot) -> None:
    strict = with_setting(full, REFUSE)
    new = a_vm("new", node="hv1", memory_mib=1000)
    assert len(admit(new, strict, PLACER, may_refuse=False)) == 3
    sick = a_node("sick", mode="flushed", memory_mib=3000)
    stuck = a_vm("stuck", node="sick", memory_mib=1000)
    vms = [*(stored.value for stored in full.vms.values()), stuck]
    snapshot = a_snapshot([*nodes(3000, 3000, 3000), sick], vms, REFUSE)
    assert admit(msgspec.structs.replace(stuck, node="hv1"), snapshot, PLACER) != ()


def test_a_verdict_of_a_search_that_ended_early_says_so() -> None:
    unsure = Endangered("hv1", ("a", "b", "c", "d"), proven=False)
    assert unsure.sentence().startswith("if hv1 were lost, a, b, c and 1 more would not come back, as far as was ")


# ------------------------------------------------------------------------------------- bounds


def test_of_a_large_cluster_the_own_and_the_fullest_nodes_are_looked_at() -> None:
    vms = [a_vm(f"vm{n}", node=f"hv{n}", memory_mib=100 * n) for n in range(1, 10)]
    snapshot = a_snapshot(nodes(*[1000] * 9), vms, WARN)
    turns = in_turn(a_vm("vm3", node="hv3"), snapshot, PLACER, most_vms=4, vms_at_a_time=2)
    assert list(turns) == [["hv3", "hv9"], ["hv8", "hv7"]]


SIZES = st.integers(1, 6).map(lambda n: n * 500)


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(4, 12).map(lambda n: n * 500), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), SIZES, st.sampled_from(["running", "stopped"])), max_size=8),
    SIZES,
)
def test_nobody_is_named_who_would_come_back_or_would_not_have_before(
    sizes: list[int], placed: list[tuple[int, int, str]], new_mib: int
) -> None:
    vms = [
        a_vm(f"vm{n}", node=f"hv{node % len(sizes) + 1}", memory_mib=size, state=state)
        for n, (node, size, state) in enumerate(placed)
    ]
    snapshot = a_snapshot(nodes(*sizes), vms, WARN)
    new = a_vm("new", node="hv1", memory_mib=new_mib)
    after = a_snapshot(nodes(*sizes), [*vms, new], WARN)
    before_losses, after_losses = losses(snapshot, PLACER), losses(after, PLACER)
    for one in endangered(new, snapshot, PLACER):
        assert set(one.vms) <= {stranded.vm for stranded in after_losses[one.node].stranded}
        assert not set(one.vms) & {stranded.vm for stranded in before_losses[one.node].stranded}
