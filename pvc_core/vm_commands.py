# SPDX-License-Identifier: Apache-2.0
"""vm_commands: what an operator can ask of a VM, as one method each: check, decide on the snapshot, commit.

A method returns when the *intent* is in the store; the agents carry it out. Every method is one transaction,
decided again when somebody else was faster; what is refused has changed nothing.
"""

from __future__ import annotations

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import Stored
from pvc_core.command_base import Outcome
from pvc_core.errors import BrokenRecord, Refused
from pvc_core.events import EventKind
from pvc_core.model import VmRecord, VmState
from pvc_core.placement import Decision
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_definitions import VmDefinitions
from pvc_core.vm_states import OFF, VmEvent, rule_for

__all__ = ["Outcome", "VmCommands"]

_START_REASONS = {
    VmState.SHUTTING_DOWN: "start requested: the shutdown is aborted",
    VmState.RESTARTING: "start requested: the restart is aborted",
    VmState.MIGRATING: "start requested: the migration is cancelled",
}


class VmCommands(VmDefinitions):
    """All commands on VMs."""

    # ---------------------------------------------------------------------------------- start and stop

    def start(self, vm: str) -> Outcome:
        """Start on its node, or where it is placed when that node cannot take it; aborts a shutdown or a migration."""
        chosen: list[Decision] = []
        warnings: list[str] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            record = stored.value
            chosen.clear()
            warnings.clear()
            if record.state not in OFF:
                return self._event(snapshot, stored, VmEvent.START, _START_REASONS.get(record.state, "start requested"))
            decision = self._place_for_start(record, snapshot)
            decision.raise_if_none()
            chosen[:] = [decision]
            reason = f"start requested; {decision.reason}"
            ledgers = changes.ledgers_of(snapshot, record.node, decision.node)
            change = changes.start_on(stored, decision.node, reason, self._clock.utc_iso(), ledgers, decision)
            started = msgspec.structs.replace(record, node=decision.node, state=VmState.STARTING)
            warnings[:] = self._admit(started, snapshot)
            return changes.on_same_node(change, snapshot, decision.node)

        change = self._view.commit(decide)
        return self._outcome(change, chosen[0] if chosen else None, tuple(warnings))

    def _place_for_start(self, record: VmRecord, snapshot: ClusterSnapshot) -> Decision:
        """On its own node if that takes it, else wherever it is placed."""
        request = PlacementRequest.for_vm(record)
        if record.node in snapshot.nodes:
            here = self._placer.place(request, snapshot, only=record.node)
            if here.node:
                return here
        return self._placer.place(request, snapshot)

    def shutdown(self, vm: str) -> Outcome:
        """Ask the guest to power off; it is terminated when its shutdown timeout is over."""
        return self._simple(vm, VmEvent.SHUTDOWN, "shutdown requested")

    def stop(self, vm: str) -> Outcome:
        """Terminate the guest now."""
        return self._simple(vm, VmEvent.STOP, "stop requested")

    def restart(self, vm: str) -> Outcome:
        """Shut down and start again on the same node."""
        return self._simple(vm, VmEvent.RESTART, "restart requested")

    def disable(self, vm: str, *, force: bool = False) -> Outcome:
        """Shut down (terminate with `force`) and leave it alone until it is started by command."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            change = self._event(snapshot, stored, VmEvent.DISABLE, "disabled by command")
            if not force or change.vm is None or change.vm.state in OFF or change.vm.forced:
                return change
            after = msgspec.structs.replace(change.vm, forced=True, transition=stored.value.transition + 1)
            return changes.change_vm(stored, after, change.reason, EventKind.VM_SHUTTING_DOWN)

        return self._outcome(self._view.commit(decide))

    # ----------------------------------------------------------------------------------------- placing

    def migrate(self, vm: str, target: str = "") -> Outcome:
        """Move a running VM live, for a time: it keeps its home. The selector chooses, unless `target` is given."""
        return self._migrate(vm, target, permanent=False)

    def move(self, vm: str, target: str = "") -> Outcome:
        """Move a VM for good: live when it runs, otherwise by giving it another node."""
        return self._migrate(vm, target, permanent=True)

    def unmigrate(self, vm: str) -> Outcome:
        """Bring a VM back to its home."""
        record = self._view.snapshot().vm(vm).value
        return self._migrate(vm, record.home, permanent=False, may_refuse=False)

    def _migrate(self, vm: str, target: str, *, permanent: bool, may_refuse: bool = True) -> Outcome:
        """may_refuse: whether the VM has to be admitted to its new place; not so where it goes home."""
        chosen: list[Decision] = []
        warnings: list[str] = []

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            record = stored.value
            chosen.clear()
            warnings.clear()
            is_there = bool(target) and record.node == target and record.state is not VmState.MIGRATING
            if is_there and (not permanent or record.home == target):
                return changes.already(stored, f"is on {target} already", record)
            if is_there:
                after = msgspec.structs.replace(record, home=target)
                return changes.change_vm(stored, after, f"{target}, where it is, is its home now")
            relocates = permanent and record.state in OFF
            event = VmEvent.RELOCATE if relocates else VmEvent.MIGRATE
            self._refuse(stored.value, event)
            if changes.unreadable_ledger(snapshot, record.node):
                raise BrokenRecord(layout.ledger(record.node), "on arrival it would have to be changed")
            decision = self._placer.place(
                PlacementRequest.for_vm(record, exclude=frozenset({record.node})), snapshot, only=target
            )
            decision.raise_if_none()
            chosen[:] = [decision]
            verb = "moves" if permanent else "migrates"
            reason = f"{verb} from {record.node} to {decision.node}; {decision.reason}"
            change = changes.of_event(
                stored,
                event,
                reason,
                self._clock.utc_iso(),
                changes.ledgers_of(snapshot, record.node, decision.node),
                target=decision.node,
                permanent=permanent,
                decision=decision,
            )
            state = record.state if relocates else VmState.RUNNING
            arrived = msgspec.structs.replace(record, node=decision.node, target="", state=state)
            warnings[:] = self._admit(arrived, snapshot, may_refuse=may_refuse)
            return changes.on_same_node(change, snapshot, decision.node)

        change = self._view.commit(decide)
        return self._outcome(change, chosen[0] if chosen else None, tuple(warnings))

    # ----------------------------------------------------------------------------------------- parts

    def _simple(self, vm: str, event: VmEvent, reason: str) -> Outcome:
        def decide(snapshot: ClusterSnapshot) -> Change:
            return self._event(snapshot, snapshot.vm(vm), event, reason)

        return self._outcome(self._view.commit(decide))

    def _event(self, snapshot: ClusterSnapshot, stored: Stored[VmRecord], event: VmEvent, reason: str) -> Change:
        record = stored.value
        ledgers = changes.ledgers_of(snapshot, record.node, record.target)
        return changes.of_event(stored, event, reason, self._clock.utc_iso(), ledgers)

    @staticmethod
    def _refuse(record: VmRecord, event: VmEvent) -> None:
        rule = rule_for(record.state, event)
        if isinstance(rule, str):
            raise Refused(record.name, rule)
