# SPDX-License-Identifier: Apache-2.0
"""balance_violations: what is violated before and after a balance, in sentences, and why some of it stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from pvc_core.balance_columns import BalanceColumns
from pvc_core.balance_repair import Outside, Violated
from pvc_core.model import VmRecord
from pvc_core.placement import Placer
from pvc_core.planner import Stay
from pvc_core.plugin_types import PlacementRequest
from pvc_core.rules import violations
from pvc_core.snapshot import ClusterSnapshot

InVain = Mapping[Violated, str]
"""Violations that stay, and why."""
Places = Mapping[str, str]
"""Nodes by the UUIDs of the VMs that go there."""


@dataclass(frozen=True)
class Outcome:
    """repaired: what is violated no more. unrepaired: what still is, and why. stay: the VMs outside their limits."""

    repaired: tuple[str, ...]
    unrepaired: tuple[str, ...]
    stay: tuple[Stay, ...]


@dataclass(frozen=True)
class _Violation:
    """A limit or rule that is violated. key: what tells it from others before and after."""

    key: tuple[str, ...]
    sentence: str
    vm: VmRecord | None = None


def outcome(
    snapshot: ClusterSnapshot, placer: Placer, columns: BalanceColumns, in_vain: InVain, places: Places
) -> Outcome:
    """What becomes of everything that is violated now when the VMs are at these places."""
    before = {one.key: one for one in _violated(snapshot, columns, {})}
    moved = {
        uuid: replace(vm, value=msgspec.structs.replace(vm.value, node=places[uuid])) if uuid in places else vm
        for uuid, vm in snapshot.vms.items()
    }
    after = {one.key: one for one in _violated(replace(snapshot, vms=moved), columns, places)}
    why = _reasons(columns, in_vain)
    unrepaired, stay = [], []
    for key, left in after.items():
        if key not in before:
            reason = "it gives way to what is hard"
        elif left.vm is not None:
            reason = _why_outside(left.vm, why.get(key, ""), snapshot, placer)
            stay.append(Stay(vm=left.vm.name, node=left.vm.node, reason=f"outside its limit; {reason}"))
        else:
            reason = why.get(key[:1], "none of these VMs can be migrated now")
        unrepaired.append(f"{left.sentence}; {reason}")
    repaired = tuple(one.sentence for key, one in before.items() if key not in after)
    return Outcome(repaired, tuple(unrepaired), tuple(stay))


def _violated(snapshot: ClusterSnapshot, columns: BalanceColumns, places: Places) -> Iterator[_Violation]:
    outside = [columns.vms[vm] for vm in columns.outside if columns.vms[vm].uuid not in places]
    for vm in sorted([*outside, *columns.bound_outside], key=lambda vm: vm.name):
        limit = ", ".join(vm.metadata.node_limit)
        yield _Violation(("", vm.uuid), f"{vm.name} is on {vm.node}, outside its limit ({limit})", vm)
    for broken in violations(snapshot):
        where = broken.nodes if len(broken.nodes) == 1 else ()
        yield _Violation((broken.rule, *where), f"rule {broken.rule}: {broken.reason}")


def _reasons(columns: BalanceColumns, in_vain: InVain) -> dict[tuple[str, ...], str]:
    """Why the search found no way, by the keys of limits and the first part of those of rules."""
    found: dict[tuple[str, ...], str] = {}
    for violated, why in in_vain.items():
        if isinstance(violated, Outside):
            found["", columns.vms[violated.vm].uuid] = why
        else:
            found[(violated.rule.name,)] = why
    return found


def _why_outside(vm: VmRecord, why: str, snapshot: ClusterSnapshot, placer: Placer) -> str:
    if vm.metadata.migration_method == "shutdown":
        return "it would have to be restarted elsewhere, which a balance never does"
    request = PlacementRequest.for_vm(vm, exclude=frozenset({vm.node}))
    decision = placer.place(request, snapshot)
    return why if decision.node else f"{decision.reason}; {why}"
