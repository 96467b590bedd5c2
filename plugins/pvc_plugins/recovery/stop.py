# SPDX-License-Identifier: Apache-2.0
"""stop: a VM whose node is lost is off until somebody starts it.

For guests of which an administrator wants to know first what became of their data.
"""

from __future__ import annotations

from pvc_core import PlacementRequest, RecoveryPolicyEntry


class Stop:
    """Leaves the restart after a loss to a person; a drain holds the VM as usual."""

    def after_loss(self, request: PlacementRequest) -> str:
        return "stop"

    def without_candidate(self, request: PlacementRequest) -> str:
        return "hold"


ENTRY = RecoveryPolicyEntry("stop", "off after a loss until it is started by command", Stop())
