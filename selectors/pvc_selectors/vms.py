# SPDX-License-Identifier: Apache-2.0
"""vms: the node with the fewest assigned VMs wins.

Blind to sizes on purpose: it bounds how many guests one lost node takes with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry


class Vms:
    """Scores by the negative number of VMs, so that the fewest are best."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: -float(node.assigned_vms) for node in candidates}


ENTRY = SelectorEntry("vms", "the fewest assigned VMs", Vms(), depends_on_node_only=True)
