# SPDX-License-Identifier: Apache-2.0
"""commands: everything an operator can ask of the cluster: the commands on VMs, rules, nodes and settings.

The API's resources call these and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import encode
from pvc_core.driver_presence import selector_warnings
from pvc_core.errors import Refused
from pvc_core.events import EventKind, Happening, of_node
from pvc_core.leader import comes_back
from pvc_core.leader_flush import refuse_flush
from pvc_core.model import DrainReport, NodeMode, NodeRecord
from pvc_core.plan_commands import PlanCommands
from pvc_core.ports import Check, Create, Set
from pvc_core.rule_commands import RuleCommands
from pvc_core.settings_changes import changed_settings, checked_patch, what_changes
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_commands import Outcome, VmCommands
from pvc_core.vm_states import OFF

__all__ = ["Commands", "Outcome"]

Decide = Callable[[ClusterSnapshot], Change]


class Commands(VmCommands, RuleCommands, PlanCommands):
    """All commands on one cluster. Thread-safe, as the view and the store are."""

    def flush(self, node: str) -> Outcome:
        """Drain a node: the leader moves its VMs away, and shuts down and holds those that have no other place."""
        changed: list[NodeRecord] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            view = snapshot.node(node)
            changed[:] = [view.record.value]
            if view.mode in (NodeMode.FLUSHING, NodeMode.FLUSHED):
                return changes.already(view.record, f"{node} is {view.mode} already")
            refuse_flush(view)
            moving = [vm for vm in snapshot.vms_by_node.get(node, ()) if vm.value.state not in OFF]
            return self._set_mode(view, NodeMode.FLUSHING, DrainReport(total=len(moving)), "flush requested", changed)

        return self._node_outcome(decide, changed)

    def ready(self, node: str) -> Outcome:
        """Take a node back into service, breaking off a flush; its VMs come home, held and autostart VMs start."""
        changed: list[NodeRecord] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            view = snapshot.node(node)
            changed[:] = [view.record.value]
            if view.mode in (NodeMode.READY, NodeMode.UNFLUSHING):
                return changes.already(view.record, f"{node} is {view.mode} already")
            if not view.is_alive and view.mode is not NodeMode.FLUSHING:
                raise Refused(node, f"its daemon is {view.liveness}; start it first")
            returning = sum(1 for vm in snapshot.vms.values() if comes_back(vm.value, node))
            drain = DrainReport(total=returning, cancels_flush=view.mode is NodeMode.FLUSHING)
            return self._set_mode(view, NodeMode.UNFLUSHING, drain, "ready requested", changed)

        return self._node_outcome(decide, changed)

    def _set_mode(
        self, view: NodeView, mode: NodeMode, drain: DrainReport, reason: str, changed: list[NodeRecord]
    ) -> Change:
        now = self._clock.utc_iso()
        drain = msgspec.structs.replace(drain, started_at=now)
        record = msgspec.structs.replace(view.record.value, mode=mode, drain=drain, reason=reason, changed_at=now)
        changed[:] = [record]
        kind = EventKind.NODE_FLUSHING if mode is NodeMode.FLUSHING else EventKind.NODE_UNFLUSHING
        happening = of_node(kind, view.record.value, record, reason)
        return Change((changes.write_node(view.record, record),), reason, happenings=(happening,))

    def _node_outcome(self, decide: Decide, changed: list[NodeRecord]) -> Outcome:
        change = self._view.commit(decide)
        return Outcome(change.reason, bool(change.ops), node=changed[0])

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
