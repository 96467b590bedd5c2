# SPDX-License-Identifier: Apache-2.0
"""stay: a VM that has no other place stays where it is and goes on running.

For guests whose downtime is worse than a drain that is not complete; an administrator decides what to do.
"""

from __future__ import annotations

from pvc_core import PlacementRequest, RecoveryPolicyEntry


class Stay:
    """Keeps the VM running at the cost of the drain."""

    def without_candidate(self, request: PlacementRequest) -> str:
        return "stay"


ENTRY = RecoveryPolicyEntry("stay", "left running where it is", Stay())
