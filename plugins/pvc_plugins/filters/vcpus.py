# SPDX-License-Identifier: Apache-2.0
"""vcpus: where the cluster limits overcommitment, a VM goes only where its vCPUs fit beside all that are assigned.

A node gives VMs (cores times the overcommit ratio) vCPUs. Without a ratio, which is the default, any number goes:
vCPUs share cores as processes do, and a busy node is a matter for selectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, Settings


class Vcpus:
    """Rejects the nodes that have fewer vCPUs left than the VM needs."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        ratio, needed = settings.vcpu_overcommit, request.vcpus
        if not ratio:
            return {}
        return {
            node.name: _reason(needed, node, ratio)
            for node in nodes
            if int(node.cores * ratio) - node.assigned_vcpus < needed
        }


def _reason(needed: int, node: NodeCapacity, ratio: float) -> str:
    most = int(node.cores * ratio)
    free = max(most - node.assigned_vcpus, 0)
    vcpus = "vCPU" if needed == 1 else "vCPUs"
    return f"needs {needed} {vcpus}, {free} of {most} are free ({node.cores} cores, overcommit {ratio:g})"


ENTRY = FilterEntry("vcpus", "nodes whose vCPUs the VM would overcommit too far", Vcpus(), fail_closed=True)
