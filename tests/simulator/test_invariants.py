# SPDX-License-Identifier: Apache-2.0
"""Every invariant, broken on purpose, is reported; what is allowed is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import structlog

from pvc_core import layout
from pvc_core.codec import encode
from pvc_core.events import Event, EventKind
from pvc_core.model import VmRecord, VmState
from pvc_core.ports import Create, Delete, DomainState, Op, Set
from pvc_core.snapshot_file import parse_file
from pvc_simulator.cluster import SimulatedCluster
from pvc_simulator.invariants import Invariants
from pvc_simulator.run import Run
from pvc_simulator.script import read_script

FILE = parse_file("""
nodes:
  hv1: {memory_mib: 16384}
  hv2: {memory_mib: 16384}
  hv3: {memory_mib: 4096}
vms:
  web1: {node: hv1, memory_mib: 8192, node_limit: [hv1, hv2]}
  web2: {node: hv2, memory_mib: 1024}
  db1: {node: hv1, memory_mib: 1024, state: stopped}
rules:
  - {name: webs, kind: apart, members: [web1, web2], hard: true}
""")


class Stage:
    """A cluster at its first moment, in which a test writes and starts what nobody should."""

    def __init__(self) -> None:
        self.cluster = SimulatedCluster(FILE)
        self.invariants = Invariants(self.cluster.machines, self.cluster.observer)
        self.cluster.begin()
        assert self.reported() == []

    def record(self, vm: str) -> VmRecord:
        return next(record for record in self.cluster.observer.records.vms.values() if record.name == vm)

    def write(self, vm: str, *events: EventKind, **fields: Any) -> None:
        """Change fields of the VM's record, with these events of it."""
        record = self.record(vm)
        key = layout.vm(record.uuid)
        self.commit(
            Set(key, encode(msgspec.structs.replace(record, **fields)), self.version(key)),
            *(_event(kind, record) for kind in events),
        )

    def drop(self, key: str, *ops: Op) -> None:
        self.commit(Delete(key, self.version(key)), *ops)

    def commit(self, *ops: Op) -> None:
        self.cluster.server.commit(ops, "")

    def version(self, key: str) -> int:
        found = self.cluster.server.tree.stamped(key)
        assert found is not None
        return found.entry.version

    def starts(self, vm: str, node: str, state: DomainState = DomainState.RUNNING) -> None:
        """A domain of the VM, which runs somewhere, begins to run on this node, too."""
        record = self.record(vm)
        domain = self.cluster.machines[record.node].domains[record.uuid]
        self.cluster.machines[node].put(replace(domain, state=state))

    def ends(self, vm: str) -> None:
        record = self.record(vm)
        del self.cluster.machines[record.node].domains[record.uuid]

    def reported(self) -> list[str]:
        return [broken.invariant for broken in self.invariants.broken]


def _event(kind: EventKind, record: VmRecord) -> Create:
    event = Event(id=f"0-{kind}", at="2030-01-01T00:00:00Z", kind=kind, vm=record.name, uuid=record.uuid)
    return Create(layout.event(event.id), encode(event))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_vm_that_begins_to_run_on_a_second_host_is_reported(stage: Stage) -> None:
    stage.starts("web1", "hv2")
    assert stage.reported() == ["runs once"]
    assert "hv1" in stage.invariants.broken[0].what
    assert "hv2" in stage.invariants.broken[0].what


def test_a_copy_that_is_arriving_does_not_run(stage: Stage) -> None:
    stage.starts("web1", "hv2", DomainState.PAUSED)
    assert stage.reported() == []


def test_a_copy_that_arrives_while_the_original_runs_on_is_reported(stage: Stage) -> None:
    stage.starts("web1", "hv2", DomainState.PAUSED)
    machine = stage.cluster.machines["hv2"]
    machine.arrive(machine.domains[stage.record("web1").uuid])
    assert stage.reported() == ["runs once"]


def test_a_vm_that_is_recovered_from_a_host_that_still_runs_it_is_reported(stage: Stage) -> None:
    stage.write("web2", EventKind.VM_RECOVERING, node="hv3")
    assert stage.reported() == ["recovered from what is off"]


def test_a_vm_that_is_recovered_from_a_host_that_is_off_is_not(stage: Stage) -> None:
    stage.ends("web1")
    stage.ends("web2")
    stage.write("web1", EventKind.VM_STOPPED, state=VmState.STOPPED)
    stage.write("web2", EventKind.VM_RECOVERING, node="hv1")
    assert stage.reported() == []


@pytest.mark.parametrize("field", ["node", "target"])
def test_a_vm_that_is_given_to_a_node_outside_its_limit_is_reported(stage: Stage, field: str) -> None:
    stage.write("web1", EventKind.VM_CHANGED, memory_mib=512)
    stage.ends("web1")
    stage.write("web1", **{field: "hv3"})
    assert stage.reported() == ["limits hold"]


def test_a_vm_that_is_given_to_a_node_without_room_is_reported(stage: Stage) -> None:
    stage.write("db1", EventKind.VM_CHANGED, memory_mib=4096)
    assert stage.reported() == []
    stage.write("db1", node="hv3")
    assert stage.reported() == ["memory fits"]


def test_a_migration_to_a_node_whose_memory_is_taken_is_reported(stage: Stage) -> None:
    stage.write("db1", EventKind.VM_CHANGED, memory_mib=16000)
    stage.write("web2", target="hv1")
    assert stage.reported() == ["memory fits", "rules hold"]


def test_two_vms_that_are_to_stay_apart_are_reported_when_one_is_sent_to_the_other(stage: Stage) -> None:
    stage.write("web2", target="hv1")
    assert stage.reported() == ["rules hold"]


def test_a_record_that_is_gone_is_reported_unless_somebody_undefined_the_vm() -> None:
    for event, reported in ((None, ["nothing is lost"]), (EventKind.VM_UNDEFINED, [])):
        stage = Stage()
        record = stage.record("db1")
        stage.drop(layout.vm(record.uuid), *([_event(event, record)] if event else []))
        assert stage.reported() == reported


def test_metadata_that_changes_is_reported_unless_somebody_changed_it() -> None:
    for event, reported in ((None, ["nothing is lost"]), (EventKind.VM_STARTED, ["nothing is lost"])):
        stage = Stage()
        changed = msgspec.structs.replace(stage.record("db1").metadata, priority=7)
        stage.write("db1", *([event] if event else []), metadata=changed)
        assert stage.reported() == reported
    stage = Stage()
    stage.write("db1", EventKind.VM_CHANGED, metadata=msgspec.structs.replace(stage.record("db1").metadata, priority=7))
    assert stage.reported() == []


def test_a_definition_that_is_gone_is_reported_in_the_end(stage: Stage) -> None:
    stage.drop(layout.definition(stage.record("db1").uuid))
    stage.invariants.check_rest()
    assert stage.reported() == ["nothing is lost"]


def test_a_cluster_at_rest_as_its_records_say_is_not_reported(stage: Stage) -> None:
    stage.invariants.check_rest()
    assert stage.reported() == []


def test_a_vm_that_is_to_run_and_does_not_is_reported_in_the_end_unless_it_is_excused(stage: Stage) -> None:
    stage.ends("web1")
    stage.invariants.check_rest(frozenset({"web1"}))
    assert stage.reported() == []
    stage.invariants.check_rest()
    assert stage.reported() == ["what is to run runs"]


@pytest.mark.parametrize(
    ("vm", "fields", "said"),
    [
        ("web2", {"state": VmState.STOPPED}, "is stopped and runs on hv2"),
        ("web2", {"state": VmState.STOPPED, "held": True}, "is held"),
        ("web2", {"state": VmState.STARTING}, "is still starting"),
        ("db1", {"state": VmState.RUNNING}, "is to run on hv1 and runs on none"),
    ],
    ids=["off and runs", "held", "on its way", "runs nowhere"],
)
def test_a_vm_that_is_not_as_its_record_says_is_reported_in_the_end(
    stage: Stage, vm: str, fields: dict[str, Any], said: str
) -> None:
    stage.write(vm, **fields)
    stage.invariants.check_rest()
    assert [broken.what for broken in stage.invariants.broken] == [f"{vm} {said}; {stage.record(vm).reason}"]


def test_a_thread_that_dies_and_an_exception_that_is_only_logged_fail_a_run() -> None:
    run = Run(FILE, read_script("- {at: 60, do: end}", FILE))

    def dies() -> None:
        raise KeyError("nobody foresaw this")

    def logs() -> None:
        try:
            dies()
        except KeyError:
            structlog.get_logger().exception("went_on")

    def begin() -> None:
        process = run.cluster.programs["hv1"].process
        process.spawn("dies", dies)
        process.spawn("logs", logs)

    run.cluster.scheduler.at(30, begin)
    broken = run.play().broken
    assert [each.invariant for each in broken] == ["daemons go on", "daemons go on"]
    assert "went_on" in broken[0].what
    assert "hv1/pvc-node: dies ended with KeyError" in broken[1].what


def test_daemons_that_go_round_in_circles_fail_a_run() -> None:
    run = Run(FILE, read_script("- {at: 60, do: end}", FILE))

    def circles() -> None:
        while True:
            run.cluster.scheduler.wait(0.0)

    run.cluster.scheduler.at(30, lambda: _ignore(run.cluster.programs["hv2"].process.spawn("circles", circles)))
    assert [each.invariant for each in run.play().broken] == ["daemons go on"]


def _ignore(_value: object) -> None:
    """So that an action returns nothing."""
