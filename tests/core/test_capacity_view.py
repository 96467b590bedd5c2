# SPDX-License-Identifier: Apache-2.0
"""What a node's ledger and report say together about its room, and that it is not summed twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pvc_core.capacity_view import CapacityView
from pvc_core.model import DomainReport, VmState
from pvc_core.plugin_types import NodeCapacity
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm, uuid_of


def capacity_of(node: str, snapshot: ClusterSnapshot) -> NodeCapacity:
    return CapacityView().of(snapshot)[node]


def test_running_and_stopped_vms_are_assigned_and_only_running_ones_run() -> None:
    vms = [a_vm("on", memory_mib=1000, vcpus=2), a_vm("off", memory_mib=500, vcpus=1, state="stopped")]
    hv1 = capacity_of("hv1", a_snapshot([a_node("hv1")], vms))
    assert (hv1.assigned_mib, hv1.running_mib, hv1.assigned_vcpus, hv1.assigned_vms) == (1500, 1000, 3, 2)
    assert hv1.memory_available_mib == 3096
    assert hv1.free_mib == 2596


@pytest.mark.parametrize(
    ("domain", "running_mib", "coming_vcpus"), [(None, 0, 2), ("paused", 0, 2), ("running", 1000, 0)]
)
def test_an_arriving_vm_runs_here_once_it_has_switched_over(
    domain: str | None, running_mib: int, coming_vcpus: int
) -> None:
    vm = a_vm("web1", node="hv1", memory_mib=1000, vcpus=2, state=VmState.MIGRATING, target="hv2")
    domains = {uuid_of("web1"): DomainReport(state=domain)} if domain else {}
    hv2 = capacity_of("hv2", a_snapshot([a_node("hv1"), a_node("hv2", domains=domains)], [vm]))
    assert (hv2.assigned_mib, hv2.running_mib, hv2.coming_vcpus) == (1000, running_mib, coming_vcpus)


def test_domains_that_pvc_does_not_own_count_as_memory_that_is_not_available() -> None:
    snapshot = a_snapshot([a_node("hv1", available_mib=1000, domains={uuid_of("x"): DomainReport(state="running")})])
    hv1 = capacity_of("hv1", snapshot)
    assert (hv1.assigned_mib, hv1.running_mib, hv1.free_mib) == (0, 0, 1000)


def test_a_node_that_never_reported_has_room_for_nothing() -> None:
    hv1 = capacity_of("hv1", a_snapshot([a_node("hv1", reported=False)], [a_vm("web1")]))
    assert (hv1.memory_total_mib, hv1.cores, hv1.report_age_s, hv1.hypervisor_connected) == (0, 0, None, False)
    assert hv1.assigned_mib == 512


def test_labels_are_shown_and_cannot_be_changed() -> None:
    snapshot = a_snapshot([a_node("hv1", labels={"rack": "a"})])
    labels = capacity_of("hv1", snapshot).labels
    assert dict(labels) == {"rack": "a"}
    with pytest.raises(TypeError):
        labels["rack"] = "b"  # type: ignore[index]


def test_the_same_snapshot_is_computed_once() -> None:
    view, snapshot = CapacityView(), a_snapshot([a_node("hv1")], [a_vm("web1")])
    assert view.of(snapshot) is view.of(snapshot)


def test_a_growing_report_age_shows_although_the_report_is_the_same() -> None:
    view, snapshot = CapacityView(), a_snapshot([a_node("hv1")])
    assert view.of(snapshot)["hv1"].report_age_s == 0
    later = replace(snapshot, nodes={"hv1": replace(snapshot.nodes["hv1"], report_age_s=31.0)})
    assert view.of(later)["hv1"].report_age_s == 31


def test_a_vm_that_is_told_to_start_is_coming_although_ledger_and_report_are_the_same() -> None:
    view, vm = CapacityView(), a_vm("web1", vcpus=4, state="stopped")
    stopped = a_snapshot([a_node("hv1")], [vm])
    assert view.of(stopped)["hv1"].coming_vcpus == 0
    starting = replace(stopped, vms=a_snapshot([], [a_vm("web1", vcpus=4, state="starting")]).vms)
    assert view.of(starting)["hv1"].coming_vcpus == 4


def test_nodes_that_are_gone_are_forgotten() -> None:
    view = CapacityView()
    view.of(a_snapshot([a_node("hv1"), a_node("hv2")]))
    assert list(view.of(a_snapshot([a_node("hv2")]))) == ["hv2"]


def test_a_node_that_is_the_same_is_not_described_again_unless_a_vm_is_about_to_run_there() -> None:
    """Neither its record nor its ledger or report say that a VM which was off is to start now."""
    view, off = CapacityView(), a_vm("web1", vcpus=2, state="stopped")
    before = a_snapshot([a_node("hv1"), a_node("hv2")], [off])
    first = view.of(before)
    starting = replace(
        before, vms={off.uuid: replace(before.vms[off.uuid], value=a_vm("web1", vcpus=2, state="starting"))}
    )
    second = view.of(starting)
    assert (first["hv1"].coming_vcpus, second["hv1"].coming_vcpus) == (0, 2)
    assert second["hv2"] is first["hv2"]
    assert view.of(replace(starting))["hv1"] is second["hv1"]
