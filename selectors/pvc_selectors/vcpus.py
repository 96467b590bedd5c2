# SPDX-License-Identifier: Apache-2.0
"""vcpus: the node with the fewest assigned vCPUs per physical core wins.

Assigned, not running: the figure changes only when a VM comes or goes, so that it does not follow every peak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry


class Vcpus:
    """Scores by the negative number of vCPUs per core, so that the fewest are best."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: -node.assigned_vcpus / max(node.cores, 1) for node in candidates}


ENTRY = SelectorEntry("vcpus", "the fewest assigned vCPUs per core", Vcpus(), depends_on_node_only=True)
