# SPDX-License-Identifier: Apache-2.0
"""restart: a VM whose node is lost starts on another.

One that has no other place is held, shut down first if it runs, and starts again when its home is ready.
"""

from __future__ import annotations

from pvc_core import PlacementRequest, RecoveryPolicyEntry


class Restart:
    """Brings the VM back as soon as may be, and lets a node be drained at the cost of the VM's downtime."""

    def after_loss(self, request: PlacementRequest) -> str:
        return "restart"

    def without_candidate(self, request: PlacementRequest) -> str:
        return "hold"


ENTRY = RecoveryPolicyEntry("restart", "started on another node, or held until its home is ready", Restart())
