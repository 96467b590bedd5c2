# SPDX-License-Identifier: Apache-2.0
"""snapshot_file: the cluster as a file that travels: nodes, VMs, rules and settings, in YAML or JSON.

The same format describes the cluster of a simulated scenario, so a real cluster can be played there and a
scenario can be planned without a cluster. It holds what decisions are made from and nothing that identifies
guests: no UUIDs, definitions or addresses. A VM that migrates is written as running where it comes from.

    nodes: {hv1: {memory_mib: 4096, cores: 4}}
    vms: {web1: {node: hv1, memory_mib: 512}}
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.errors import InvalidInput
from pvc_core.model import (
    DomainReport,
    HeldUntil,
    Ledger,
    Member,
    MigrationMethod,
    Name,
    NodeMode,
    NodeRecord,
    NodeReport,
    OnPoweroff,
    Reservation,
    Rule,
    Settings,
    VmMetadata,
    VmRecord,
    VmState,
)
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF
from pvc_core.yaml_text import read_yaml

_NAMESPACE = uuid.UUID("0b7cc2d6-4f0b-4a3f-9d0e-7f2f1f0c4f56")
T = TypeVar("T")
Positive = Annotated[int, msgspec.Meta(ge=1)]


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One node. fence and watchdog matter to a simulation only; available_mib: None = what its VMs leave."""

    memory_mib: Positive
    cores: Positive = 1
    power: Literal["on", "off"] = "on"
    daemon: Literal["on", "off"] = "on"
    fence: Literal["confirms", "refuses", "silent", "none"] = "confirms"
    watchdog: bool = False
    mode: NodeMode = NodeMode.READY
    labels: dict[str, str] = {}
    maintenance: bool = False
    fenced: bool = False
    load_1m: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    available_mib: int | None = None


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What goes wrong with a VM in a simulation."""

    start_failures: int = 0
    migrate_failures: int = 0
    ignores_shutdown: bool = False
    starts_only_on: str = ""


class VmEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One VM. home: "" = its node. The other fields are its metadata."""

    node: str
    memory_mib: Positive
    vcpus: Positive = 1
    state: Literal["running", "stopped", "disabled"] = "running"
    home: str = ""
    held: bool = False
    node_limit: tuple[str, ...] = ()
    node_selector: str = ""
    node_autostart: bool = False
    recovery_policy: str = "restart"
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    migration_method: MigrationMethod = "none"
    on_poweroff: OnPoweroff = "restart"
    start_failures: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    relocations: Annotated[int, msgspec.Meta(ge=0, le=16)] | None = None
    held_until: HeldUntil = "home"
    tags: tuple[str, ...] = ()
    faults: Faults = Faults()


class MaintenanceEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The maintenance of the whole cluster. left_s: None = until somebody ends it."""

    reason: str = ""
    left_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole file."""

    settings: Settings = Settings()
    nodes: dict[Name, NodeEntry] = {}
    vms: dict[Name, VmEntry] = {}
    rules: tuple[Rule, ...] = ()
    maintenance: MaintenanceEntry | None = None


# ------------------------------------------------------------------------------------------------- reading


def read_snapshot(text: str, origin: str = "snapshot") -> ClusterSnapshot:
    """The cluster that a file describes. Raises `InvalidInput` naming `origin` and the place in it."""
    return snapshot_of(parse_file(text, origin), origin)


def parse_file(text: str, origin: str = "snapshot") -> SnapshotFile:
    """The file's entries, checked one by one. Raises as `read_snapshot`."""
    document = read_yaml(text, origin)
    if not isinstance(document, dict):
        raise InvalidInput(origin, "must hold nodes and vms by name")
    # YAML reads a bare on and off as truth values; here they are words.
    for node in _entries(document, "nodes"):
        for switch in ("power", "daemon"):
            if isinstance(node.get(switch), bool):
                node[switch] = "on" if node[switch] else "off"
    _refuse_unknown(document, SnapshotFile, origin)
    for section, kind in (("nodes", NodeEntry), ("vms", VmEntry)):
        for name, entry in (document.get(section) or {}).items() if isinstance(document.get(section), dict) else ():
            _refuse_unknown(entry, kind, f"{origin}: {section}.{name}")
            _converted(entry, kind, f"{origin}: {section}.{name}")
    for index, entry in enumerate(document.get("rules") or () if isinstance(document.get("rules"), list) else ()):
        _refuse_unknown(entry, Rule, f"{origin}: rules[{index}]")
    _refuse_unknown(document.get("settings"), Settings, f"{origin}: settings")
    _refuse_unknown(document.get("maintenance"), MaintenanceEntry, f"{origin}: maintenance")
    return _converted({key: value for key, value in document.items() if value is not None}, SnapshotFile, origin)


def _converted(found: object, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        place = f"{where}{'.' if '.' in where else ': '}{path.strip('`')}" if path else where
        raise InvalidInput(place, problem.lower()) from error


def _entries(document: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    found = document.get(section)
    return [entry for entry in found.values() if isinstance(entry, dict)] if isinstance(found, dict) else []


def _refuse_unknown(entry: object, kind: type[msgspec.Struct], where: str) -> None:
    """A key nobody knows is a mistake; most are misspelt."""
    known = kind.__struct_encode_fields__
    for key in entry if isinstance(entry, dict) else ():
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            meant = f"; is {near[0]} meant?" if near else ""
            raise InvalidInput(where, f"has no key {key!r}{meant}", allowed=() if near else known)


def snapshot_of(file: SnapshotFile, origin: str = "snapshot") -> ClusterSnapshot:
    """A cluster as the file describes it: VMs stand in their nodes' ledgers, those that run in the reports too."""
    records = {name: _record(name, entry) for name, entry in file.vms.items()}
    for name, entry in file.vms.items():
        for field, node in (("node", entry.node), ("home", entry.home or entry.node)):
            if node not in file.nodes:
                near = get_close_matches(node, file.nodes, 1)
                raise InvalidInput(f"{origin}: vms.{name}.{field}", "is no node of this file", node, near)
    for index, rule in enumerate(file.rules):
        if rule.name in (other.name for other in file.rules[:index]):
            raise InvalidInput(f"{origin}: rules[{index}].name", "is the name of another rule as well", rule.name)
    by_node: dict[str, list[VmRecord]] = {name: [] for name in file.nodes}
    for record in records.values():
        by_node[record.node].append(record)
    return ClusterSnapshot(
        nodes={name: _node(name, file.nodes[name], by_node[name]) for name in sorted(file.nodes)},
        vms={record.uuid: Stored(layout.vm(record.uuid), record, 0) for record in records.values()},
        rules={rule.name: Stored(layout.rule(rule.name), rule, 0) for rule in file.rules},
        maintenance=_maintenance(file.maintenance),
        settings=file.settings,
        settings_version=0,
    )


def _maintenance(entry: MaintenanceEntry | None) -> Stored[MaintenanceRecord] | None:
    if entry is None:
        return None
    pause = Pause(reason=entry.reason, left_s=entry.left_s)
    return Stored(layout.MAINTENANCE, MaintenanceRecord(pause=pause), 0)


def _record(name: str, entry: VmEntry) -> VmRecord:
    metadata = {field: getattr(entry, field) for field in VmMetadata.__struct_fields__ if hasattr(entry, field)}
    return VmRecord(
        uuid=str(uuid.uuid5(_NAMESPACE, name)),
        name=name,
        state=VmState(entry.state),
        node=entry.node,
        home=entry.home or entry.node,
        memory_mib=entry.memory_mib,
        vcpus=entry.vcpus,
        metadata=VmMetadata(**metadata),
        held=entry.held,
    )


def _node(name: str, entry: NodeEntry, vms: list[VmRecord]) -> NodeView:
    is_up = entry.power == "on"
    running = [vm for vm in vms if vm.state is VmState.RUNNING]
    left_mib = entry.memory_mib - sum(vm.memory_mib for vm in running)
    report = NodeReport(
        node=name,
        memory_total_mib=entry.memory_mib,
        memory_available_mib=left_mib if entry.available_mib is None else entry.available_mib,
        cores=entry.cores,
        load_1m=entry.load_1m,
        domains={
            vm.uuid: DomainReport(state="running", memory_mib=vm.memory_mib, vcpus=vm.vcpus) for vm in running if is_up
        },
    )
    record = NodeRecord(
        name=name, mode=entry.mode, labels=entry.labels, maintenance=entry.maintenance, fenced=entry.fenced
    )
    ledger = Ledger(vms={vm.uuid: Reservation(memory_mib=vm.memory_mib, vcpus=vm.vcpus) for vm in vms})
    alive = is_up and entry.daemon == "on"
    member = Member(node=name, session=f"snapshot-{name}", version="")
    return NodeView(
        record=Stored(layout.node(name), record, 0),
        ledger=Stored(layout.ledger(name), ledger, 0),
        report=Stored(layout.report(name), report, 0),
        member=Stored(layout.member(name), member, 0) if alive else None,
    )


# ------------------------------------------------------------------------------------------------- writing


def file_of(snapshot: ClusterSnapshot) -> SnapshotFile:
    """The file of a cluster. A node that has never reported is not in it, and neither are the VMs it has."""
    nodes = {name: _node_entry(view) for name, view in sorted(snapshot.nodes.items()) if view.report}
    vms = sorted((stored.value for stored in snapshot.vms.values()), key=lambda vm: vm.name)
    pause = snapshot.pause
    return SnapshotFile(
        settings=snapshot.settings,
        nodes=nodes,
        vms={vm.name: _vm_entry(vm, nodes) for vm in vms if vm.node in nodes},
        rules=tuple(snapshot.rules[name].value for name in sorted(snapshot.rules)),
        maintenance=MaintenanceEntry(reason=pause.reason, left_s=pause.left_s) if pause else None,
    )


def document_of(snapshot: ClusterSnapshot) -> dict[str, Any]:
    """The file as plain data, with every setting, and of nodes and VMs what differs from the default."""
    document: dict[str, Any] = msgspec.to_builtins(file_of(snapshot))
    settings = {**msgspec.to_builtins(snapshot.settings)}
    settings.pop("schema", None)
    return {
        "settings": settings,
        "nodes": document.get("nodes", {}),
        "vms": document.get("vms", {}),
        "rules": [_rule_entry(rule) for rule in document.get("rules", ())],
        **({"maintenance": document["maintenance"]} if "maintenance" in document else {}),
    }


def _node_entry(view: NodeView) -> NodeEntry:
    assert view.report is not None
    report, record = view.report.value, view.record.value
    return NodeEntry(
        memory_mib=report.memory_total_mib,
        cores=max(report.cores, 1),
        daemon="on" if view.is_alive else "off",
        mode=record.mode,
        labels=record.labels,
        maintenance=record.maintenance,
        fenced=record.fenced,
        load_1m=report.load_1m,
        available_mib=report.memory_available_mib,
    )


def _rule_entry(rule: Mapping[str, Any]) -> dict[str, Any]:
    """What the rule says, without what it does not use."""
    return {field: value for field, value in rule.items() if field not in ("schema", "guard") and value}


def _vm_entry(vm: VmRecord, nodes: Mapping[str, NodeEntry]) -> VmEntry:
    metadata = {field: getattr(vm.metadata, field) for field in VmMetadata.__struct_fields__}
    state = "disabled" if vm.state is VmState.DISABLED else "stopped" if vm.state in OFF else "running"
    return VmEntry(
        node=vm.node,
        memory_mib=vm.memory_mib,
        vcpus=vm.vcpus,
        state=state,  # type: ignore[arg-type]  # one of the three words
        home=vm.home if vm.home != vm.node and vm.home in nodes else "",
        held=vm.held,
        **{field: value for field, value in metadata.items() if field in VmEntry.__struct_fields__},
    )
