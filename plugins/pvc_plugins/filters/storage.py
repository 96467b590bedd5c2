# SPDX-License-Identifier: Apache-2.0
"""storage: a VM goes only where all of its volumes are in reach, and their storage can be used now.

What lies on a host's own storage is in reach there and nowhere else. Whether a backend is there and usable is what the
node's own daemon says; of one that it has not looked at yet the best is assumed, so that a restart stops nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, Settings
from pvc_core.plugin_types import StorageNeed


class Storage:
    """Rejects the nodes from which some volume of the VM is out of reach."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        if not request.storage:
            return {}
        reasons = {node.name: "; ".join(_why_not(need, node) for need in request.storage) for node in nodes}
        return {name: reason.strip("; ") for name, reason in reasons.items() if reason.strip("; ")}


def _why_not(need: StorageNeed, node: NodeCapacity) -> str:
    """Why such volumes cannot be used on this node; "" when they can."""
    if need.node not in ("", node.name):
        return f"its volumes on {need.backend} lie on {need.node}, out of reach from elsewhere"
    if need.backend not in node.storage:
        return f"it has no storage backend {need.backend}, on which the VM has volumes"
    problem = node.storage[need.backend]
    return f"its storage {need.backend} is not usable: {problem}" if problem else ""


ENTRY = FilterEntry("storage", "nodes from which the VM's volumes are out of reach", Storage(), fail_closed=True)
