# SPDX-License-Identifier: Apache-2.0
"""stay: a VM belongs to its home: it is not started elsewhere, and in a drain without another place it runs on.

For guests whose data or devices are where they are, and for those whose downtime is worse than a drain that is not
complete. After its home was lost the VM is held until that is ready again.
"""

from __future__ import annotations

from pvc_core import PlacementRequest, RecoveryPolicyEntry


class Stay:
    """Keeps the VM where it is, at the cost of the drain or of its own downtime."""

    def after_loss(self, request: PlacementRequest) -> str:
        return "hold"

    def without_candidate(self, request: PlacementRequest) -> str:
        return "stay"


ENTRY = RecoveryPolicyEntry("stay", "left where it is; after a loss held until its home is ready", Stay())
