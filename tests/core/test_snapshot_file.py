# SPDX-License-Identifier: Apache-2.0
"""A cluster as a file: what is written is read back to the same decisions, and a mistake in it is found."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pvc_core.capacity import capacity_of
from pvc_core.errors import InvalidInput
from pvc_core.model import NodeMode, Settings, VmState
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.snapshot_file import document_of, parse_file, read_snapshot
from pvc_core.testing.builders import a_node, a_request, a_rule, a_snapshot, a_vm, stored

PLACER = Placer(Registry.load())
SCENARIO = """
settings: {memory_reserve_mib: 0, default_selector: vms}
nodes:
  hv1: {memory_mib: 4096, cores: 4, power: on, daemon: on, fence: confirms, watchdog: true, labels: {rack: a}}
  hv2: {memory_mib: 2048, cores: 2, power: off, mode: flushed}
vms:
  web1: {node: hv1, memory_mib: 512, vcpus: 2, home: hv2, node_limit: [hv1, hv2], priority: 3, tags: [front],
         faults: {start_failures: 2, starts_only_on: hv1}}
  db1: {node: hv1, memory_mib: 1024, state: stopped, node_autostart: true}
rules:
  - {name: pair, kind: apart, members: [web1, "tag:front"], hard: true}
"""


def a_cluster() -> ClusterSnapshot:
    nodes = [
        a_node("hv1", cores=8, load_1m=1.5, labels={"rack": "a"}),
        a_node("hv2", mode="flushing"),
        a_node("hv3", alive=False),
    ]
    vms = [
        a_vm("web1", node="hv1", node_limit=["hv1", "hv2"], priority=7, tags=["front"]),
        a_vm("db1", node="hv2", memory_mib=2048, state="disabled"),
        a_vm("held", node="hv1", home="hv2", state="stopped", held=True),
    ]
    rules = [a_rule("pair", "apart", "web1", "tag:front", hard=True), a_rule("big", "prefer", "db1", hv1=10, hv2=-5)]
    return a_snapshot(nodes, vms, Settings(default_selector="vms", memory_overcommit=1.5), rules=rules)


def test_a_scenario_is_read_as_a_cluster() -> None:
    snapshot = read_snapshot(SCENARIO)
    web, db = snapshot.vm("web1").value, snapshot.vm("db1").value
    assert (web.state, web.home, web.metadata.node_limit, web.metadata.priority) == (
        VmState.RUNNING,
        "hv2",
        ("hv1", "hv2"),
        3,
    )
    assert (db.state, db.home, db.metadata.node_autostart) == (VmState.STOPPED, "hv1", True)
    hv1, hv2 = snapshot.nodes["hv1"], snapshot.nodes["hv2"]
    assert hv1.report is not None
    assert hv1.report.value.memory_available_mib == 4096 - 512
    assert (hv1.reserved.memory_mib, hv1.is_alive, hv1.record.value.labels) == (1536, True, {"rack": "a"})
    assert (hv2.is_alive, hv2.mode) == (False, NodeMode.FLUSHED)
    assert snapshot.settings.default_selector == "vms"
    assert snapshot.rules["pair"].value == a_rule("pair", "apart", "web1", "tag:front", hard=True)


def test_what_is_written_is_read_back_to_the_same_decisions() -> None:
    snapshot = a_cluster()
    again = read_snapshot(json.dumps(document_of(snapshot)))
    assert again.settings == snapshot.settings
    assert {name: rule.value for name, rule in again.rules.items()} == {
        name: rule.value for name, rule in snapshot.rules.items()
    }
    assert document_of(again) == document_of(snapshot)
    request = a_request("new", memory_mib=700)
    assert PLACER.place(request, again) == PLACER.place(request, snapshot)
    assert capacity_of(again, PLACER) == capacity_of(snapshot, PLACER)
    assert list(PLACER.capacities(again).values()) == list(PLACER.capacities(snapshot).values())


def test_a_vm_on_its_way_is_written_where_it_comes_from() -> None:
    moving = a_vm("web1", node="hv1", state="migrating", target="hv2")
    document = document_of(a_snapshot([a_node("hv1"), a_node("hv2")], [moving]))
    assert document["vms"]["web1"] == {"node": "hv1", "memory_mib": 512}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodes: {hv1: {memory: 1}}", "file: nodes.hv1: has no key 'memory'; is memory_mib meant?"),
        ("vms: {web: {node: hv1, memory_mib: 1, node_limits: []}}", "has no key 'node_limits'; is node_limit meant?"),
        ("settings: {memory_overcomit: 2}", "settings: has no key 'memory_overcomit'; is memory_overcommit meant?"),
        ("nods: {}", "file: has no key 'nods'; is nodes meant?"),
        ("nodes: {hv1: {cores: 2}}", "file: nodes.hv1: object missing required field `memory_mib`"),
        ("nodes: {hv1: {memory_mib: much}}", "file: nodes.hv1.memory_mib: expected `int`, got `str`"),
        ("vms: {web: {node: hv1, memory_mib: 1}}", "file: vms.web.node 'hv1': is no node of this file"),
        ("nodes: [", "file: is not YAML: "),
        ("just words", "file: must hold nodes and vms by name"),
        ("nodes: {hv1: {memory_mib: 1, power: maybe}}", "file: nodes.hv1.power: invalid enum value 'maybe'"),
        ("rules: [{name: x, kind: near}]", "file: rules[0].kind: invalid enum value 'near'"),
        ("rules: [{name: x, kind: apart, member: [a]}]", "file: rules[0]: has no key 'member'; is members meant?"),
        (
            "rules: [{name: x, kind: apart}, {name: x, kind: together}]",
            "file: rules[1].name 'x': is the name of another rule as well",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_snapshot(text, "file")
    assert sentence in refused.value.sentence()


def test_what_only_a_simulation_needs_is_kept_by_the_parser() -> None:
    file = parse_file(SCENARIO)
    assert file.vms["web1"].faults.starts_only_on == "hv1"
    assert file.nodes["hv1"].watchdog
    assert file.rules[0].members == ("web1", "tag:front")


def test_an_empty_file_section_is_an_empty_cluster() -> None:
    assert read_snapshot("nodes:\nvms:\n").nodes == {}


def test_the_maintenance_of_the_cluster_travels_with_it() -> None:
    pause = Pause(reason="new switch", left_s=90.0)
    paused = replace(a_cluster(), maintenance=stored("/maintenance", MaintenanceRecord(pause=pause)))
    again = read_snapshot(json.dumps(document_of(paused)))
    assert again.pause == pause
    assert read_snapshot(json.dumps(document_of(a_cluster()))).pause is None
    with pytest.raises(InvalidInput, match=r"maintenance.*has no key 'lefts'"):
        read_snapshot("nodes: {}\nmaintenance: {lefts: 3}")
