# SPDX-License-Identifier: Apache-2.0
"""The nodes of an embedded cluster have volumes in a folder that all of them reach."""

from __future__ import annotations

from collections.abc import Callable

from operators import Operator
from pvc_core.snapshot import ClusterSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster


def test_the_nodes_of_an_embedded_cluster_share_a_pool_of_volumes(
    cluster: EmbeddedCluster, operator: Operator, require: Callable[[str], None]
) -> None:
    require("qemu-img")

    def all_share(snapshot: ClusterSnapshot) -> bool:
        reports = [snapshot.node(node).report for node in cluster.nodes]
        found = [report.value.storage.get("directory") for report in reports if report]
        return [each.usable and each.shared for each in found if each] == [True] * len(cluster.nodes)

    operator.wait(all_share, "every node to report that its folder can be used and is shared")
