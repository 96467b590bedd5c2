# SPDX-License-Identifier: Apache-2.0
"""played_agents: node agents without nodes: what each would find out next, and what its node would report.

For clusters that are played step by step: everything an agent is asked to do succeeds at once, but for the VMs (by
name) in `stubborn` (never power off), `immovable` (migrations fail) and `unstartable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored, encode
from pvc_core.model import DomainReport, NodeReport, VmRecord, VmState
from pvc_core.ports import Entry
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.testing.builders import WITH_A_DOMAIN
from pvc_core.vm_states import VmEvent

S, E = VmState, VmEvent


@dataclass
class PlayedAgents:
    """How the guests of a played cluster behave."""

    stubborn: set[str] = field(default_factory=set)
    immovable: set[str] = field(default_factory=set)
    unstartable: set[str] = field(default_factory=set)

    def next_event(self, vm: VmRecord) -> VmEvent | None:
        """What the agent of this VM finds out next, if it is not waiting for anything."""
        match vm.state:
            case S.STARTING:
                return E.GAVE_UP if vm.name in self.unstartable else E.STARTED
            case S.SHUTTING_DOWN | S.RESTARTING:
                return None if vm.name in self.stubborn and not vm.forced else E.ENDED
            case S.MIGRATING if vm.cancelling:
                return E.MIGRATION_CANCELLED
            case S.MIGRATING:
                return E.MIGRATION_FAILED if vm.name in self.immovable else E.ARRIVED
        return None


def reports(
    snapshot: ClusterSnapshot, idle: Mapping[str, NodeReport] | None = None
) -> Iterator[tuple[Stored[NodeReport], NodeReport]]:
    """Every node's last report and the one after it: all guests are busy, and the load average knows it already.

    idle: what nodes report when no guest runs, by name; all memory available and no load unless given.
    """
    for node in snapshot.nodes.values():
        if node.report is not None:
            last = node.report.value
            empty = msgspec.structs.replace(last, memory_available_mib=last.memory_total_mib, load_1m=0.0)
            yield node.report, _report_of(node, (idle or {}).get(node.name, empty), snapshot)


def _report_of(node: NodeView, idle: NodeReport, snapshot: ClusterSnapshot) -> NodeReport:
    here = [vm.value for vm in snapshot.vms_by_node.get(node.name, ()) if vm.value.state in WITH_A_DOMAIN]
    return msgspec.structs.replace(
        idle,
        domains={vm.uuid: DomainReport(state="running", memory_mib=vm.memory_mib, vcpus=vm.vcpus) for vm in here},
        memory_available_mib=idle.memory_available_mib - sum(vm.memory_mib for vm in here),
        load_1m=idle.load_1m + sum(vm.vcpus for vm in here),
    )


def xml(name: str = "web1", memory_mib: int = 512, vcpus: int = 1, uuid: str = "") -> str:
    """The smallest definition that is one."""
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    return f"<domain><name>{name}</name>{identity}<memory unit='MiB'>{memory_mib}</memory><vcpu>{vcpus}</vcpu></domain>"


def entries_of(snapshot: ClusterSnapshot, definition: Callable[..., str] = xml) -> dict[str, Entry]:
    """A snapshot as a store holds it, the VMs' definitions and names included."""
    stored: list[Stored[Any]] = list(snapshot.vms.values())
    for node in snapshot.nodes.values():
        stored += [part for part in (node.record, node.ledger, node.report, node.member) if part]
    entries = {part.key: Entry(part.key, encode(part.value), 0) for part in stored}
    for vm in (record.value for record in snapshot.vms.values()):
        text = definition(vm.name, vm.memory_mib, vm.vcpus, vm.uuid)
        entries[layout.definition(vm.uuid)] = Entry(layout.definition(vm.uuid), text.encode(), 0)
        entries[layout.vm_name(vm.name)] = Entry(layout.vm_name(vm.name), vm.uuid.encode(), 0)
    entries[layout.SETTINGS] = Entry(layout.SETTINGS, encode(snapshot.settings), 0)
    return entries
