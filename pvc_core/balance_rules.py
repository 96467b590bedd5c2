# SPDX-License-Identifier: Apache-2.0
"""balance_rules: what the cluster's rules mean for VMs that may be moved, as columns: who with whom, and where not.

A balance breaks no rule, soft ones included: what is to be together stays together by staying, what is to be apart
keeps its distance also from where others have only just left, and nothing goes to a node that it prefers less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pvc_core.model import Rule, VmRecord
from pvc_core.rules import Rulebook, is_active, sides


@dataclass(frozen=True, eq=False)
class Bond:
    """A rule as it binds VMs and nodes, by index; equal to itself alone.

    vms: the members that may be moved. elsewhere: the nodes where its other active members are, once for each; -1 for
    one that is not in service.
    """

    rule: Rule
    vms: tuple[int, ...]
    elsewhere: tuple[int, ...]


def bonds_of(book: Rulebook, vms: Sequence[VmRecord], nodes: Mapping[str, int]) -> tuple[Bond, ...]:
    """The rules of the cluster that are about VMs which may be moved."""
    indices = {vm.uuid: index for index, vm in enumerate(vms)}
    bonds = []
    for rule in book.rules.values():
        members = book.members(rule)
        mine = tuple(indices[vm.uuid] for vm in members if vm.uuid in indices)
        others = (vm for vm in members if vm.uuid not in indices and is_active(vm))
        if mine:
            elsewhere = tuple(nodes.get(node, -1) for vm in others for node in sorted(sides(vm)))
            bonds.append(Bond(rule, mine, elsewhere))
    return tuple(bonds)


def within_rules(
    bonds: Sequence[Bond], at: Sequence[int], may: Sequence[tuple[int, ...]], nodes: Sequence[str]
) -> tuple[tuple[int, ...], ...]:
    """Where each VM may still go so that no rule is broken, whatever becomes of its rivals."""
    left = list(may)
    for bond in bonds:
        for vm in bond.vms:
            if bond.rule.kind == "together":
                left[vm] = ()
            elif bond.rule.kind == "apart":
                left[vm] = tuple(node for node in left[vm] if node not in bond.elsewhere)
            else:
                weights = [bond.rule.nodes.get(name, 0.0) for name in nodes]
                left[vm] = tuple(node for node in left[vm] if weights[node] >= weights[at[vm]])
    return tuple(left)


def rivals_of(bonds: Sequence[Bond]) -> dict[int, frozenset[int]]:
    """Per VM those that are to be apart from it."""
    rivals: dict[int, frozenset[int]] = {}
    for bond in bonds:
        for vm in bond.vms if bond.rule.kind == "apart" else ():
            rivals[vm] = rivals.get(vm, frozenset()) | (frozenset(bond.vms) - {vm})
    return rivals
