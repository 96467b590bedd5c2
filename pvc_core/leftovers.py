# SPDX-License-Identifier: Apache-2.0
"""leftovers: when a VM may be undefined though its guest may still run, and what its node does about that guest later.

A node that is lost cannot be asked. So its ledger keeps the UUID as a leftover, written in the very transaction that
forgets the VM. The node takes no VM then; when its daemon is there again, that ends the guest, and strikes the leftover
out once it has seen that nothing of it runs. A record with this UUID that exists again comes first: what it says is
done, and the leftover has no meaning any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.codec import Stored
from pvc_core.errors import Refused
from pvc_core.events import EventKind, Happening
from pvc_core.fence_standing import is_being_recovered
from pvc_core.model import Ledger, VmRecord, VmState
from pvc_core.snapshot import ClusterSnapshot, NodeView

# ------------------------------------------------------------------------------------------ undefining by force


def refuse_undefine(record: VmRecord, snapshot: ClusterSnapshot) -> Refused:
    """Why a VM that is not off cannot be undefined, and what can be done."""
    node = snapshot.nodes.get(record.node)
    if node is None or why_not_by_force(record, node):
        return Refused(record.name, f"is {record.state}; stop it before it is undefined")
    option = f"`pvc vm undefine {record.name} --force` forgets it all the same"
    return Refused(
        record.name, f"is {record.state} on {record.node}, which is lost: its guest may still run there; {option}"
    )


def why_not_by_force(record: VmRecord, node: NodeView) -> str:
    """Why a VM that is not off is not undefined by force, its node being this one; "" when it is."""
    name, where = record.name, f"is {record.state} on {node.name}"
    if node.is_alive:
        first = "`pvc vm start` cancels the migration; " if record.state is VmState.MIGRATING else ""
        return f"{where}, whose daemon is alive: {first}`pvc vm stop {name}` ends its guest, then undefine it"
    if node.record.value.left:
        fences = f"`pvc node fence {node.name}` if the host is dead"
        return f"{where}, whose daemon was stopped on purpose: start that and stop {name}, or {fences}"
    if is_being_recovered(node.record.value):
        return f"{where}, which is known to be off: `pvc vm stop {name}`, then undefine it"
    return ""


def by_force(record: VmRecord) -> str:
    """The sentence of a VM that is undefined by force."""
    where = " or ".join(changes.reservations_of(record))
    return f"{record.name} is undefined by force; its guest may still run on {where} and write to its disks"


# --------------------------------------------------------------------------------------- what the agent does


@dataclass(frozen=True)
class EndLeftover:
    """Cut the power of the guest, which still runs."""

    uuid: str
    name: str


@dataclass(frozen=True)
class StrikeOut:
    """Forget the leftover: nothing of it runs here."""

    uuid: str
    name: str
    reason: str


@dataclass(frozen=True)
class LeftoverDecision:
    """Each guest is ended by itself; what is struck out is so in one transaction."""

    ends: tuple[EndLeftover, ...]
    strikes: tuple[StrikeOut, ...]


def decide(
    ledger: Ledger, active: Collection[str], without_record: Mapping[str, str], busy: Collection[str]
) -> LeftoverDecision:
    """What to do about the leftovers of this node. active: UUIDs of its domains; without_record: of those, the unknown.

    busy: VMs with an action under way, which may be about to create or to end the domain.
    """
    actions = [*_actions(ledger, active, without_record, busy)]
    return LeftoverDecision(
        tuple(action for action in actions if isinstance(action, EndLeftover)),
        tuple(action for action in actions if isinstance(action, StrikeOut)),
    )


def _actions(
    ledger: Ledger, active: Collection[str], without_record: Mapping[str, str], busy: Collection[str]
) -> Iterator[EndLeftover | StrikeOut]:
    for uuid, name in sorted(ledger.leftovers.items()):
        if uuid in busy:
            continue
        if uuid in without_record:
            yield EndLeftover(uuid, name)
        elif uuid in active:
            yield StrikeOut(uuid, name, f"{name} is defined anew: its record says what becomes of its guest")
        else:
            yield StrikeOut(uuid, name, f"{name}, undefined by force, does not run here")


def struck_out(strikes: Iterable[StrikeOut], node: str, stored: Stored[Ledger] | None) -> Change:
    """The transaction; no operations when the ledger holds none of them any more."""
    held = stored.value.leftovers if stored else {}
    due = [strike for strike in strikes if strike.uuid in held]
    reason = "; ".join(strike.reason for strike in due)
    if not due:
        return Change((), reason)
    gone = {strike.uuid for strike in due}
    left = {uuid: name for uuid, name in held.items() if uuid not in gone}
    happenings = tuple(
        Happening(EventKind.VM_LEFTOVER_GONE, strike.reason, strike.name, strike.uuid, node) for strike in due
    )
    return Change((changes.edit_ledger(node, stored, leftovers=left),), reason, happenings=happenings)
