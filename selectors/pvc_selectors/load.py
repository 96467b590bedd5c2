# SPDX-License-Identifier: Apache-2.0
"""load: the node with the lowest 1-minute load per physical core wins.

The load average is a minute late: it knows nothing of VMs that are arriving, starting or planned in this very
batch. Each of their vCPUs is counted as one of load, or a flush would send every VM to the node that was the
idlest when it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry


class Load:
    """Scores by the negative load per core, so that the lowest load is best."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: -(node.load_1m + node.coming_vcpus) / max(node.cores, 1) for node in candidates}


ENTRY = SelectorEntry("load", "the lowest 1-minute load per core", Load())
