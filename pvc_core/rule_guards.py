# SPDX-License-Identifier: Apache-2.0
"""rule_guards: what makes two placements that happen at once respect each other's hard rules.

A placement is decided on what is known of the other members of the VM's rules, and written later. So whoever places a
member of a hard rule also writes the rule's record, on the version that was seen, and notes there which record of the
VM that was. Of two such transactions one comes first; the other is decided again, and first looks at the VMs that the
rule's record names, because no watch need have told of them yet. A change that makes a VM a member counts as well.

A rule that is new or changed cannot be guarded by somebody who does not know it: every placement also holds only while
no rule was added or changed since, which the version of `/rules` says.

Every change of the cluster passes here on its way into the store (`ClusterView`), so that no writer can forget it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode, encode
from pvc_core.model import Rule, VmRecord
from pvc_core.ports import Check, Delete, Entry, Op, Set
from pvc_core.rules import is_active, rules_about, sides
from pvc_core.snapshot import ClusterSnapshot

_VMS = f"{layout.VMS}/"


@dataclass(frozen=True)
class Guarded:
    """A change with its guards. unseen: records of other members that are newer than those it was decided on."""

    change: Change
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Written:
    """One VM's record as it was, as it will be (None: there is none), and the version it will have."""

    uuid: str
    before: VmRecord | None
    after: VmRecord | None
    version: int

    @property
    def may_join(self) -> bool:
        """Whether it may become a member of rules, or stop being one, by another name or other tags."""
        before, after = self.before, self.after
        if before is None or after is None:
            return before is not None
        return (before.name, before.metadata.tags) != (after.name, after.metadata.tags)

    @property
    def is_placed(self) -> bool:
        """Whether the VM comes to a node, or comes to life on its own."""
        before, after = self.before, self.after
        if before is None or after is None:
            return after is not None
        return not sides(after) <= sides(before) or (is_active(after) and not is_active(before))


def guarded_by_rules(change: Change, snapshot: ClusterSnapshot) -> Guarded:
    """The change with what guards the hard rules it could break; `snapshot` is what it was decided on."""
    concerned = [vm for vm in _written_vms(change, snapshot) if vm.is_placed or vm.may_join]
    if not concerned:
        return Guarded(change)
    changed = {op.key for op in change.ops if not isinstance(op, Check)}
    ops: list[Op] = []
    if snapshot.rules_version >= 0 and layout.RULES not in changed:
        ops.append(Check(layout.RULES, snapshot.rules_version))
    unseen: list[str] = []
    for stored in _hard_rules_about(concerned, snapshot):
        if stored.key not in changed:
            ops.append(_guard(stored, concerned))
        unseen += _unseen(stored.value, snapshot)
    return Guarded(replace(change, ops=(*change.ops, *ops)), tuple(dict.fromkeys(unseen)))


def _written_vms(change: Change, snapshot: ClusterSnapshot) -> Iterator[_Written]:
    for op in change.ops:
        if isinstance(op, Check) or not op.key.startswith(_VMS):
            continue
        uuid = op.key.removeprefix(_VMS)
        before = snapshot.vms[uuid].value if uuid in snapshot.vms else None
        if isinstance(op, Delete):
            yield _Written(uuid, before, None, -1)
        else:
            version = op.version + 1 if isinstance(op, Set) else 0
            yield _Written(uuid, before, decode(Entry(op.key, op.data, 0), VmRecord).value, version)


def _hard_rules_about(vms: list[_Written], snapshot: ClusterSnapshot) -> list[Stored[Rule]]:
    found: dict[str, Stored[Rule]] = {}
    for vm in vms:
        found |= rules_about(vm.before, snapshot.rules) | rules_about(vm.after, snapshot.rules)
    return [stored for stored in found.values() if stored.value.hard]


def _guard(stored: Stored[Rule], vms: list[_Written]) -> Set:
    """The rule with the VMs noted that are written under it, and those forgotten that leave it."""
    guard = dict(stored.value.guard)
    for vm in vms:
        if rules_about(vm.after, {stored.value.name: stored}):
            guard[vm.uuid] = vm.version
        else:
            guard.pop(vm.uuid, None)
    rule = msgspec.structs.replace(stored.value, guard=guard)
    return Set(stored.key, encode(rule, stored.data), stored.version)


def _unseen(rule: Rule, snapshot: ClusterSnapshot) -> list[str]:
    """The keys of the records that others wrote under this rule and that the snapshot does not have."""
    return [
        layout.vm(uuid)
        for uuid, version in rule.guard.items()
        if uuid not in snapshot.vms or snapshot.vms[uuid].version < version
    ]


# -------------------------------------------------------------------------------------------- changes of rules


def rule_is_changed(snapshot: ClusterSnapshot) -> tuple[Op, ...]:
    """What goes with every change of a rule itself: nothing that was decided without knowing it is written any more."""
    return (Set(layout.RULES, b"", snapshot.rules_version),) if snapshot.rules_version >= 0 else ()


def rename_in_rules(name: str, new_name: str, snapshot: ClusterSnapshot) -> tuple[Op, ...]:
    """A VM that is renamed stays in its rules."""
    ops = []
    for stored in snapshot.rules.values():
        members = stored.value.members
        if name in members:
            renamed = dict.fromkeys(new_name if member == name else member for member in members)
            rule = msgspec.structs.replace(stored.value, members=tuple(renamed))
            ops.append(Set(stored.key, encode(rule, stored.data), stored.version))
    return (*ops, *rule_is_changed(snapshot)) if ops else ()
