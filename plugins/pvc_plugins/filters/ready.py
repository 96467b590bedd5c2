# SPDX-License-Identifier: Apache-2.0
"""ready: only a node that is in service and known to be well takes VMs.

In service: its mode is ready, and it is not fenced, in maintenance or left by its daemon. Known to be well: its
daemon's session lives, its last report is fresh and its hypervisor answers. The first thing found is the reason,
the causes before their symptoms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, NodeMode, PlacementRequest, Settings

MODE_REASONS = {
    NodeMode.FLUSHING: "is being flushed",
    NodeMode.FLUSHED: "is flushed",
    NodeMode.UNFLUSHING: "is still coming back into service",
}


class Ready:
    """Rejects the nodes that are out of service or not known to be well."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        reasons = {node.name: _why_not(node, request.accept_unflushing, settings.report_stale_s) for node in nodes}
        return {name: reason for name, reason in reasons.items() if reason}


def _why_not(node: NodeCapacity, accept_unflushing: bool, report_stale_s: float) -> str:
    """Why this node takes no VM now; "" when it does."""
    age_s = node.report_age_s
    in_service = node.mode is NodeMode.READY or (accept_unflushing and node.mode is NodeMode.UNFLUSHING)
    if (
        in_service
        and not (node.fenced or node.maintenance or node.left or node.problem)
        and (node.alive and node.hypervisor_connected and age_s is not None and age_s <= report_stale_s)
    ):
        return ""
    defects = (
        (node.fenced, "is fenced"),
        (node.maintenance, "is in maintenance"),
        (not in_service, MODE_REASONS.get(node.mode, "")),
        (node.left, "its daemon was stopped"),
        (not node.alive, "its daemon's session is lost"),
        (age_s is None, "has never reported"),
        ((age_s or 0) > report_stale_s, f"its last report is {age_s or 0:.0f} s old, more than {report_stale_s:g} s"),
        (not node.hypervisor_connected, "its hypervisor does not answer"),
        (bool(node.problem), node.problem),
    )
    return next(reason for applies, reason in defects if applies)


ENTRY = FilterEntry("ready", "nodes that are out of service or not known to be well", Ready(), fail_closed=True)
