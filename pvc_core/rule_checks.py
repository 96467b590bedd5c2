# SPDX-License-Identifier: Apache-2.0
"""rule_checks: whether a rule makes sense in this cluster: its members exist, and no other rule says the opposite.

A name nobody knows is refused with the one that is probably meant; tags are free, as they are everywhere. A rule that
is broken at this moment is fine: it says how things shall be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.errors import InvalidInput, NotFound, Refused
from pvc_core.metadata import split_names
from pvc_core.model import Rule
from pvc_core.rules import TAG_PREFIX, Rulebook, listed
from pvc_core.snapshot import ClusterSnapshot

FIELDS = ("name", "kind", "members", "hard", "nodes")
KINDS = ("together", "apart", "prefer")


def parse_rule(name: str, fields: Mapping[str, object]) -> Rule:
    """A rule from what somebody says of it. Raises `InvalidInput` naming the field and what is allowed."""
    for field in fields:
        if field not in FIELDS:
            near = get_close_matches(field, FIELDS, 1)
            raise InvalidInput(field, "is not a field of a rule", allowed=near or FIELDS)
    if fields.get("name", name) != name:
        raise InvalidInput("name", f"must be {name}, the rule that is written", str(fields["name"]))
    kind = fields.get("kind")
    if kind not in KINDS:
        raise InvalidInput("kind", "is required" if kind is None else "is no kind of rule", str(kind or ""), KINDS)
    members = split_names(fields.get("members", ()), "members")
    for field in ("hard", "nodes"):
        _check_type(field, fields)
    _check_type("name", {"name": name})
    return msgspec.convert({**fields, "name": name, "members": members}, Rule)


def _check_type(field: str, fields: Mapping[str, object]) -> None:
    if field not in fields:
        return
    try:
        msgspec.convert({"name": "any", "kind": "apart", field: fields[field]}, Rule)
    except msgspec.ValidationError as error:
        raise InvalidInput(field, str(error).split(" - at ")[0].lower(), str(fields[field])) from error


def checked_rule(rule: Rule, snapshot: ClusterSnapshot, previous: Rule | None = None) -> Rule:
    """The rule with its members by name. What `previous`, the rule so far, says may have gone since.

    Raises `InvalidInput` for what nobody knows or makes no sense, `Refused` where another rule says the opposite.
    """
    members = tuple(dict.fromkeys(_member(member, snapshot, previous) for member in rule.members))
    rule = msgspec.structs.replace(rule, members=members)
    if rule.kind == "prefer":
        _check_preference(rule, snapshot, previous)
    else:
        if rule.nodes:
            raise InvalidInput("nodes", f"belong to a rule that prefers; one of kind {rule.kind} has none")
        if len(members) < 2 and not any(member.startswith(TAG_PREFIX) for member in members):
            problem = f"must name two VMs or a tag at least: a VM alone is always {rule.kind}"
            raise InvalidInput("members", problem, ", ".join(members))
    _refuse_contradictions(rule, snapshot)
    return rule


def _member(member: str, snapshot: ClusterSnapshot, previous: Rule | None) -> str:
    """The member as it is kept: the name of a VM, or a tag."""
    if member.startswith(TAG_PREFIX):
        if member == TAG_PREFIX:
            raise InvalidInput("members", "has no tag after tag:", member)
        return member
    if previous is not None and member in previous.members:
        return member
    try:
        return snapshot.vm(member).value.name
    except NotFound:
        near = get_close_matches(member, snapshot.uuid_by_name, 3)
        meant = f"; is {' or '.join(near)} meant?" if near else "; VMs with a tag are written tag:T"
        raise InvalidInput("members", f"is no VM of this cluster{meant}", member) from None


def _check_preference(rule: Rule, snapshot: ClusterSnapshot, previous: Rule | None) -> None:
    if rule.hard:
        problem = "belongs to a rule that keeps together or apart; where a VM must be is said by its node limit"
        raise InvalidInput("hard", problem)
    if not rule.members:
        raise InvalidInput("members", "must name a VM or a tag at least")
    if not rule.nodes:
        raise InvalidInput("nodes", "must name the nodes with their weights", allowed=sorted(snapshot.nodes))
    for node in rule.nodes:
        if node not in snapshot.nodes and (previous is None or node not in previous.nodes):
            raise InvalidInput("nodes", "is not a node of this cluster", node, sorted(snapshot.nodes))


# --------------------------------------------------------------------------------------------- contradictions


def _refuse_contradictions(rule: Rule, snapshot: ClusterSnapshot) -> None:
    """Two VMs must not have to be together and apart, also not by a chain of rules."""
    if not rule.hard:
        return
    with_it = {**snapshot.rules, rule.name: Stored(layout.rule(rule.name), rule, 0)}
    book = Rulebook(replace(snapshot, rules=with_it))
    hard = [other for other in book.rules.values() if other.hard]
    groups = _groups([other for other in hard if other.kind == "together"], book)
    for apart in (other for other in hard if other.kind == "apart"):
        for keys, rules in groups:
            both = sorted(keys & _keys(apart, book))
            # One tag is as many VMs as may ever have it.
            if len(both) < 2 and not any(key.startswith(TAG_PREFIX) for key in both):
                continue
            if rule.name not in (apart.name, *rules):
                continue
            direct = [name for name in rules if len(_keys(book.rules[name], book).intersection(both)) > 1]
            others = [name for name in (apart.name, *(direct or rules)) if name != rule.name]
            keep = f"rule {others[0]} keeps" if len(others) == 1 else f"rules {listed(sorted(others))} keep"
            said = "apart" if rule.kind == "together" else "together"
            names = [key for key in both if not key.startswith(TAG_PREFIX)] or both
            raise Refused(f"rule {rule.name}", f"{keep} {listed(names)} {said}")


def _groups(together: Iterable[Rule], book: Rulebook) -> list[tuple[frozenset[str], tuple[str, ...]]]:
    """What belongs together, by all rules that overlap: members, and the names of these rules."""
    groups: list[tuple[frozenset[str], tuple[str, ...]]] = []
    for rule in together:
        keys: frozenset[str] = _keys(rule, book)
        names: tuple[str, ...] = (rule.name,)
        apart = []
        for other_keys, other_names in groups:
            if keys.isdisjoint(other_keys):
                apart.append((other_keys, other_names))
            else:
                keys, names = keys | other_keys, (*other_names, *names)
        groups = [*apart, (keys, names)]
    return groups


def _keys(rule: Rule, book: Rulebook) -> frozenset[str]:
    """The VMs that are its members now, and its tags, for those that will be."""
    tags = (member for member in rule.members if member.startswith(TAG_PREFIX))
    return frozenset((*tags, *(vm.name for vm in book.members(rule)), *book.missing(rule)))
