# SPDX-License-Identifier: Apache-2.0
"""restart: a VM that has no other place is shut down and held, and starts again when its home is ready."""

from __future__ import annotations

from pvc_core import PlacementRequest, RecoveryPolicyEntry


class Restart:
    """Lets the node be drained at the cost of the VM's downtime."""

    def without_candidate(self, request: PlacementRequest) -> str:
        return "hold"


ENTRY = RecoveryPolicyEntry("restart", "shut down and held until its home is ready", Restart())
