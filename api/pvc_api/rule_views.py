# SPDX-License-Identifier: Apache-2.0
"""rule_views: the cluster's rules as the API shows them: whom they are about now, and whether they are kept."""

from __future__ import annotations

from collections.abc import Iterator

from pvc_api.views import BrokenRecordView, RuleList, RuleView, VmRuleView
from pvc_core import layout
from pvc_core.model import Rule, VmRecord
from pvc_core.rules import Rulebook, Violation, rules_about, violations, violations_of
from pvc_core.snapshot import ClusterSnapshot


def rule_view(rule: Rule, book: Rulebook) -> RuleView:
    """A rule, its members looked up."""
    found = violations_of(rule, book)
    return RuleView(
        name=rule.name,
        kind=rule.kind,
        members=rule.members,
        hard=rule.hard,
        nodes=dict(rule.nodes),
        vms=tuple(vm.name for vm in book.members(rule)),
        missing=book.missing(rule),
        state="broken" if found else "kept",
        problems=tuple(one.reason for one in found),
    )


def rule_list(snapshot: ClusterSnapshot) -> RuleList:
    """All rules by name, and those that do not parse."""
    book = Rulebook(snapshot)
    broken = [one for key, one in sorted(snapshot.broken.items()) if key.startswith(f"{layout.RULES}/")]
    return RuleList(
        rules=tuple(rule_view(rule, book) for rule in book.rules.values()),
        broken=tuple(BrokenRecordView(key=one.key, problem=one.problem) for one in broken),
    )


def rules_of_vm(vm: VmRecord, snapshot: ClusterSnapshot) -> tuple[VmRuleView, ...]:
    """The rules about one VM, each with how it is broken by this VM among others."""
    book = Rulebook(snapshot)
    return tuple(
        VmRuleView(name=rule.name, kind=rule.kind, hard=rule.hard, problem=_problem(vm, violations_of(rule, book)))
        for rule in (stored.value for stored in rules_about(vm, snapshot.rules).values())
    )


def _problem(vm: VmRecord, found: tuple[Violation, ...]) -> str:
    return "; ".join(one.reason for one in found if vm.name in one.vms)


def rule_problems(snapshot: ClusterSnapshot) -> Iterator[str]:
    """A sentence per rule that is broken now."""
    for one in violations(snapshot):
        kind = "rule" if one.hard else "soft rule"
        yield f"{kind} {one.rule} is broken: {one.reason}"
