# SPDX-License-Identifier: Apache-2.0
"""leader_held: held VMs start as soon as what they wait for is there: any candidate, or their home in service.

Everything that may make one appear changes the snapshot (a node returns, memory comes free, a limit is another), so
they are placed anew on each, the most important first, after what drains are about to need, and in one order with the
VMs of lost nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.leader_actions import Policies, StartHeld, drain_of
from pvc_core.leader_recovery import after_loss, still_to_place
from pvc_core.model import NodeMode, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.placement_room import places_in_short, those_with_room
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot


def start_held(
    snapshot: ClusterSnapshot, placer: Placer, policies: Policies, together: Collection[str] = ()
) -> Iterator[StartHeld]:
    """A start for each that has a candidate now. together: the nodes that are `lost_together`."""
    due: dict[str, VmRecord] = {}
    at_home: set[str] = set()
    held = [vm.value for vm in snapshot.vms_by_state.get(VmState.STOPPED, ()) if vm.value.held]
    for record in those_with_room(held, snapshot, placer):
        uuid = record.uuid
        if not _waits(record, snapshot):
            continue
        if _waits_for_any(record) and after_loss(record, snapshot, placer, policies)[0] == "hold":
            if not _is_in_service(record.home, snapshot):
                continue
            at_home.add(uuid)
        due[uuid] = record
    if not due:
        return
    planner = placer.planner(snapshot)
    deque(places_in_short(_leaving(snapshot), snapshot, placer, planner), maxlen=0)  # each takes its place
    recovered = still_to_place(snapshot, placer, policies, together)
    wanted = [_request(record, snapshot, uuid in at_home) for uuid, record in due.items()]
    for decision in places_in_short([*wanted, *recovered], snapshot, placer, planner, told=due):
        if decision.node and decision.uuid in due:
            is_home = decision.uuid in at_home or not _waits_for_any(due[decision.uuid])
            until = "its home is there and has room" if is_home else "a node can take it"
            yield StartHeld(decision.node, decision.uuid, f"it was held until {until}; {decision.reason}", decision)


def _waits_for_any(record: VmRecord) -> bool:
    return record.metadata.held_until == "any"


def _request(record: VmRecord, snapshot: ClusterSnapshot, at_home: bool = False) -> PlacementRequest:
    """For a place where the VM may start: any, or its home, as also where its policy keeps it `at_home`."""
    is_free = _waits_for_any(record) and not at_home
    others = frozenset() if is_free else frozenset(snapshot.nodes) - {record.home}
    return PlacementRequest.for_vm(record, exclude=others)


def _waits(record: VmRecord, snapshot: ClusterSnapshot) -> bool:
    """Whether the VM is off and held; a home that is coming back starts it itself."""
    if not record.held or record.state is not VmState.STOPPED:
        return False
    if record.kept_off or changes.unreadable_ledger(snapshot, record.node):
        return False
    home = snapshot.nodes.get(record.home)
    if _waits_for_any(record):
        return not (home is not None and home.mode is NodeMode.UNFLUSHING and home.is_alive)
    return _is_in_service(record.home, snapshot)


def _is_in_service(name: str, snapshot: ClusterSnapshot) -> bool:
    node = snapshot.nodes.get(name)
    return node is not None and node.mode is NodeMode.READY and node.is_alive


def _leaving(snapshot: ClusterSnapshot) -> Iterator[PlacementRequest]:
    """The VMs that drains have yet to move, each of which needs a place first."""
    for name, node in snapshot.nodes.items():
        if node.mode is NodeMode.FLUSHING:
            for vm in snapshot.vms_by_node.get(name, ()):
                if vm.value.state is VmState.RUNNING and vm.value.uuid not in drain_of(node).stayed:
                    yield PlacementRequest.for_vm(vm.value, exclude=frozenset({name}))


def change_for(action: StartHeld, snapshot: ClusterSnapshot, placer: Placer, now: str) -> Change:
    """The transaction: the VM starts on the node, its home stays. Raises `Refused` or `NoCandidate`."""
    stored = snapshot.vms.get(action.uuid)
    if stored is None:
        raise Refused(action.uuid, "it is gone")
    record = stored.value
    if not _waits(record, snapshot):
        raise Refused(record.name, f"it is {record.state} on {record.node} and does not wait for that")
    if action.node not in snapshot.nodes:
        raise Refused(action.node, "it is gone")
    decision = placer.place(_request(record, snapshot), snapshot, only=action.node)
    decision.raise_if_none()
    ledgers = changes.ledgers_of(snapshot, record.node, action.node)
    change = changes.start_on(stored, action.node, action.reason, now, ledgers, action.decision)
    return changes.on_same_node(change, snapshot, action.node)
