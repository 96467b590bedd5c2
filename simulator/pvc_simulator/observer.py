# SPDX-License-Identifier: Apache-2.0
"""observer: what happens in a simulated cluster, seen from outside: its events, its records, who was recovered when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pvc_core import layout
from pvc_core.codec import decode
from pvc_core.events import Event, EventKind
from pvc_core.model import NodeRecord, Rule, Settings, VmRecord
from pvc_core.ports import Create, Delete, Entry, Op, Set

COMMAND_REFUSED = "command_refused"
SCRIPT = "script"
NOT_A_CHANGE = (layout.REPORTS, layout.LEADER, layout.EVENTS)
"""What is written under these keys keeps no run from being over."""


@dataclass(frozen=True)
class Seen:
    """One event, and when it happened."""

    at_s: float
    kind: str
    vm: str = ""
    node: str = ""
    target: str = ""
    reason: str = ""
    plugin: str = ""
    by: str = ""

    def shown(self) -> dict[str, Any]:
        """As a document, without what is empty."""
        fields = ("vm", "node", "target", "reason", "plugin", "by")
        said = {name: getattr(self, name) for name in fields if getattr(self, name)}
        return {"t": round(self.at_s, 3), "kind": self.kind, **said}


@dataclass
class Recovery:
    """A VM that was started elsewhere because its node was off. Times in seconds of the run; None: not (yet)."""

    vm: str
    source: str
    target: str
    lost_s: float
    fenced_s: float | None
    running_s: float | None = None

    def shown(self) -> dict[str, Any]:
        """As a document."""
        return {
            "vm": self.vm,
            "from": self.source,
            "to": self.target,
            "lost_at": _rounded(self.lost_s),
            "fenced_at": _rounded(self.fenced_s),
            "running_at": _rounded(self.running_s),
        }


@dataclass(frozen=True)
class VmChange:
    """How one transaction changed a VM's record; None: there was or is none."""

    before: VmRecord | None
    after: VmRecord | None
    events: tuple[Event, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """What the events of the transaction tell of this VM."""
        names = {record.uuid for record in (self.before, self.after) if record}
        return frozenset(event.kind for event in self.events if event.uuid in names)


@dataclass
class Records:
    """The newest records by name or UUID, as far as anything looks at them."""

    vms: dict[str, VmRecord] = field(default_factory=dict)
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    definitions: dict[str, bytes] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    assigned_mib: Counter[str] = field(default_factory=Counter)
    """Per node, of the VMs that are on it or on their way to it."""

    def put_vm(self, uuid: str, record: VmRecord | None) -> VmRecord | None:
        """A VM's newest record; None: it is gone. The record that there was."""
        before = self.vms.pop(uuid, None)
        if record is not None:
            self.vms[uuid] = record
        for vm, sign in ((before, -1), (record, 1)):
            if vm is not None:
                self.assigned_mib.update(dict.fromkeys({vm.node, vm.target}, sign * vm.memory_mib))
        return before


class Observer:
    """Reads every transaction; `on_vm_change` is called after each change of a VM's record."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.records = Records()
        self.seen: list[Seen] = []
        self.migrations = 0
        self.recoveries: list[Recovery] = []
        self.changed_s = 0.0
        self.on_seen: Callable[[Seen], None] = lambda _seen: None
        self.on_vm_change: Callable[[VmChange], None] = lambda _change: None
        self.lost_s: dict[str, float] = {}
        """Node to when its present trouble began: its power or network went, or its daemon did."""
        self._fenced_s: dict[str, float] = {}
        self._awaited: dict[tuple[str, str], list[Recovery]] = {}
        """The recoveries whose VM does not run yet, by VM and target."""

    def begin(self, entries: Sequence[Entry]) -> None:
        """Learn the records that are there already."""
        for entry in entries:
            self._absorb(Create(entry.key, entry.data), [])

    def committed(self, ops: Sequence[Op]) -> None:
        """A transaction was made."""
        events = tuple(
            decode(Entry(op.key, op.data, 0), Event).value
            for op in ops
            if isinstance(op, Create) and op.key.startswith(f"{layout.EVENTS}/")
        )
        changes: list[VmChange] = []
        for op in ops:
            if isinstance(op, Create | Set | Delete):
                self._absorb(op, changes, events)
                if not op.key.startswith(NOT_A_CHANGE):
                    self.changed_s = self.now_s()
        for event in events:
            self._note(event)
        for change in changes:
            self._follow(change)
            self.on_vm_change(change)

    def trouble(self, node: str) -> None:
        """Something has happened to a node that may cost it its VMs."""
        self.lost_s.setdefault(node, self.now_s())

    def scripted(self, do: str) -> None:
        """A line of the script is done."""
        self._see(Seen(self.now_s(), SCRIPT, reason=do))

    def refused(self, command: str, reason: str) -> None:
        """A command was not taken."""
        self._see(Seen(self.now_s(), COMMAND_REFUSED, reason=f"{command}: {reason}"))

    def _see(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.on_seen(seen)

    def runs(self, vm: str, node: str) -> None:
        """A VM's domain begins to run on a node."""
        for recovery in self._awaited.pop((vm, node), ()):
            recovery.running_s = self.now_s()

    # ------------------------------------------------------------------------------------------------ how

    def _absorb(self, op: Create | Set | Delete, changes: list[VmChange], events: tuple[Event, ...] = ()) -> None:
        parent, _, name = op.key.rpartition("/")
        records = self.records
        entry = None if isinstance(op, Delete) else Entry(op.key, op.data, 0)
        if parent == layout.VMS:
            after = decode(entry, VmRecord).value if entry else None
            before = records.put_vm(name, after)
            changes.append(VmChange(before, after, events))
        elif parent == layout.NODES and entry:
            records.nodes[name] = decode(entry, NodeRecord).value
        elif parent == layout.RULES:
            records.rules.pop(name, None)
            if entry:
                records.rules[name] = decode(entry, Rule).value
        elif parent == layout.DEFINITIONS:
            records.definitions.pop(name, None)
            if entry:
                records.definitions[name] = entry.data
        elif op.key == layout.SETTINGS and entry and entry.data:
            records.settings = decode(entry, Settings).value

    def _note(self, event: Event) -> None:
        now_s = self.now_s()
        self._see(Seen(now_s, event.kind, event.vm, event.node, event.target, event.reason, event.plugin, event.by))
        if event.kind == EventKind.NODE_FENCED:
            self._fenced_s[event.node] = now_s
        elif event.kind == EventKind.NODE_JOINED:
            self.lost_s.pop(event.node, None)
        elif event.kind == EventKind.VM_MIGRATING:
            self.migrations += 1

    def _follow(self, change: VmChange) -> None:
        before, after = change.before, change.after
        if before is None or after is None or EventKind.VM_RECOVERING not in change.kinds:
            return
        lost_s = self.lost_s.get(before.node, self.now_s())
        recovery = Recovery(after.name, before.node, after.node, lost_s, self._fenced_s.get(before.node))
        self.recoveries.append(recovery)
        self._awaited.setdefault((after.name, after.node), []).append(recovery)


def _rounded(at_s: float | None) -> float | None:
    return None if at_s is None else round(at_s, 3)
