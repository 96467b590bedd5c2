# SPDX-License-Identifier: Apache-2.0
"""maintenance_commands: begin and end a planned pause, of the whole cluster or of one node."""

from __future__ import annotations

from pvc_core import changes, maintenance
from pvc_core.changes import Change
from pvc_core.command_base import Outcome
from pvc_core.maintenance import CLUSTER, DEFAULT_FOR_S
from pvc_core.node_commands import NodeCommands
from pvc_core.snapshot import ClusterSnapshot, NodeView


class MaintenanceCommands(NodeCommands):
    """Commands on nodes, and on maintenance. What is on already goes on by the new terms."""

    def begin_maintenance(self, for_s: float = DEFAULT_FOR_S, reason: str = "") -> Outcome:
        """From now on no node is fenced and no VM recovered, for at most 7 days. Raises `InvalidInput`."""
        pause = maintenance.checked_terms(for_s, reason, self._clock.utc_iso())
        return self._outcome(self._view.commit(lambda snapshot: maintenance.begin(CLUSTER, pause, snapshot)))

    def end_maintenance(self) -> Outcome:
        """Whoever is lost by now is fenced after the grace time, which begins now."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            if snapshot.pause is not None:
                return maintenance.end(CLUSTER, "ended by command", snapshot)
            reason = "the cluster is not in maintenance"
            if snapshot.maintenance is None:
                return Change((), reason)
            return changes.already(snapshot.maintenance, reason)

        return self._outcome(self._view.commit(decide))

    def begin_node_maintenance(self, node: str, for_s: float | None = None, reason: str = "") -> Outcome:
        """From now on the node is not fenced and takes no VMs; for_s None: until that is ended."""
        pause = maintenance.checked_terms(for_s, reason, self._clock.utc_iso())
        return self._on_node(node, lambda view, snapshot: maintenance.begin(node, pause, snapshot))

    def end_node_maintenance(self, node: str) -> Outcome:
        """The node takes VMs again, and is fenced if it is lost."""

        def decide(view: NodeView, snapshot: ClusterSnapshot) -> Change:
            if not view.record.value.maintenance:
                return changes.already(view.record, f"{node} is not in maintenance")
            return maintenance.end(node, "ended by command", snapshot)

        return self._on_node(node, decide)
