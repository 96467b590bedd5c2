# SPDX-License-Identifier: Apache-2.0
"""mem: the node with the most free memory wins.

Free is what the host reports as available, less what is assigned to it and does not run yet. So memory that
something else uses on the host counts, and memory that guests have but never touched is there to be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry


class Mem:
    """Scores by free memory in MiB."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: float(node.free_mib) for node in candidates}


ENTRY = SelectorEntry("mem", "the most free memory", Mem(), depends_on_node_only=True)
