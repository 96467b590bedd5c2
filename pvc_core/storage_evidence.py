# SPDX-License-Identifier: Apache-2.0
"""storage_evidence: when storage that shuts a lost node out proves that its VMs may start elsewhere, and who waits.

A guest that can write to none of its disks any more can run on where it is without harm. That is known of the guests
of a node only if it holds for each that may run there: all of its disks are volumes, and all of them in backends that
can shut a node out. Anything that is not known counts against it.
"""

from __future__ import annotations

from collections.abc import Collection

from pvc_core import layout
from pvc_core.fence_standing import shut_outs_of_fence
from pvc_core.model import FenceStep, VmRecord
from pvc_core.shut_out_record import ShutOut
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.storage import StorageCapability
from pvc_core.storage_reports import BackendReport


def why_no_proof(node: NodeView, guests: Collection[str], snapshot: ClusterSnapshot) -> str:
    """Why storage alone cannot prove the node harmless, as a sentence without a full stop; "" when it can.

    guests: the UUIDs of the VMs that may run there.
    """
    if layout.ledger(node.name) in snapshot.broken:
        return "its ledger does not parse"
    able = _able(snapshot)
    for uuid in sorted(guests):
        stored = snapshot.vms.get(uuid)
        problem = _why_not_vm(stored.value, able) if stored else f"the record of the VM {uuid} cannot be read"
        if problem:
            return problem
    number = node.record.value.fence.number if node.record.value.fence else 0
    for backend in sorted(backends_of(guests, snapshot)):
        earlier = node.record.value.shut_out.get(backend)
        if earlier is not None and earlier.fence != number:
            return f"{backend} has not let its clients in again since it was lost the last time"
    return ""


def _why_not_vm(vm: VmRecord, able: Collection[str]) -> str:
    if not vm.volumes:
        return f"{vm.name} has no volume"
    if not vm.only_volumes:
        return f"{vm.name} may write to more than its volumes, by its definition"
    other = next((volume for volume in vm.volumes if volume.backend not in able), None)
    return f"{vm.name} has {other.title}, and no living node says that {other.backend} can" if other else ""


def backends_of(guests: Collection[str], snapshot: ClusterSnapshot) -> frozenset[str]:
    """The storage backends with volumes of these VMs."""
    vms = [snapshot.vms[uuid].value for uuid in guests if uuid in snapshot.vms]
    return frozenset(volume.backend for vm in vms for volume in vm.volumes)


def proof(node: NodeView, guests: Collection[str], snapshot: ClusterSnapshot) -> str:
    """By what storage has proven that no VM which may run on the node can write any more; "" when it has not."""
    asked = shut_outs_of_fence(node.record.value)
    wanted = sorted(backends_of(guests, snapshot))
    if not wanted or why_no_proof(node, guests, snapshot):
        return ""
    if any(backend not in asked or asked[backend].state != "confirmed" for backend in wanted):
        return ""
    return (
        f"storage has shut it out: its VMs have all their disks in {' and '.join(wanted)}, which takes no write of it"
    )


def to_shut_out(node: NodeView, guests: Collection[str], snapshot: ClusterSnapshot) -> dict[str, ShutOut]:
    """What is written of the backends that are to shut out a node which is known to be off, besides what is confirmed.

    One that is known to be unable is left out; one of which no living node knows more than that it is there is asked.
    """
    before = node.record.value.shut_out
    number = node.record.value.fence.number if node.record.value.fence else 0
    confirmed = {name for name, entry in shut_outs_of_fence(node.record.value).items() if entry.state == "confirmed"}
    tried = set(shut_outs_of_fence(node.record.value)) - confirmed
    wanted = {name for name in backends_of(guests, snapshot) if _may_be_able(name, snapshot)} - confirmed
    return {**before, **{name: ShutOut(fence=number) for name in sorted(wanted | tried)}}


def waits_for(vm: VmRecord, snapshot: ClusterSnapshot) -> str:
    """The storage backend for which a VM of a node that is known to be off waits; "" when there is none."""
    node = snapshot.nodes.get(vm.node)
    if node is None:
        return ""
    fence = node.record.value.fence
    if fence is None or fence.step is not FenceStep.RECOVERING:
        return ""
    own = {volume.backend for volume in vm.volumes}
    asked = shut_outs_of_fence(node.record.value)
    return next((name for name, entry in asked.items() if entry.state == "asking" and name in own), "")


def _reports(snapshot: ClusterSnapshot) -> list[tuple[str, BackendReport]]:
    alive = [node.report.value for node in snapshot.nodes.values() if node.is_alive and node.report is not None]
    return [each for report in alive for each in report.storage.items()]


def _able(snapshot: ClusterSnapshot) -> frozenset[str]:
    return frozenset(
        name for name, report in _reports(snapshot) if StorageCapability.FENCE_CLIENTS in report.capabilities
    )


def _may_be_able(backend: str, snapshot: ClusterSnapshot) -> bool:
    reports = [report for name, report in _reports(snapshot) if name == backend]
    knows = [report for report in reports if report.usable or report.capabilities]
    return backend in _able(snapshot) or (bool(reports) and not knows)
