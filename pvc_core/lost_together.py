# SPDX-License-Identifier: Apache-2.0
"""lost_together: which lost nodes are recovered as one, though not all of them are known to be off yet.

Nodes that are lost in the same moment are proven off seconds apart, and what the first one's VMs take the others' have
no more. So for a bounded time the places of the more important VMs of those whose proof is still to come are kept
(`leader_recovery`). What is remembered for this is lost with the leader; the next one waits anew.
"""

from __future__ import annotations

from pvc_core.fence_memory import FenceMemory, grace_ends_s
from pvc_core.fence_standing import has_storage_to_answer
from pvc_core.leader_fence import is_lost
from pvc_core.model import FenceStep, Settings
from pvc_core.snapshot import ClusterSnapshot, NodeView

LONGEST_WAIT_S = 35.0
"""From when a node is to be fenced: just longer than a watchdog takes with the default times, which is 33 s."""


def lost_together(snapshot: ClusterSnapshot, memory: FenceMemory, now_s: float) -> frozenset[str]:
    """The nodes lost a short while ago which are known to be off, or are likely to be within the time that is left.

    A VM of one that is off may wait for those that are not. `memory`: after a `look`.
    """
    return frozenset(
        name
        for name, node in snapshot.nodes.items()
        if name in memory.gone_since_s and _has_time(node, snapshot, memory, now_s) and is_lost(node, snapshot)
    )


def _has_time(node: NodeView, snapshot: ClusterSnapshot, memory: FenceMemory, now_s: float) -> bool:
    due_s = grace_ends_s(memory, node.name, snapshot.settings)
    if not due_s - snapshot.settings.fence_grace_s <= now_s < due_s + LONGEST_WAIT_S:
        return False
    return node.record.value.fenced or _may_be_proven(node, memory, snapshot.settings, due_s + LONGEST_WAIT_S)


def _may_be_proven(node: NodeView, memory: FenceMemory, settings: Settings, before_s: float) -> bool:
    """Its devices have not failed yet, or storage has not; or its watchdog's time will be over by then."""
    record = node.record.value
    report = record.fence
    is_noted = report is not None and report.step is FenceStep.FENCING and report.attempts > 0
    has_failed = is_noted or node.name in memory.refused_at_s
    watchdog_ends_s = memory.gone_since_s[node.name] + record.watchdog_s + settings.watchdog_margin_s
    return not has_failed or has_storage_to_answer(record) or (record.watchdog_s > 0 and watchdog_ends_s < before_s)
