# SPDX-License-Identifier: Apache-2.0
"""rules: a VM goes to no node that a hard rule of the cluster forbids.

The core has looked at where the other members are and are going to; here its verdict becomes rejections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, Settings


class Rules:
    """Rejects the nodes that hard rules forbid."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        return request.rules.rejected


ENTRY = FilterEntry("rules", "nodes that a hard rule of the cluster forbids", Rules(), fail_closed=True)
