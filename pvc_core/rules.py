# SPDX-License-Identifier: Apache-2.0
"""rules: which VMs the cluster's rules are about, and which rules are broken now.

A rule keeps VMs together or apart, or says which nodes they rather be on. Its members are VMs by name, or all that
have a tag. What a rule means for a placement is in `rule_verdicts`; here is what it says of the cluster as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

import msgspec

from pvc_core.codec import Stored
from pvc_core.model import Rule, VmRecord
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF

TAG_PREFIX = "tag:"
NAMED_IN_A_SENTENCE = 3


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is broken now: the sentence that says how, and the VMs and nodes concerned, by name."""

    rule: str
    hard: bool
    reason: str
    vms: tuple[str, ...]
    nodes: tuple[str, ...]


def member_keys(vm: str, tags: Iterable[str]) -> tuple[str, ...]:
    """The words in a rule's members that mean this VM."""
    return (vm, *(f"{TAG_PREFIX}{tag}" for tag in tags))


def rules_about(vm: VmRecord | None, rules: Mapping[str, Stored[Rule]]) -> dict[str, Stored[Rule]]:
    """The rules that a VM is a member of, by name; none for a VM that does not exist."""
    if vm is None or not rules:
        return {}
    return {name: stored for name, stored in rules.items() if is_member(vm, stored.value)}


def is_member(vm: VmRecord, rule: Rule) -> bool:
    """Whether the rule is about this VM."""
    return any(key in rule.members for key in member_keys(vm.name, vm.metadata.tags))


def is_active(vm: VmRecord) -> bool:
    """Whether a hard rule binds others to this VM: it runs, or is about to."""
    return vm.state not in OFF


class Rulebook:
    """The rules of one snapshot, with their members looked up. Cheap to make, and to ask about a VM without rules."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self.rules: Mapping[str, Rule] = {name: stored.value for name, stored in snapshot.rules.items()}
        self._snapshot = snapshot
        self._by_key: dict[str, list[Rule]] = {}
        for rule in self.rules.values():
            for key in dict.fromkeys(rule.members):
                self._by_key.setdefault(key, []).append(rule)
        self._members: dict[str, tuple[VmRecord, ...]] = {}

    def concerns(self, vm: str, tags: Collection[str]) -> bool:
        """Whether any rule is about a VM of this name with these tags."""
        by_key = self._by_key
        return bool(by_key) and (vm in by_key or any(f"{TAG_PREFIX}{tag}" in by_key for tag in tags))

    def rules_of(self, vm: str, tags: Collection[str]) -> tuple[Rule, ...]:
        """The rules about a VM of this name with these tags, by their names."""
        found = {rule.name: rule for key in member_keys(vm, tags) for rule in self._by_key.get(key, ())}
        return tuple(found[name] for name in sorted(found))

    def members(self, rule: Rule) -> tuple[VmRecord, ...]:
        """The VMs that the rule is about, by name."""
        known = self._members.get(rule.name)
        if known is None:
            snapshot, found = self._snapshot, dict[str, VmRecord]()
            for key in rule.members:
                if key.startswith(TAG_PREFIX):
                    found |= {vm.name: vm for vm in self._by_tag.get(key.removeprefix(TAG_PREFIX), ())}
                elif key in snapshot.uuid_by_name:
                    found[key] = snapshot.vms[snapshot.uuid_by_name[key]].value
            known = self._members[rule.name] = tuple(found[name] for name in sorted(found))
        return known

    def missing(self, rule: Rule) -> tuple[str, ...]:
        """The names among the rule's members that no VM has."""
        names = (key for key in rule.members if not key.startswith(TAG_PREFIX))
        return tuple(name for name in names if name not in self._snapshot.uuid_by_name)

    @cached_property
    def _by_tag(self) -> Mapping[str, list[VmRecord]]:
        """The VMs by those of their tags that rules name."""
        wanted = {key.removeprefix(TAG_PREFIX) for key in self._by_key if key.startswith(TAG_PREFIX)}
        found: dict[str, list[VmRecord]] = {}
        for stored in self._snapshot.vms.values():
            for tag in stored.value.metadata.tags:
                if tag in wanted:
                    found.setdefault(tag, []).append(stored.value)
        return found


# --------------------------------------------------------------------------------------------- broken rules


def violations(snapshot: ClusterSnapshot) -> tuple[Violation, ...]:
    """The rules that VMs which run, or are about to, break now. A VM that migrates counts on both sides."""
    if not snapshot.rules:
        return ()
    book = Rulebook(snapshot)
    return tuple(found for rule in book.rules.values() for found in violations_of(rule, book))


def violations_of(rule: Rule, book: Rulebook) -> tuple[Violation, ...]:
    """How this rule is broken: per node where VMs meet that are to be apart, or once for VMs that are not together."""
    active = [vm for vm in book.members(rule) if is_active(vm)]
    if rule.kind == "apart":
        return tuple(_meetings(rule, active))
    if rule.kind == "together" and active and not frozenset.intersection(*(sides(vm) for vm in active)):
        return (_scattered(rule, active),)
    return ()


def sides(vm: VmRecord) -> frozenset[str]:
    """The nodes where the VM is, and to which it is on its way."""
    return frozenset((vm.node, vm.target)) - {""}


def _meetings(rule: Rule, active: list[VmRecord]) -> Iterable[Violation]:
    by_node: dict[str, list[VmRecord]] = {}
    for vm in active:
        for node in sides(vm):
            by_node.setdefault(node, []).append(vm)
    for node, vms in sorted(by_node.items()):
        if len(vms) > 1:
            names = tuple(vm.name for vm in vms)
            both = "are both" if len(names) == 2 else "are all"
            reason = f"{listed(names)} {both} on {node}, and are to be apart"
            yield Violation(rule=rule.name, hard=rule.hard, reason=reason, vms=names, nodes=(node,))


def _scattered(rule: Rule, active: list[VmRecord]) -> Violation:
    by_node: dict[str, list[str]] = {}
    for vm in active:
        by_node.setdefault(vm.target or vm.node, []).append(vm.name)
    places = sorted(by_node.items(), key=lambda item: (-len(item[1]), item[0]))
    spread = "; ".join(f"{listed(vms)} on {node}" for node, vms in places)
    return Violation(
        rule=rule.name,
        hard=rule.hard,
        reason=f"they are to be together, and are not: {spread}",
        vms=tuple(vm.name for vm in active),
        nodes=tuple(sorted(by_node)),
    )


def listed(names: Collection[str]) -> str:
    """A few of the names, and how many more there are."""
    first = list(names)[:NAMED_IN_A_SENTENCE]
    more = len(names) - len(first)
    if more:
        return f"{', '.join(first)} and {more} more"
    return " and ".join((", ".join(first[:-1]), first[-1])) if len(first) > 1 else "".join(first)
