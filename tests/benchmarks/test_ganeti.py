# SPDX-License-Identifier: Apache-2.0
"""The score our benchmarks compare by is the one that Ganeti's tools compute from the file that we write for them."""

from __future__ import annotations

import pytest

from benchmarks.ganeti import cluster_score, hbal, is_installed, text_of
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.testing.builders import a_node, a_snapshot, a_vm

needs_hbal = pytest.mark.skipif(not is_installed(), reason="hbal is not installed (Debian: ganeti-htools)")


def a_cluster() -> ClusterSnapshot:
    nodes = [
        a_node("hv1", memory_mib=16384, cores=8),
        a_node("hv2", memory_mib=32768, cores=16),
        a_node("hv3", memory_mib=16384, cores=4),
        a_node("hv4", memory_mib=16384, cores=4, mode="flushed"),
    ]
    vms = [a_vm(f"vm{n}", node="hv1" if n < 5 else "hv3", memory_mib=512 << (n % 3), vcpus=1 + n % 2) for n in range(9)]
    return a_snapshot(nodes, [*vms, a_vm("off", node="hv3", memory_mib=700, state="stopped")])


def test_the_file_has_a_line_per_node_and_vm_in_sections() -> None:
    groups, nodes, instances, policies = text_of(a_cluster()).split("\n\n")
    assert groups == "default|default|preferred||"
    assert nodes.splitlines()[0] == "hv1|16384|512|10752|1048576|1048576|8|M|default|1||N|0|0|1.0"
    assert [line.split("|")[7] for line in nodes.splitlines()] == ["M", "N", "N", "Y"]
    assert instances.splitlines()[0] == "off|700|0|1|running|Y|hv3||rbd||0|-"
    assert len(instances.splitlines()) == 10
    assert [line.split("|")[0] for line in policies.splitlines()] == ["", "", "default"], "no tags, two policies"


@needs_hbal
def test_our_score_is_the_one_that_hbal_prints_before_and_after_its_moves() -> None:
    snapshot = a_cluster()
    balanced = hbal(snapshot, "--ignore-dynu")
    assert balanced.moves
    assert cluster_score(snapshot) == pytest.approx(balanced.score_before, abs=1e-7)
    assert cluster_score(snapshot, balanced.places) == pytest.approx(balanced.score_after, abs=1e-7)


@needs_hbal
def test_a_cluster_that_hbal_leaves_alone_has_no_moves() -> None:
    balanced = hbal(a_snapshot([a_node("hv1"), a_node("hv2")], [a_vm("a", node="hv1"), a_vm("b", node="hv2")]))
    assert (balanced.moves, balanced.score_after) == ((), balanced.score_before)
