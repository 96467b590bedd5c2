# SPDX-License-Identifier: Apache-2.0
"""memprov: the node with the most memory left after all VMs assigned to it, running or not, wins.

It looks at what was promised, not at what is used now: for clusters whose stopped VMs must all be able to start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry


class MemProv:
    """Scores by unassigned memory in MiB."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: float(node.memory_total_mib - node.assigned_mib) for node in candidates}


ENTRY = SelectorEntry("memprov", "the most memory left after all assigned VMs", MemProv(), depends_on_node_only=True)
