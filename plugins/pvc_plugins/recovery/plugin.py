# SPDX-License-Identifier: Apache-2.0
"""Recovery policies: restart a VM elsewhere, keep it for its home, or leave it off."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import RecoveryPolicyEntry, hookimpl
from pvc_plugins.recovery import restart, stay, stop


@hookimpl
def pvc_recovery_policies() -> Sequence[RecoveryPolicyEntry]:
    return (restart.ENTRY, stay.ENTRY, stop.ENTRY)
