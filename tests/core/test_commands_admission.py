# SPDX-License-Identifier: Apache-2.0
"""commands: what places a VM is admitted, warned of or refused by the setting; what the leader does always goes on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from played_cluster import Play
from stored_cluster import ANY, Xml

from pvc_core.errors import NotAdmitted
from pvc_core.model import NodeMode, Settings, VmState
from pvc_core.testing.builders import a_node, a_vm

WARN = Settings(memory_reserve_mib=0)
OFF, REFUSE = (msgspec.structs.replace(WARN, admission=value) for value in ("off", "refuse"))


def full(play: Play, settings: Settings, *more: Any) -> Any:
    """Three nodes with 3,000 MiB, each a third empty: whichever is lost, the two others have room for its VMs."""
    vms = [a_vm(f"{name}{n}", node=f"hv{n}", memory_mib=1000) for n in (1, 2, 3) for name in ("a", "b")]
    return play([a_node(f"hv{n}", memory_mib=3000) for n in (1, 2, 3)], [*vms, *more], settings)


def refused(cluster: Any, *command: Any, **options: Any) -> NotAdmitted:
    """The command is not admitted and has changed nothing."""
    before = dict(cluster.entries)
    with pytest.raises(NotAdmitted) as caught:
        command[0](*command[1:], **options)
    assert cluster.entries == before
    return caught.value


def test_a_define_is_warned_of_refused_or_let_in_as_the_setting_says(play: Play, xml: Xml) -> None:
    outcome = full(play, WARN).commands.define(xml("new", 1000), ANY, target="hv1", start=True)
    assert outcome.vm.node == "hv1"
    assert [warning.partition(",")[0] for warning in outcome.warnings] == [f"if hv{n} were lost" for n in (1, 2, 3)]
    assert full(play, OFF).commands.define(xml("new", 1000), ANY, target="hv1", start=True).warnings == ()
    cluster = full(play, REFUSE)
    error = refused(cluster, cluster.commands.define, xml("new", 1000), ANY, target="hv1", start=True)
    assert (error.vm, error.node, [*error.losses]) == ("new", "hv1", ["hv1", "hv2", "hv3"])


def test_a_start_is_judged_by_the_node_it_starts_on(play: Play) -> None:
    roomy = [a_node("hv1", memory_mib=3000), a_node("hv2", memory_mib=3000), a_node("hv3", memory_mib=3000)]
    vms = [a_vm("db", memory_mib=3000, state="stopped"), a_vm("web", node="hv2"), a_vm("app", node="hv3")]
    assert play(roomy, vms, WARN).commands.start("db").warnings == (
        "if hv1 were lost, db would not come back; see `pvc cluster capacity --node hv1`",
    )
    cluster = play(roomy, vms, REFUSE)
    assert refused(cluster, cluster.commands.start, "db").losses == {"hv1": ("db",)}
    assert play(roomy, vms[:2], REFUSE).commands.start("db").warnings == ()


def test_a_start_that_aborts_a_shutdown_places_nothing_and_is_not_looked_at(play: Play) -> None:
    cluster = full(play, REFUSE, a_vm("c1", node="hv1", memory_mib=1000, state=VmState.SHUTTING_DOWN))
    assert cluster.commands.start("c1").warnings == ()


@pytest.mark.parametrize("verb", ["migrate", "move"])
def test_whoever_moves_a_vm_where_others_need_the_room_is_told_or_refused(play: Play, verb: str) -> None:
    nodes = [a_node("hv1", memory_mib=2000), a_node("hv2", memory_mib=1000), a_node("hv3", memory_mib=2000)]
    vms = [a_vm("db", node="hv2", memory_mib=1000), a_vm("web", node="hv3", memory_mib=1500)]
    (warning,) = getattr(play(nodes, vms, WARN).commands, verb)("db", "hv1").warnings
    assert warning.startswith("if hv3 were lost, web would not come back")
    cluster = play(nodes, vms, REFUSE)
    assert refused(cluster, getattr(cluster.commands, verb), "db", "hv1").losses == {"hv3": ("web",)}


def test_a_vm_may_always_go_home(play: Play) -> None:
    nodes = [a_node("hv1", memory_mib=2000), a_node("hv2", memory_mib=1000), a_node("hv3", memory_mib=2000)]
    vms = [a_vm("db", node="hv2", home="hv1", memory_mib=1000), a_vm("web", node="hv3", memory_mib=1500)]
    outcome = play(nodes, vms, REFUSE).commands.unmigrate("db")
    assert outcome.vm.target == "hv1"
    assert len(outcome.warnings) == 1


def test_the_leader_drains_a_node_and_brings_all_home_whatever_the_setting(play: Play) -> None:
    cluster = full(play, REFUSE)
    cluster.commands.flush("hv1")
    cluster.plays()
    assert cluster.node("hv1").mode is NodeMode.FLUSHED
    assert sorted(cluster.on("hv2") + cluster.on("hv3")) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    cluster.commands.ready("hv1")
    cluster.plays()
    assert cluster.on("hv1") == ["a1", "b1"]


def test_a_vm_gets_away_from_a_node_out_of_service_whatever_the_setting(play: Play) -> None:
    nodes = [a_node(f"hv{n}", memory_mib=3000) for n in (1, 2, 3)]
    vms = [a_vm(f"{name}{n}", node=f"hv{n}", memory_mib=1000) for n in (1, 2, 3) for name in ("a", "b")]
    sick = a_node("sick", memory_mib=3000, maintenance=True)
    outcome = play([*nodes, sick], [*vms, a_vm("c", node="sick", memory_mib=1000)], REFUSE).commands.migrate("c", "hv1")
    assert outcome.changed
    assert outcome.warnings
