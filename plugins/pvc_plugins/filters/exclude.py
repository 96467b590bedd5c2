# SPDX-License-Identifier: Apache-2.0
"""exclude: a VM does not go where the request says it must not this time.

A node that is being flushed is no place for its own VMs, and a migration to where the VM is already is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, Settings


class Exclude:
    """Rejects the nodes that the request excludes."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        excluded = request.exclude
        if not excluded:
            return {}
        return {
            node.name: "is where the VM is now" if node.name == request.current_node else "is excluded this time"
            for node in nodes
            if node.name in excluded
        }


ENTRY = FilterEntry("exclude", "nodes that the request excludes", Exclude(), fail_closed=True)
