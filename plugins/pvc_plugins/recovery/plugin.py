# SPDX-License-Identifier: Apache-2.0
"""Recovery policies: hold a VM that has no other place, or let it stay."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import RecoveryPolicyEntry, hookimpl
from pvc_plugins.recovery import restart, stay


@hookimpl
def pvc_recovery_policies() -> Sequence[RecoveryPolicyEntry]:
    return (restart.ENTRY, stay.ENTRY)
