# SPDX-License-Identifier: Apache-2.0
"""admission: whether a VM may take the place chosen for it, when others might then not survive the loss of a node.

A cluster that can bring every VM back, whichever node is lost (N+1), stops being one with a single VM too many, and
that shows only when a node is lost. So whoever places a VM by command is told, or refused, as the setting `admission`
says. Two clusters are compared, without the VM in its new place and with it; only VMs that would come back before and
would not after count. What was so already is nobody's fault.

- Who is looked at: VMs that are defined, started, migrated or moved by command. A VM that is off counts as well, since
  its place is reserved. What the leader does (recovery, flush, ready, held and autostart VMs, plans) is never refused:
  it has to put VMs where there is room. Nor is a VM that goes home, or leaves a node out of service; that is warned of.
- What does not count: a VM whose limit leaves it one node. It was told to go down with that node.
- With one node in service nothing is looked at: no VM can come back. With two, a loss counts only as long as it was
  survivable before: two nodes that are both more than half full cannot stand in for each other, and saying so with
  every further VM would help nobody.
- What it costs is bounded: the loss of the VM's own node is looked at first, then those of the nodes that hold most,
  until places for `MOST_VMS` VMs were looked for, or `ENOUGH_LOSSES` or `ENOUGH_STRANDED` were found. So of a cluster
  that is larger, or that full, only a part is looked at; `pvc cluster capacity` looks at all of it.

It is decided on a snapshot, and the transaction that places the VM checks the versions of the records it touches, not
of the whole cluster: two VMs that are placed on different nodes at the same moment may each be admitted and be one too
many together. So admission is no invariant, as limits, hard rules and reservations are. It keeps the margin; the margin
is shown by `pvc cluster capacity`, and the next command is judged with both VMs in mind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from pvc_core import changes, layout
from pvc_core.capacity import NodeLoss, losses
from pvc_core.codec import Stored
from pvc_core.errors import NotAdmitted
from pvc_core.limits import is_outside_limit, nodes_within
from pvc_core.model import Ledger, Reservation, VmRecord
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest
from pvc_core.rules import listed
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF

MOST_VMS = 4000
"""About a tenth of a second."""
VMS_AT_A_TIME = 250
ENOUGH_STRANDED = 200
ENOUGH_LOSSES = 3
"""A sentence names no more."""
PLACES_TRIED = 3
"""How many other places are tried for a VM that is refused the one it was to have."""


@dataclass(frozen=True)
class Endangered:
    """What a placement costs: if `node` were lost, these `vms` (names) would not come back, which would without it.

    proven: it is certain. False: the search for places for all ended early, as that of a recovery might.
    """

    node: str
    vms: tuple[str, ...]
    proven: bool = True

    def sentence(self) -> str:
        """For a person, with the command that says more."""
        unsure = "" if self.proven else ", as far as was searched"
        return (
            f"if {self.node} were lost, {listed(self.vms)} would not come back{unsure}; "
            f"see `pvc cluster capacity --node {self.node}`"
        )


def admit(after: VmRecord, snapshot: ClusterSnapshot, placer: Placer, *, may_refuse: bool = True) -> tuple[str, ...]:
    """Sentences on what is endangered by the VM as it will be once it is in its place; as the setting says.

    may_refuse: False where a refusal would do harm; what would be refused is only warned of. Raises `NotAdmitted`.
    """
    setting = snapshot.settings.admission
    if setting == "off":
        return ()
    found = endangered(after, snapshot, placer)
    if found and setting == "refuse" and may_refuse and not _has_to_leave(after, snapshot, placer):
        lost = {one.node: one.vms for one in found}
        raise NotAdmitted(after.name, after.node, lost, _elsewhere(after, snapshot, placer))
    return tuple(one.sentence() for one in found)


def _has_to_leave(after: VmRecord, snapshot: ClusterSnapshot, placer: Placer) -> bool:
    """Whether the VM runs where it should not: on a node out of service, or outside its limit."""
    stored = snapshot.vms.get(after.uuid)
    if stored is None or stored.value.state in OFF:
        return False
    return stored.value.node not in in_service(snapshot, placer) or is_outside_limit(stored.value, snapshot)


def in_service(snapshot: ClusterSnapshot, placer: Placer) -> frozenset[str]:
    """The nodes that would take a VM without wishes if they were empty."""
    anyone = PlacementRequest(vm="", uuid="", memory_mib=0, vcpus=0)
    names = tuple(placer.capacities(snapshot))
    return frozenset(names[node] for node in placer.empty_nodes(snapshot).opening(anyone).nodes)


def endangered(after: VmRecord, snapshot: ClusterSnapshot, placer: Placer) -> tuple[Endangered, ...]:
    """The losses that the cluster would survive less well with the VM as it is in `after`; its own node's first."""
    nodes = len(in_service(snapshot, placer))
    if nodes < 2:
        return ()
    changed = _with_vm(after, snapshot)
    found: list[Endangered] = []
    stranded = 0
    for lost in in_turn(after, changed, placer):
        then = {node: loss for node, loss in losses(changed, placer, lost).items() if not loss.survivable}
        now = losses(snapshot, placer, then)
        for node, loss in then.items():
            before = _counted(now[node], snapshot)
            if nodes == 2 and before:
                continue
            new = _new(_counted(loss, changed), before)
            if after.name in new and _was_stranded_already(after, snapshot, placer):
                new = tuple(vm for vm in new if vm != after.name)
            if new:
                found.append(Endangered(node, new, loss.proven))
        stranded += sum(len(loss.stranded) for loss in then.values())
        if len(found) >= ENOUGH_LOSSES or stranded >= ENOUGH_STRANDED:
            break
    return tuple(found[:ENOUGH_LOSSES])


def in_turn(
    after: VmRecord,
    snapshot: ClusterSnapshot,
    placer: Placer,
    most_vms: int = MOST_VMS,
    vms_at_a_time: int = VMS_AT_A_TIME,
) -> Iterator[Sequence[str]]:
    """The nodes whose losses are looked at, a few at a time: the VM's own, then those that hold most."""
    capacities = placer.capacities(snapshot)
    others = (node for node in snapshot.vms_by_node if node in capacities and node != after.node)
    order = [after.node, *sorted(others, key=lambda node: (-capacities[node].assigned_mib, node))]
    some: list[str] = []
    vms = looked_at = 0
    for node in order:
        some.append(node)
        vms += len(snapshot.vms_by_node.get(node, ()))
        if vms >= vms_at_a_time:
            yield some
            looked_at += vms
            some, vms = [], 0
            if looked_at >= most_vms:
                return
    if some:
        yield some


def _counted(loss: NodeLoss, snapshot: ClusterSnapshot) -> dict[str, int]:
    """The VMs that would not come back although their limit leaves them other nodes, with their priorities."""
    found = {}
    for stranded in loss.stranded:
        metadata = snapshot.vm(stranded.vm).value.metadata
        if len(nodes_within(metadata.node_limit, snapshot)) > 1:
            found[stranded.vm] = metadata.priority
    return found


def _new(after: Mapping[str, int], before: Mapping[str, int]) -> tuple[str, ...]:
    """Who is left out now and was not, unless as many of the same priorities were left out: others, but no more."""
    if sorted(after.values(), reverse=True) <= sorted(before.values(), reverse=True):
        return ()
    return tuple(vm for vm in after if vm not in before)


def _was_stranded_already(after: VmRecord, snapshot: ClusterSnapshot, placer: Placer) -> bool:
    """Whether the VM itself would not come back from where it is now."""
    stored = snapshot.vms.get(after.uuid)
    if stored is None or stored.value.node not in snapshot.nodes:
        return False
    here = losses(snapshot, placer, [stored.value.node])[stored.value.node]
    return any(stranded.vm == stored.value.name for stranded in here.stranded)


def _elsewhere(after: VmRecord, snapshot: ClusterSnapshot, placer: Placer) -> str:
    """A node on which the VM would be admitted, by its selector; "" when none of the best few is one."""
    stored = snapshot.vms.get(after.uuid)
    leaves = {stored.value.node} if stored and stored.value.state not in OFF else set()
    request = PlacementRequest.for_vm(after, exclude=frozenset({after.node, *leaves}))
    for candidate in [one.node for one in placer.place(request, snapshot).ranking][:PLACES_TRIED]:
        if not endangered(msgspec.structs.replace(after, node=candidate), snapshot, placer):
            return candidate
    return ""


# ------------------------------------------------------------------------------------ the cluster with the VM


def _with_vm(after: VmRecord, snapshot: ClusterSnapshot) -> ClusterSnapshot:
    """The cluster once the VM is as in `after`, its reservations with it."""
    stored = snapshot.vms.get(after.uuid)
    nodes = dict(snapshot.nodes)
    if stored is not None:
        for name in changes.reservations_of(stored.value):
            if name in nodes:
                nodes[name] = _with_reservation(nodes[name], after.uuid, None)
    for name, reservation in changes.reservations_of(after).items():
        nodes[name] = _with_reservation(nodes[name], after.uuid, reservation)
    new = replace(stored, value=after) if stored else Stored(layout.vm(after.uuid), after, 0, b"")
    return replace(snapshot, nodes=nodes, vms={**snapshot.vms, after.uuid: new})


def _with_reservation(view: NodeView, uuid: str, reservation: Reservation | None) -> NodeView:
    vms = {other: held for other, held in view.reserved.vms.items() if other != uuid}
    if reservation is not None:
        vms[uuid] = reservation
    ledger = Ledger(vms=vms)
    stored = replace(view.ledger, value=ledger) if view.ledger else Stored(layout.ledger(view.name), ledger, 0, b"")
    return replace(view, ledger=stored)
