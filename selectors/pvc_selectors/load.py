# SPDX-License-Identifier: Apache-2.0
"""load: the node with the lowest 1-minute load per physical core wins.

The load average is a minute late: it knows nothing of VMs that are arriving, starting or planned in this very
batch. Each of their vCPUs is counted as one of load, or a flush would send every VM to the node that was the
idlest when it began. Among nodes of practically equal load the one with fewer assigned vCPUs per core wins: guests
that idle do not show in the load at all, and would all go to one node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry

ASSIGNED_WEIGHT = 1e-6
"""Of an assigned vCPU against one of load: too little to outweigh any load that can be measured."""


class Load:
    """Scores by the negative load per core, so that the lowest load is best."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: -self._load(node) / max(node.cores, 1) for node in candidates}

    @staticmethod
    def _load(node: NodeCapacity) -> float:
        return round(node.load_1m + node.coming_vcpus, 1) + node.assigned_vcpus * ASSIGNED_WEIGHT


ENTRY = SelectorEntry("load", "the lowest 1-minute load per core", Load(), depends_on_node_only=True)
