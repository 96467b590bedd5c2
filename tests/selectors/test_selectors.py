# SPDX-License-Identifier: Apache-2.0
"""The built-in selectors: each passes the suite, spreads a flush, and means what the design's table says."""

from __future__ import annotations

import pytest

from pvc_core.placement import Placer
from pvc_core.registry import Registry
from pvc_core.testing.builders import a_capacity, a_node, a_request, a_snapshot, a_vm
from pvc_core.testing.selector_suite import SpreadingSelectorSuite


class TestMem(SpreadingSelectorSuite):
    name = "mem"

    def test_memory_that_something_else_uses_on_the_host_counts(self) -> None:
        scores = self.scores([a_capacity("hv1", memory_available_mib=1000), a_capacity("hv2")])
        assert scores["hv1"] < scores["hv2"]

    def test_what_is_assigned_and_does_not_run_yet_is_not_free(self) -> None:
        promised = a_capacity("hv1", assigned_mib=1024)
        running = a_capacity("hv2", assigned_mib=1024, running_mib=1024)
        assert self.scores([promised, running]) == {"hv1": 3072, "hv2": 4096}


class TestMemProv(SpreadingSelectorSuite):
    name = "memprov"

    def test_stopped_vms_count_as_much_as_running_ones(self) -> None:
        stopped = a_capacity("hv1", assigned_mib=2048)
        running = a_capacity("hv2", assigned_mib=1024, running_mib=1024, memory_available_mib=100)
        assert self.scores([stopped, running]) == {"hv1": 2048, "hv2": 3072}


class TestEven(SpreadingSelectorSuite):
    name = "even"

    def test_memory_and_vcpus_count_at_once(self) -> None:
        short_of_vcpus = a_capacity("hv1", assigned_vcpus=12)
        short_of_memory = a_capacity("hv2", assigned_mib=3000)
        balanced = a_capacity("hv3", assigned_mib=500, assigned_vcpus=2)
        scores = self.scores([short_of_vcpus, short_of_memory, balanced])
        assert max(scores, key=lambda node: scores[node]) == "hv3"

    def test_it_is_fractions_of_a_node_that_count(self) -> None:
        small, large = a_capacity("hv1"), a_capacity("hv2", memory_total_mib=65_536, cores=64)
        scores = self.scores([small, large])
        assert scores["hv2"] > scores["hv1"]

    def test_the_score_is_the_unevenness_that_is_left(self) -> None:
        nodes = [a_capacity("hv1", memory_total_mib=1024, cores=1), a_capacity("hv2", memory_total_mib=1024, cores=1)]
        # Half of the memory and one vCPU per core on one of two nodes: deviations of a quarter and of a half.
        assert self.scores(nodes) == {"hv1": -0.75, "hv2": -0.75}


class TestLoad(SpreadingSelectorSuite):
    name = "load"

    def test_it_is_the_load_per_core_that_counts(self) -> None:
        scores = self.scores([a_capacity("hv1", load_1m=4, cores=4), a_capacity("hv2", load_1m=8, cores=32)])
        assert scores["hv2"] > scores["hv1"]

    def test_a_vm_that_starts_is_load_before_the_load_average_shows_it(self) -> None:
        snapshot = a_snapshot([a_node("hv1"), a_node("hv2")], [a_vm("new1", node="hv1", vcpus=2, state="starting")])
        assert self.placer().place(a_request(node_selector="load"), snapshot).node == "hv2"

    def test_a_stopped_vm_is_no_load(self) -> None:
        nodes = [a_node("hv1"), a_node("hv2", load_1m=0.3)]
        snapshot = a_snapshot(nodes, [a_vm("old1", node="hv1", vcpus=2, state="stopped")])
        assert self.placer().place(a_request(node_selector="load"), snapshot).node == "hv1"

    def test_among_equal_loads_the_node_with_fewer_assigned_vcpus_wins(self) -> None:
        """Guests that idle do not show in the load; one after the other they would all go to one node."""
        nodes = [a_node("hv1", load_1m=0.02), a_node("hv2")]
        snapshot = a_snapshot(nodes, [a_vm("idle1", node="hv2", vcpus=2)])
        assert self.placer().place(a_request(node_selector="load"), snapshot).node == "hv1"


class TestVcpus(SpreadingSelectorSuite):
    name = "vcpus"

    def test_it_is_the_vcpus_per_core_that_count(self) -> None:
        scores = self.scores([a_capacity("hv1", assigned_vcpus=4), a_capacity("hv2", assigned_vcpus=8, cores=32)])
        assert scores == {"hv1": -1.0, "hv2": -0.25}


class TestVms(SpreadingSelectorSuite):
    name = "vms"

    def test_it_is_blind_to_sizes(self) -> None:
        large = a_capacity("hv1", assigned_vms=1, assigned_mib=4000)
        small = a_capacity("hv2", assigned_vms=2, assigned_mib=2)
        assert self.scores([large, small]) == {"hv1": -1, "hv2": -2}


@pytest.mark.parametrize(
    ("selector", "best"), [("mem", "hv1"), ("memprov", "hv2"), ("load", "hv3"), ("vcpus", "hv4"), ("vms", "hv5")]
)
def test_on_one_cluster_each_selector_names_another_node(selector: str, best: str) -> None:
    nodes = [
        a_node("hv1", memory_mib=16384, available_mib=15000, load_1m=3, cores=8),
        a_node("hv2", memory_mib=16384, available_mib=6000, load_1m=3, cores=8),
        a_node("hv3", memory_mib=8192, available_mib=4000, load_1m=1, cores=8),
        a_node("hv4", memory_mib=8192, available_mib=4000, load_1m=9, cores=32),
        a_node("hv5", memory_mib=8192, available_mib=4000, load_1m=9, cores=8),
    ]
    vms = [a_vm(f"a{n}", node="hv1", memory_mib=2000, vcpus=2) for n in range(4)]
    vms += [a_vm(f"b{n}", node="hv2", memory_mib=1500, vcpus=2) for n in range(3)]
    vms += [a_vm(f"c{n}", node="hv3", memory_mib=1000, vcpus=2) for n in range(3)]
    vms += [a_vm(f"d{n}", node="hv4", memory_mib=1000, vcpus=2) for n in range(3)]
    vms += [a_vm(f"e{n}", node="hv5", memory_mib=1000, vcpus=4) for n in range(2)]
    decision = Placer(Registry.load()).place(a_request(node_selector=selector), a_snapshot(nodes, vms))
    assert decision.node == best, decision.ranking
