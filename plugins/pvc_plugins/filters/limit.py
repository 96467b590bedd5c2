# SPDX-License-Identifier: Apache-2.0
"""limit: a VM with a node limit goes to no other node, whatever else speaks for it; an empty limit means any node.

A limit names nodes, and labels for all nodes that have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, Settings
from pvc_core.limits import is_within

NAMED_IN_A_REASON = 5


class Limit:
    """Rejects the nodes outside `node_limit`."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        limit = frozenset(request.metadata.node_limit)
        if not limit:
            return {}
        reason = f"outside the VM's limit ({_listed(sorted(limit))})"
        return {node.name: reason for node in nodes if not is_within(limit, node.name, node.labels)}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_IN_A_REASON
    return ", ".join(names[:NAMED_IN_A_REASON]) + (f" and {more} more" if more > 0 else "")


ENTRY = FilterEntry("limit", "the nodes outside the VM's node limit", Limit(), fail_closed=True)
