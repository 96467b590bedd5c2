# SPDX-License-Identifier: Apache-2.0
"""fence_standing: what a node's record says of its fence to those who have to wait for it.

The daemon of a node that is back waits as long as its VMs may be given to others. A fence that has no way back is one
for which storage has been told to shut the node out: its guests may have lost their disks already.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvc_core.model import FenceStep, NodeRecord
from pvc_core.shut_out_record import ShutOut

TOLD_EVERY = 12
"""What goes on being refused for the same reason is written down again after so many attempts."""


def is_being_recovered(record: NodeRecord) -> bool:
    """Whether the node is known to be off and its VMs are given to others; a daemon that is back waits for that."""
    return record.fence is not None and record.fence.step is FenceStep.RECOVERING


def is_being_shut_out(record: NodeRecord) -> bool:
    """Whether storage is to prove that the node does no harm; a daemon that is back waits for what becomes of it."""
    return record.fence is not None and record.fence.step is FenceStep.FENCING and bool(shut_outs_of_fence(record))


def waits_for_leader(record: NodeRecord) -> bool:
    """Whether none of the VMs is the node's own to start, whatever their records say."""
    return is_being_recovered(record) or is_being_shut_out(record)


def has_storage_to_answer(record: NodeRecord) -> bool:
    """Whether storage was told to shut the node out for its fence, and a backend has not said anything yet."""
    return any(entry.state == "asking" and not entry.attempts for entry in shut_outs_of_fence(record).values())


def shut_outs_of_fence(record: NodeRecord) -> Mapping[str, ShutOut]:
    """What storage was told for the node's fence that goes on, or ended last, by backend."""
    number = record.fence.number if record.fence else 0
    return {backend: entry for backend, entry in sorted(record.shut_out.items()) if entry.fence == number}


def why_not_admitted(record: NodeRecord) -> str:
    """Why the node takes no VMs as to storage that has shut it out, or may have; "" when none has."""
    if not record.shut_out:
        return ""
    backend, entry = min(record.shut_out.items())
    said = f": {entry.problem}" if entry.problem else ""
    return f"its clients are still shut out of the storage {backend}{said}"
