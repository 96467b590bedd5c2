# SPDX-License-Identifier: Apache-2.0
"""The built-in filters, each on its own: whom it rejects and the sentence it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pvc_core.capacity_view import CapacityView
from pvc_core.model import NodeMode, Settings
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, StorageNeed
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot, a_vm, a_volume
from pvc_core.testing.filter_suite import FilterSuite

FILTERS = Registry.load().filters


def rejected(
    name: str, request: PlacementRequest, *nodes: NodeCapacity, settings: Settings | None = None
) -> dict[str, str]:
    return dict(FILTERS[name].filter.reject(request, nodes, settings or Settings()))


HV1, HV2, HV3 = (a_capacity(name) for name in ("hv1", "hv2", "hv3"))


class TestLimit(FilterSuite):
    name = "limit"

    def test_nodes_outside_the_limit_are_rejected(self) -> None:
        request = a_request(node_limit=("hv2", "hv3"))
        assert rejected("limit", request, HV1, HV2, HV3) == {"hv1": "outside the VM's limit (hv2, hv3)"}

    def test_an_empty_limit_means_any_node(self) -> None:
        assert rejected("limit", a_request(node_limit=()), HV1, HV2) == {}

    def test_a_limit_that_names_no_existing_node_leaves_none(self) -> None:
        assert set(rejected("limit", a_request(node_limit=("gone",)), HV1, HV2)) == {"hv1", "hv2"}

    def test_a_name_that_is_part_of_another_is_not_that_node(self) -> None:
        assert set(rejected("limit", a_request(node_limit=("hv10",)), HV1, a_capacity("hv10"))) == {"hv1"}

    def test_a_long_limit_does_not_make_a_long_sentence(self) -> None:
        reason = rejected("limit", a_request(node_limit=[f"n{n:02}" for n in range(40)]), HV1)["hv1"]
        assert reason == "outside the VM's limit (n00, n01, n02, n03, n04 and 35 more)"


class TestReady(FilterSuite):
    name = "ready"

    def test_a_node_in_service_that_is_well_passes(self) -> None:
        assert rejected("ready", a_request(), HV1) == {}

    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            ({"mode": NodeMode.FLUSHING}, "is being flushed"),
            ({"mode": NodeMode.FLUSHED}, "is flushed"),
            ({"mode": NodeMode.UNFLUSHING}, "is still coming back into service"),
            ({"mode": NodeMode.FLUSHED, "fenced": True}, "is fenced"),
            ({"fenced": True}, "is fenced"),
            ({"maintenance": True}, "is in maintenance"),
            ({"left": True, "alive": False}, "its daemon was stopped"),
            ({"alive": False}, "its daemon's session is lost"),
            ({"report_age_s": None}, "has never reported"),
            ({"report_age_s": 45.4}, "its last report is 45 s old, more than 30 s"),
            ({"hypervisor_connected": False}, "its hypervisor does not answer"),
            ({"problem": "its ledger does not parse"}, "its ledger does not parse"),
        ],
    )
    def test_a_node_out_of_service_or_unwell_is_rejected_with_the_cause(
        self, facts: dict[str, Any], reason: str
    ) -> None:
        assert rejected("ready", a_request(), a_capacity("hv1", **facts)) == {"hv1": reason}

    def test_a_report_is_fresh_up_to_the_setting(self) -> None:
        nodes = (a_capacity("hv1", report_age_s=10.0), a_capacity("hv2", report_age_s=10.1))
        assert set(rejected("ready", a_request(), *nodes, settings=Settings(report_stale_s=10))) == {"hv2"}

    def test_a_node_that_comes_back_takes_the_vms_that_return_to_it(self) -> None:
        coming_back = a_capacity("hv1", mode=NodeMode.UNFLUSHING)
        assert rejected("ready", a_request(accept_unflushing=True), coming_back) == {}

    def test_a_node_that_comes_back_but_is_lost_takes_nobody(self) -> None:
        coming_back = a_capacity("hv1", mode=NodeMode.UNFLUSHING, alive=False)
        assert "session" in rejected("ready", a_request(accept_unflushing=True), coming_back)["hv1"]


class TestMemory(FilterSuite):
    name = "memory"

    def test_the_size_is_compared_with_what_is_left_and_not_with_the_total(self) -> None:
        node = a_capacity("hv1", assigned_mib=2384, memory_available_mib=4000)
        reason = "needs 3000 MiB, 1200 MiB are free of 4096 (512 in reserve)"
        assert rejected("memory", a_request(memory_mib=3000), node) == {"hv1": reason}

    def test_a_vm_that_fits_exactly_fits(self) -> None:
        node = a_capacity("hv1", assigned_mib=2384)
        assert rejected("memory", a_request(memory_mib=1200), node) == {}
        assert set(rejected("memory", a_request(memory_mib=1201), node)) == {"hv1"}

    def test_stopped_vms_count_so_that_all_can_run_at_once(self) -> None:
        node = a_capacity("hv1", assigned_mib=3584, running_mib=0)
        assert "0 MiB are free" in rejected("memory", a_request(memory_mib=1), node)["hv1"]

    def test_the_overcommit_ratio_stretches_what_is_left_of_the_total(self) -> None:
        node, twice = a_capacity("hv1", assigned_mib=4096), Settings(memory_overcommit=2.0)
        assert rejected("memory", a_request(memory_mib=3072), node, settings=twice) == {}
        reason = rejected("memory", a_request(memory_mib=3073), node, settings=twice)["hv1"]
        assert reason == "needs 3073 MiB, 3072 MiB are free of 4096 (512 in reserve, overcommit 2)"

    def test_an_overfull_node_has_nothing_free_rather_than_less(self) -> None:
        node = a_capacity("hv1", assigned_mib=9999)
        assert "needs 512 MiB, 0 MiB are free" in rejected("memory", a_request(), node)["hv1"]


class TestVcpus(FilterSuite):
    name = "vcpus"

    def test_without_a_ratio_any_number_of_vcpus_goes(self) -> None:
        assert rejected("vcpus", a_request(vcpus=64), a_capacity("hv1", cores=1, assigned_vcpus=99)) == {}

    def test_a_node_takes_vms_up_to_cores_times_the_ratio(self) -> None:
        node, settings = a_capacity("hv1", cores=3, assigned_vcpus=3), Settings(vcpu_overcommit=1.5)
        assert rejected("vcpus", a_request(vcpus=1), node, settings=settings) == {}
        reason = "needs 2 vCPUs, 1 of 4 are free (3 cores, overcommit 1.5)"
        assert rejected("vcpus", a_request(vcpus=2), node, settings=settings) == {"hv1": reason}

    def test_a_node_that_holds_too_many_has_none_free(self) -> None:
        node = a_capacity("hv1", cores=2, assigned_vcpus=5)
        reason = rejected("vcpus", a_request(vcpus=1), node, settings=Settings(vcpu_overcommit=1))["hv1"]
        assert reason == "needs 1 vCPU, 0 of 2 are free (2 cores, overcommit 1)"


class TestExclude(FilterSuite):
    name = "exclude"

    def test_an_excluded_node_is_rejected(self) -> None:
        request = a_request(exclude=frozenset({"hv2"}))
        assert rejected("exclude", request, HV1, HV2) == {"hv2": "is excluded this time"}

    def test_a_vm_does_not_move_to_where_it_is(self) -> None:
        request = a_request(exclude=frozenset({"hv1"}), current_node="hv1")
        assert rejected("exclude", request, HV1, HV2) == {"hv1": "is where the VM is now"}

    def test_the_current_node_is_a_place_like_any_other_unless_excluded(self) -> None:
        assert rejected("exclude", a_request(current_node="hv1"), HV1) == {}


def test_the_built_in_filters_fail_closed() -> None:
    assert {name: entry.fail_closed for name, entry in FILTERS.items() if entry.plugin == "filters"} == {
        "exclude": True,
        "limit": True,
        "memory": True,
        "ready": True,
        "rules": True,
        "storage": True,
        "vcpus": True,
    }


CEPH, LOCAL = StorageNeed("ceph", ""), StorageNeed("directory", "hv1")


def with_storage(name: str, **backends: str) -> NodeCapacity:
    """A node that has these backends, with why each is not usable."""
    return a_capacity(name, storage=backends)


class TestStorage(FilterSuite):
    name = "storage"

    def test_a_vm_without_volumes_goes_anywhere(self) -> None:
        assert rejected("storage", a_request(), HV1, with_storage("hv2", ceph="no quorum")) == {}

    def test_a_node_that_reaches_the_volumes_passes(self) -> None:
        nodes = [with_storage("hv1", ceph="", directory=""), with_storage("hv2", ceph="", directory="")]
        assert rejected("storage", a_request(storage=(CEPH,)), *nodes) == {}
        assert set(rejected("storage", a_request(storage=(CEPH, LOCAL)), *nodes)) == {"hv2"}

    @pytest.mark.parametrize(
        ("needs", "node", "reason"),
        [
            ((LOCAL,), {"directory": ""}, "its volumes on directory lie on hv1, out of reach from elsewhere"),
            ((CEPH,), {}, "it has no storage backend ceph, on which the VM has volumes"),
            ((CEPH,), {"ceph": "no quorum"}, "its storage ceph is not usable: no quorum"),
            (
                (CEPH, LOCAL),
                {"ceph": "no quorum"},
                "its storage ceph is not usable: no quorum; "
                "its volumes on directory lie on hv1, out of reach from elsewhere",
            ),
        ],
    )
    def test_a_node_that_does_not_is_rejected_with_what_keeps_it(
        self, needs: tuple[StorageNeed, ...], node: dict[str, str], reason: str
    ) -> None:
        assert rejected("storage", a_request(storage=needs), with_storage("hv2", **node)) == {"hv2": reason}

    def test_a_volume_that_is_leaving_binds_its_vm_no_more(self) -> None:
        leaving = a_vm("web1", volumes=(a_volume("vda", "directory", "hv1", leaving=True),))
        assert rejected("storage", a_request(leaving), HV2) == {}

    def test_of_a_backend_that_a_daemon_has_not_looked_at_yet_the_best_is_assumed(self) -> None:
        node = a_node("hv1", storage={"ceph": ""})
        assert node.report is not None
        silent = replace(
            node, report=replace(node.report, value=msgspec.structs.replace(node.report.value, storage={}))
        )
        capacity = CapacityView().of(a_snapshot([silent]))["hv1"]
        assert capacity.storage == {"ceph": ""}
        assert rejected("storage", a_request(storage=(CEPH,)), capacity) == {}
