# SPDX-License-Identifier: Apache-2.0
"""rule_commands: what an operator can ask of the cluster's rules: add one, write one anew, remove one.

A rule is in force with its transaction: no placement that was decided without knowing it is written afterwards. What
it finds broken is left as it is, and shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pvc_core import layout
from pvc_core.changes import Change, already
from pvc_core.codec import encode
from pvc_core.command_base import CommandBase, Outcome
from pvc_core.errors import AlreadyExists, NotFound
from pvc_core.events import EventKind, Happening
from pvc_core.model import Rule
from pvc_core.ports import Create, Delete, Op, Set
from pvc_core.rule_checks import checked_rule, parse_rule
from pvc_core.rule_guards import rule_is_changed
from pvc_core.rules import Rulebook, violations_of
from pvc_core.snapshot import ClusterSnapshot


class RuleCommands(CommandBase):
    """Commands on rules."""

    def add_rule(self, name: str, fields: Mapping[str, object]) -> Outcome:
        """A new rule. Raises `InvalidInput`, `AlreadyExists`, or `Refused` where another rule says the opposite."""
        rule = parse_rule(name, fields)

        def decide(snapshot: ClusterSnapshot) -> Change:
            if name in snapshot.rules or layout.rule(name) in snapshot.broken:
                raise AlreadyExists("rule", name)
            return self._creation(checked_rule(rule, snapshot), snapshot)

        return self._outcome(self._view.commit(decide))

    def put_rule(self, name: str, fields: Mapping[str, object]) -> Outcome:
        """The rule as it is to be, new or in place of the one of this name. Raises as `add_rule`."""
        rule = parse_rule(name, fields)

        def decide(snapshot: ClusterSnapshot) -> Change:
            if layout.rule(name) in snapshot.broken:
                raise snapshot.broken[layout.rule(name)]
            stored = snapshot.rules.get(name)
            checked = checked_rule(rule, snapshot, stored.value if stored else None)
            if stored is None:
                return self._creation(checked, snapshot)
            checked = msgspec.structs.replace(checked, guard=stored.value.guard)
            if checked == stored.value:
                return already(stored, f"rule {name} says so already")
            ops = (Set(stored.key, encode(checked, stored.data), stored.version), *rule_is_changed(snapshot))
            return _change(EventKind.RULE_CHANGED, ops, f"rule {name} changed{_note(checked, snapshot)}", checked)

        return self._outcome(self._view.commit(decide))

    def remove_rule(self, name: str) -> Outcome:
        """Forget a rule. Raises `NotFound` with the rules that exist."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            broken = layout.rule(name) in snapshot.broken
            if name not in snapshot.rules and not broken:
                raise NotFound("rule", name, tuple(snapshot.rules))
            version = self._version_of_broken(name) if broken else snapshot.rules[name].version
            ops = (Delete(layout.rule(name), version), *rule_is_changed(snapshot))
            return _change(EventKind.RULE_REMOVED, ops, f"rule {name} is removed")

        return self._outcome(self._view.commit(decide))

    def _version_of_broken(self, name: str) -> int:
        """Of a record that does not parse, which can only be removed."""
        entry = self._store.get(layout.rule(name))
        if entry is None:
            raise NotFound("rule", name)
        return entry.version

    @staticmethod
    def _creation(rule: Rule, snapshot: ClusterSnapshot) -> Change:
        key = layout.rule(rule.name)
        reason = f"rule {rule.name} added{_note(rule, snapshot)}"
        ops = (Create(key, encode(rule)), *rule_is_changed(snapshot))
        return _change(EventKind.RULE_ADDED, ops, reason, rule)


def _change(kind: EventKind, ops: tuple[Op, ...], reason: str, rule: Rule | None = None) -> Change:
    """With its event, which also tells what the rule says."""
    told = f"{reason}; {_in_words(rule)}" if rule else reason
    return Change(ops, reason, happenings=(Happening(kind, told),))


def _in_words(rule: Rule) -> str:
    how = "prefer" if rule.kind == "prefer" else f"{'hard' if rule.hard else 'soft'} {rule.kind}"
    nodes = "".join(f", {node}={weight:g}" for node, weight in rule.nodes.items())
    return f"{how}: {', '.join(rule.members)}{nodes}"


def _note(rule: Rule, snapshot: ClusterSnapshot) -> str:
    """That the rule is broken from the beginning, and how."""
    found = violations_of(rule, Rulebook(snapshot))
    return f"; it is broken now: {'; '.join(one.reason for one in found)}" if found else ""
