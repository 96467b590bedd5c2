# SPDX-License-Identifier: Apache-2.0
"""leader_retry: a VM that has failed on its node is tried on another, as often as it or the cluster allows.

What makes a guest fail may be the node's (a device, a network, a broken disk) or its own; then it fails everywhere.
So the nodes on which it has failed are remembered in its record until it has run for long or a person takes over.
"""

from __future__ import annotations

from collections.abc import Iterator

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.leader_actions import Policies, RetryVm
from pvc_core.leader_recovery import after_loss
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import VmEvent


def retry_failed(snapshot: ClusterSnapshot, placer: Placer, policies: Policies) -> Iterator[RetryVm]:
    """A start elsewhere for each failed VM that may have one and has a candidate."""
    failed = [vm.value for vm in snapshot.vms_by_state.get(VmState.FAILED, ()) if _may_be_tried(vm.value, snapshot)]
    due = [record for record in failed if after_loss(record, snapshot, placer, policies)[0] == "restart"]
    for decision in placer.place_many((_request(record) for record in due), snapshot) if due else ():
        if decision.node:
            failed_on = ", ".join(snapshot.vms[decision.uuid].value.failed_on)
            reason = f"it failed on {failed_on}; {decision.reason}"
            yield RetryVm(decision.node, decision.uuid, reason, decision)


def relocations(record: VmRecord, settings: Settings) -> int:
    """On how many other nodes this VM is tried when it has failed."""
    own = record.metadata.relocations
    return settings.relocations if own is None else own


def _may_be_tried(record: VmRecord, snapshot: ClusterSnapshot) -> bool:
    is_due = record.state is VmState.FAILED and 0 < len(record.failed_on) <= relocations(record, snapshot.settings)
    return is_due and not record.kept_off and not changes.unreadable_ledger(snapshot, record.node)


def _request(record: VmRecord) -> PlacementRequest:
    return PlacementRequest.for_vm(record, exclude=frozenset({record.node, *record.failed_on}))


def change_for(action: RetryVm, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """The transaction: the VM starts on the node, its home stays. Raises `Refused` or `NoCandidate`."""
    stored = snapshot.vms.get(action.uuid)
    if stored is None:
        raise Refused(action.uuid, "it is gone")
    record = stored.value
    if not _may_be_tried(record, snapshot):
        raise Refused(record.name, f"it is {record.state} on {record.node}, and not to be tried elsewhere")
    if action.node not in snapshot.nodes:
        raise Refused(action.node, "it is gone")
    placer.place(_request(record), snapshot, only=action.node).raise_if_none()
    ledgers = changes.ledgers_of(snapshot, record.node, action.node)
    change = changes.of_event(
        stored, VmEvent.RETRY, action.reason, now, ledgers, target=action.node, decision=action.decision
    )
    return changes.on_same_node(change, snapshot, action.node)
