# SPDX-License-Identifier: Apache-2.0
"""invariants: what must hold at every moment of every run, checked against what really runs where.

A VM never runs on two hosts. No decision violates a limit, a hard rule or the memory of a node. Nothing is recovered
from a host that is still running it. No metadata and no definition is lost. What is to run runs, once all faults are
over and there was time. The daemons' threads do not die.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.events import EventKind
from pvc_core.limits import is_within
from pvc_core.model import FenceStep, NodeMode, NodeRecord, Rule, VmRecord, VmState
from pvc_core.ports import DomainState
from pvc_core.rules import Rulebook, Violation, is_member, violations_of
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF
from pvc_simulator.guests import SimulatedDomain
from pvc_simulator.machine import Machine
from pvc_simulator.observer import Observer, VmChange

CHANGES_METADATA = {EventKind.VM_CHANGED, EventKind.VM_RENAMED, EventKind.VM_DEFINED, EventKind.VM_UNDEFINED}
FORGETS = {EventKind.VM_UNDEFINED, EventKind.VM_UNDEFINED_BY_FORCE}
MOST_VIOLATIONS = 100


@dataclass(frozen=True)
class Broken:
    """An invariant that did not hold."""

    at_s: float
    invariant: str
    what: str

    def shown(self) -> dict[str, object]:
        """As a document."""
        return {"t": round(self.at_s, 3), "invariant": self.invariant, "what": self.what}


class Invariants:
    """Watches one run."""

    def __init__(self, machines: Mapping[str, Machine], observer: Observer) -> None:
        self._machines = machines
        self._observer = observer
        self._now_s = observer.now_s
        self.broken: list[Broken] = []
        observer.on_vm_change = self.vm_changed
        for machine in machines.values():
            machine.on_running = self.domain_runs

    def report(self, invariant: str, what: str) -> None:
        """One did not hold."""
        if len(self.broken) < MOST_VIOLATIONS:
            self.broken.append(Broken(self._now_s(), invariant, what))

    # ------------------------------------------------------------------------------------------ at every moment

    def domain_runs(self, machine: Machine, domain: SimulatedDomain) -> None:
        """A domain begins to run on a host."""
        others = [name for name in self._runs_on(domain.uuid) if name != machine.name]
        if others:
            self.report("runs once", f"{domain.name} begins to run on {machine.name} and runs on {', '.join(others)}")
        self._observer.runs(domain.name, machine.name)

    def vm_changed(self, change: VmChange) -> None:
        """A VM's record was written."""
        before, after = change.before, change.after
        if after is None:
            self._check_forgotten(change)
            return
        if before is not None:
            self._check_kept(before, after, change)
            if after.node not in (before.node, before.target):
                self._check_was_off(before, after)
        new = {after.node, after.target} - ({before.node, before.target} if before else set()) - {""}
        self._check_limit(after, new)
        if new:
            self._check_memory(after, new)
        if self._observer.records.rules and (new or (before and before.state in OFF and after.state not in OFF)):
            self._check_rules(before, after)

    def _check_forgotten(self, change: VmChange) -> None:
        if change.before is not None and not FORGETS & change.kinds:
            self.report("nothing is lost", f"the record of {change.before.name} is gone and nobody undefined it")

    def _check_kept(self, before: VmRecord, after: VmRecord, change: VmChange) -> None:
        if change.kinds & CHANGES_METADATA:
            return
        if (before.metadata, before.name, before.memory_mib) != (after.metadata, after.name, after.memory_mib):
            self.report("nothing is lost", f"the metadata of {after.name} changed and nobody changed it")

    def _check_was_off(self, before: VmRecord, after: VmRecord) -> None:
        if before.node in self._runs_on(after.uuid):
            self.report(
                "recovered from what is off", f"{after.name} is given to {after.node} and runs on {before.node}"
            )

    def _check_limit(self, record: VmRecord, nodes: set[str]) -> None:
        limit = record.metadata.node_limit
        for node in sorted(nodes):
            known = self._observer.records.nodes.get(node)
            if not is_within(limit, node, known.labels if known else {}):
                self.report("limits hold", f"{record.name} is given to {node}, and may run on {', '.join(limit)} only")

    def _check_memory(self, record: VmRecord, nodes: set[str]) -> None:
        records = self._observer.records
        for node in sorted(nodes & set(self._machines)):
            settings = records.settings
            total_mib = self._machines[node].shape.memory_mib
            room_mib = int((total_mib - settings.memory_reserve_mib) * settings.memory_overcommit)
            taken_mib = records.assigned_mib[node]
            if taken_mib > room_mib:
                sentence = f"{record.name} is given to {node}, where {taken_mib} of {room_mib} MiB are then assigned"
                self.report("memory fits", sentence)

    def _check_rules(self, before: VmRecord | None, after: VmRecord) -> None:
        """No hard rule is broken that was not broken before. One that is not about the VM is as it was."""
        rules = [rule for rule in self._observer.records.rules.values() if rule.hard]
        rules = [rule for rule in rules if is_member(after, rule) or (before and is_member(before, rule))]
        if not rules:
            return
        was = {found.rule: found for found in self._violations(rules, before, after.uuid)}
        for found in self._violations(rules, after, after.uuid):
            if found.rule not in was or set(found.vms) - set(was[found.rule].vms):
                self.report("rules hold", f"{found.rule}: {found.reason}")

    def _violations(self, rules: Sequence[Rule], record: VmRecord | None, uuid: str) -> list[Violation]:
        records = self._observer.records
        vms = {key: vm for key, vm in records.vms.items() if key != uuid}
        if record is not None:
            vms[uuid] = record
        snapshot = ClusterSnapshot(
            vms={key: Stored(layout.vm(key), vm, 0) for key, vm in vms.items()},
            rules={rule.name: Stored(layout.rule(rule.name), rule, 0) for rule in rules},
        )
        book = Rulebook(snapshot)
        settled = {key: stored for key, stored in snapshot.vms.items() if key == uuid or self._stays(stored.value)}
        book_of_settled = Rulebook(replace(snapshot, vms=settled))
        return [
            found
            for rule in rules
            for found in violations_of(rule, book_of_settled if rule.kind == "together" else book)
        ]

    def _stays(self, vm: VmRecord) -> bool:
        """Whether those that are to be together with the VM must come to where it is: it is not about to leave."""
        nodes = self._observer.records.nodes
        node, home = nodes.get(vm.target or vm.node), nodes.get(vm.home)
        if node is None or node.fenced or _is_being_fenced(node) or node.mode is NodeMode.FLUSHING:
            return False
        if home is None or home.name == node.name or home.mode is not NodeMode.UNFLUSHING:
            return True
        return home.drain is not None and home.drain.leaves_running

    def _runs_on(self, uuid: str) -> list[str]:
        return [
            name
            for name, machine in self._machines.items()
            if uuid in machine.domains and machine.domains[uuid].state is DomainState.RUNNING
        ]

    # ------------------------------------------------------------------------------------------ in the end

    def check_rest(self, excused: frozenset[str] = frozenset()) -> None:
        """Once all faults are over and there was time: all is as the records say. excused: VMs that cannot run."""
        for record in self._observer.records.vms.values():
            if record.name not in excused:
                problem = self.unrest_of(record)
                if problem:
                    self.report("what is to run runs", f"{record.name} {problem}; {record.reason}")
            if record.uuid not in self._observer.records.definitions:
                self.report("nothing is lost", f"the definition of {record.name} is gone")

    def unrest_of(self, record: VmRecord) -> str:
        """What of the VM is not (yet) as its record says, "" if nothing."""
        places = self._runs_on(record.uuid)
        if record.state in OFF:
            if record.held:
                return "is held"
            return f"is {record.state} and runs on {', '.join(places)}" if places else ""
        if record.state is not VmState.RUNNING:
            return f"is still {record.state}"
        if places == [record.node]:
            return ""
        return f"is to run on {record.node} and runs on {', '.join(places) or 'none'}"


def _is_being_fenced(node: NodeRecord) -> bool:
    return node.fence is not None and node.fence.step is not FenceStep.RECOVERED
