# SPDX-License-Identifier: Apache-2.0
"""node_commands: drain a node, take it back, have a lost one switched off, and say that it is off.

They write what is wanted; the leader carries it out.
"""

from __future__ import annotations

from collections.abc import Callable

from pvc_core import changes, leader_fence
from pvc_core.changes import Change
from pvc_core.command_base import CommandBase, Outcome
from pvc_core.errors import Refused
from pvc_core.leader_flush import begin_flush
from pvc_core.leader_ready import take_back
from pvc_core.model import FenceStep, NodeMode, NodeRecord
from pvc_core.snapshot import ClusterSnapshot, NodeView

_Decide = Callable[[NodeView, ClusterSnapshot], Change]


def _refuse_in_maintenance(view: NodeView, snapshot: ClusterSnapshot) -> None:
    """Raises `Refused` for a node that is not to be fenced now: a fence would be called off at once."""
    why = leader_fence.why_paused(view, snapshot)
    if why:
        ends = "pvc cluster maintenance off" if snapshot.pause else f"pvc node maintenance {view.name} off"
        raise Refused(view.name, f"{why}; `{ends}` ends that, and then it is fenced if it is lost")


class NodeCommands(CommandBase):
    """Commands on nodes."""

    def flush(self, node: str) -> Outcome:
        """Drain a node: the leader moves its VMs away, and shuts down and holds those that have no other place."""

        def decide(view: NodeView, snapshot: ClusterSnapshot) -> Change:
            if view.mode in (NodeMode.FLUSHING, NodeMode.FLUSHED):
                return changes.already(view.record, f"{node} is {view.mode} already")
            return begin_flush(view, snapshot, "flush requested", self._clock.utc_iso())

        return self._on_node(node, decide)

    def ready(self, node: str) -> Outcome:
        """Take a node back into service, breaking off a flush; its VMs come home, held and autostart VMs start."""

        def decide(view: NodeView, snapshot: ClusterSnapshot) -> Change:
            if view.mode in (NodeMode.READY, NodeMode.UNFLUSHING):
                return changes.already(view.record, f"{node} is {view.mode} already")
            if not view.is_alive and view.mode is not NodeMode.FLUSHING:
                raise Refused(node, f"its daemon is {view.liveness}; start it first")
            return take_back(view, snapshot, "ready requested", self._clock.utc_iso(), leaves_running=False)

        return self._on_node(node, decide)

    def fence(self, node: str) -> Outcome:
        """Have a node switched off whose daemon is gone, also one that was stopped on purpose, and recover its VMs."""

        def decide(view: NodeView, snapshot: ClusterSnapshot) -> Change:
            if view.is_alive:
                raise Refused(node, f"its daemon is alive; `pvc node flush {node}` moves its VMs away")
            report = view.record.value.fence
            if report is not None and report.step is not FenceStep.RECOVERED:
                return changes.already(view.record, f"{node} is being fenced already")
            if view.record.value.fenced:
                return changes.already(view.record, f"{node} is fenced already")
            _refuse_in_maintenance(view, snapshot)
            return leader_fence.begin(view, "fence requested", self._clock.utc_iso())

        return self._on_node(node, decide)

    def confirm_fenced(self, node: str) -> Outcome:
        """Take a person's word that a node is off: its VMs are recovered. Wrong, it means a guest on two nodes."""

        def decide(view: NodeView, snapshot: ClusterSnapshot) -> Change:
            record = view.record.value
            if record.fenced:
                return changes.already(view.record, f"{node} is fenced already")
            if view.is_alive:
                raise Refused(node, "its daemon is alive")
            _refuse_in_maintenance(view, snapshot)
            if record.fence is None or record.fence.step is not FenceStep.FENCING:
                raise Refused(node, f"it is not being fenced; `pvc node fence {node}` begins that")
            return leader_fence.confirm(view, 0, "a person confirmed that it is off", self._clock.utc_iso(), snapshot)

        return self._on_node(node, decide)

    def _on_node(self, node: str, decide: _Decide) -> Outcome:
        seen: list[NodeRecord] = []

        def decide_here(snapshot: ClusterSnapshot) -> Change:
            view = snapshot.node(node)
            change = decide(view, snapshot)
            seen[:] = [changes.node_after(change, view)]
            return change

        change = self._view.commit(decide_here)
        return Outcome(change.reason, bool(change.ops), node=seen[0])
