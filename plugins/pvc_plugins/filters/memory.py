# SPDX-License-Identifier: Apache-2.0
"""memory: a VM goes only where its memory fits beside everything that is assigned already, running or not.

A node gives VMs (total - reserve) times the overcommit ratio. What counts is the ledger and not what guests use
now, so that a node can always run all the VMs it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvc_core import FilterEntry, NodeCapacity, PlacementRequest, Settings


class Memory:
    """Rejects the nodes that have less memory left than the VM needs."""

    def reject(self, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings) -> Mapping[str, str]:
        reserve_mib, overcommit, needed_mib = (
            settings.memory_reserve_mib,
            settings.memory_overcommit,
            request.memory_mib,
        )
        rejected = {}
        for node in nodes:
            free_mib = int((node.memory_total_mib - reserve_mib) * overcommit) - node.assigned_mib
            if free_mib < needed_mib:
                rejected[node.name] = _reason(needed_mib, max(free_mib, 0), node.memory_total_mib, settings)
        return rejected


def _reason(needed_mib: int, free_mib: int, total_mib: int, settings: Settings) -> str:
    overcommit = f", overcommit {settings.memory_overcommit:g}" if settings.memory_overcommit != 1 else ""
    return (
        f"needs {needed_mib} MiB, {free_mib} MiB are free of {total_mib} "
        f"({settings.memory_reserve_mib} in reserve{overcommit})"
    )


ENTRY = FilterEntry("memory", "nodes in whose memory the VM does not fit", Memory(), fail_closed=True)
