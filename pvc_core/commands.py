# SPDX-License-Identifier: Apache-2.0
"""commands: everything an operator can ask of the cluster: on VMs, rules, nodes, fence devices and settings.

The API's resources call these and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import encode
from pvc_core.command_base import Outcome
from pvc_core.driver_presence import selector_warnings
from pvc_core.events import EventKind, Happening
from pvc_core.fence_commands import FenceCommands
from pvc_core.maintenance_commands import MaintenanceCommands
from pvc_core.notification_test import NotificationCommands
from pvc_core.plan_commands import PlanCommands
from pvc_core.ports import Check, Create, Set
from pvc_core.rule_commands import RuleCommands
from pvc_core.settings_changes import changed_settings, checked_patch, what_changes
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.task_commands import TaskCommands
from pvc_core.volume_lifecycle import VolumeLifecycle

__all__ = ["Commands", "Outcome"]


class Commands(
    VolumeLifecycle, RuleCommands, PlanCommands, MaintenanceCommands, FenceCommands, NotificationCommands, TaskCommands
):
    """All commands on one cluster. Thread-safe, as the view and the store are."""

    def change_settings(self, patch: Mapping[str, object]) -> Outcome:
        """Change cluster-wide settings; None is the default, plugins' own stand by plugin under "plugins".

        Raises `InvalidInput` naming the setting, the problem and what is allowed.
        """
        checked = checked_patch(patch, self._registry)
        warnings: list[str] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            if layout.SETTINGS in snapshot.broken:
                raise snapshot.broken[layout.SETTINGS]
            wanted = changed_settings(snapshot.settings, checked, self._registry)
            warnings[:] = selector_warnings(snapshot, checked.get("default_selector", ""))
            if wanted == snapshot.settings:
                seen = (Check(layout.SETTINGS, snapshot.settings_version),) if snapshot.settings_version >= 0 else ()
                return Change((), "the settings are the same", seen=seen)
            data = encode(wanted, snapshot.settings_data)
            happening = Happening(EventKind.SETTINGS_CHANGED, what_changes(snapshot.settings, wanted))
            if snapshot.settings_version < 0:
                return Change((Create(layout.SETTINGS, data),), "settings changed", happenings=(happening,))
            op = Set(layout.SETTINGS, data, snapshot.settings_version)
            return Change((op,), "settings changed", happenings=(happening,))

        change = self._view.commit(decide)
        return Outcome(change.reason, bool(change.ops), warnings=tuple(warnings))
