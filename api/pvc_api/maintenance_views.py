# SPDX-License-Identifier: Apache-2.0
"""maintenance_views: the maintenance of the whole cluster as the API shows it."""

from __future__ import annotations

from pvc_api.views import Answer, Version
from pvc_core.pause_record import Pause


class MaintenanceView(Answer, frozen=True, kw_only=True):
    """The maintenance of the whole cluster: its terms, null when there is none; and both as a sentence."""

    pause: Pause | None
    sentence: str
    version: Version


class MaintenanceOutcome(MaintenanceView, frozen=True, kw_only=True):
    """The maintenance of the whole cluster after a command."""

    changed: bool
    reason: str
