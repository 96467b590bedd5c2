# SPDX-License-Identifier: Apache-2.0
"""plan_document: a plan that can be kept, shown and applied later: its steps, and what it was made from.

The basis says what the plan rests on by content and not by versions of a store: so also a plan that was made from a
snapshot file can be applied to the cluster the file came from, as long as everything is as it was then. Reports are
not part of it: load and free memory change every few seconds, and every step is put to the filters again anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from pvc_core.balance import Recommendation
from pvc_core.model import VmRecord
from pvc_core.planner import Plan
from pvc_core.plugin_types import storage_needs
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF

PlanKind = Literal["flush", "migrate", "move", "balance"]
MOVES_FOR_GOOD: tuple[PlanKind, ...] = ("move", "balance")
"""Plans after which the node that a VM has come to is its home."""

_DIGEST_CHARACTERS = 16
_ENCODER = msgspec.json.Encoder(order="sorted")


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan was made from, each part as a digest: its VMs and nodes by name, the rules, the settings."""

    vms: dict[str, str] = {}
    nodes: dict[str, str] = {}
    rules: str = ""
    settings: str = ""


class PlanDocument(Plan, frozen=True, kw_only=True):
    """A plan with what it is for and what it was made from.

    kind: the command that it plans. subject: the node or VM that it is about; "" for a balance. reason: one sentence.
    spreads: it moves VMs for evenness alone; such plans are not applied one soon after the other.
    """

    kind: PlanKind
    subject: str = ""
    reason: str = ""
    spreads: bool = False
    basis: Basis = Basis()


class BalanceDocument(PlanDocument, frozen=True, kw_only=True):
    """What a balance would do, and what for.

    score_before, score_after: how unevenly the nodes in service are loaded now and when it is done; 0 is perfect.
    repaired: rules and limits that are violated now and will not be; unrepaired: those that stay violated, and why.
    """

    score_before: float = 0.0
    score_after: float = 0.0
    repaired: tuple[str, ...] = ()
    unrepaired: tuple[str, ...] = ()


def balance_document_of(found: Recommendation, snapshot: ClusterSnapshot) -> BalanceDocument:
    """The recommendation as a plan, together with its basis."""
    plan = document_of(found.plan, "balance", "", found.reason, snapshot)
    return BalanceDocument(
        **{name: getattr(plan, name) for name in plan.__struct_fields__ if name != "spreads"},
        spreads=bool(plan.steps) and not found.repaired,
        score_before=found.score_before,
        score_after=found.score_after,
        repaired=found.repaired,
        unrepaired=found.unrepaired,
    )


def document_of(plan: Plan, kind: PlanKind, subject: str, reason: str, snapshot: ClusterSnapshot) -> PlanDocument:
    """The plan together with its basis in the snapshot that it was made from."""
    return PlanDocument(
        steps=plan.steps,
        stay=plan.stay,
        complete=plan.complete,
        proven=plan.proven,
        kind=kind,
        subject=subject,
        reason=reason,
        basis=_basis_of(plan, (subject,) if kind == "flush" else (), snapshot),
    )


def summary_of(plan: Plan) -> str:
    """What a plan comes to, in a few words."""
    parts = [f"{len(plan.steps)} step{'' if len(plan.steps) == 1 else 's'}"]
    if plan.stay:
        parts.append(f"{len(plan.stay)} VM{'' if len(plan.stay) == 1 else 's'} without a place")
    if not plan.complete:
        parts.append("there is no better plan" if plan.proven else "the search ended early, there may be a better plan")
    return ", ".join(parts)


def _basis_of(plan: Plan, more_nodes: Iterable[str], snapshot: ClusterSnapshot) -> Basis:
    nodes = {*more_nodes, *(stay.node for stay in plan.stay)}
    for step in plan.steps:
        nodes |= {step.source, step.target}
    vms = {step.vm for step in plan.steps} | {stay.vm for stay in plan.stay}
    return Basis(
        vms={name: _vm_digest(snapshot.vm(name).value) for name in sorted(vms)},
        nodes={name: _node_digest(snapshot.nodes[name], snapshot) for name in sorted(nodes & snapshot.nodes.keys())},
        rules=_rules_digest(snapshot),
        settings=_digest(snapshot.settings),
    )


def changed_since(basis: Basis, snapshot: ClusterSnapshot) -> tuple[str, ...]:
    """A sentence for each thing that is not as it was when the plan was made; none while the plan still holds."""
    return tuple(_changes(basis, snapshot))


def _changes(basis: Basis, snapshot: ClusterSnapshot) -> Iterator[str]:
    for name, digest in basis.vms.items():
        uuid = snapshot.uuid_by_name.get(name)
        if uuid is None:
            yield f"VM {name} is gone"
        elif _vm_digest(snapshot.vms[uuid].value) != digest:
            vm = snapshot.vms[uuid].value
            yield f"VM {name} is not as it was: it is {vm.state} on {vm.node} now, with {vm.memory_mib} MiB"
    for name, digest in basis.nodes.items():
        if name not in snapshot.nodes:
            yield f"node {name} is gone"
        elif _node_digest(snapshot.nodes[name], snapshot) != digest:
            node = snapshot.nodes[name]
            reserved = f"{len(node.reserved.vms)} VMs with {node.reserved.memory_mib} MiB are assigned to it"
            yield f"node {name} is not as it was: it is {node.mode} and {node.liveness} now, {reserved}"
    if basis.rules != _rules_digest(snapshot):
        yield "the cluster's rules have changed"
    if basis.settings != _digest(snapshot.settings):
        yield "the cluster's settings have changed"


# -------------------------------------------------------------------------------------------------- digests


def _digest(facts: object) -> str:
    return hashlib.sha256(_ENCODER.encode(facts)).hexdigest()[:_DIGEST_CHARACTERS]


def _vm_digest(vm: VmRecord) -> str:
    """Of what a placement asks of a VM, and where it is."""
    metadata = vm.metadata
    chosen = [metadata.node_limit, metadata.node_selector, metadata.priority, metadata.tags, metadata.recovery_policy]
    volumes = [storage_needs(vm)] if vm.volumes else []
    return _digest([vm.name, vm.node, vm.home, vm.memory_mib, vm.vcpus, vm.state in OFF, chosen, *volumes])


def _node_digest(node: NodeView, snapshot: ClusterSnapshot) -> str:
    """Of what a placement asks of a node but its load: its size, whether it takes VMs, and those it has."""
    record, report = node.record.value, node.report.value if node.report else None
    size_mib = report.memory_total_mib if report else 0
    vms = {
        snapshot.vms[uuid].value.name if uuid in snapshot.vms else uuid: [held.memory_mib, held.vcpus, held.incoming]
        for uuid, held in node.reserved.vms.items()
    }
    able = [record.mode, record.fenced, record.maintenance, node.is_alive]
    return _digest([record.name, able, record.labels, size_mib, report.cores if report else 0, vms])


def _rules_digest(snapshot: ClusterSnapshot) -> str:
    """Of what the rules say, and not of who was placed under them."""
    return _digest({name: msgspec.structs.replace(stored.value, guard={}) for name, stored in snapshot.rules.items()})
