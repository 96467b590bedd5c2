# SPDX-License-Identifier: Apache-2.0
"""builders: a consistent cluster from the few facts a test is about; everything else has a sensible default.

    snapshot = a_snapshot([a_node("hv1"), a_node("hv2", memory_mib=8192)], [a_vm("web1", node="hv1")])

gives two ready nodes with living daemons and fresh reports, web1 running on hv1, in hv1's ledger and in its
report, and hv1's available memory reduced by what web1 uses.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored, encode
from pvc_core.model import (
    DomainReport,
    Ledger,
    Member,
    NodeMode,
    NodeRecord,
    NodeReport,
    Reservation,
    Rule,
    RuleKind,
    Settings,
    VmMetadata,
    VmRecord,
    VmState,
)
from pvc_core.plugin_types import NodeCapacity, PlacementRequest
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.storage_reports import BackendReport
from pvc_core.vm_volumes import VmVolume

T = TypeVar("T", bound=msgspec.Struct)

WITH_A_DOMAIN = frozenset({VmState.RUNNING, VmState.SHUTTING_DOWN, VmState.RESTARTING, VmState.MIGRATING})
"""States in which a domain is active on the VM's node, unless a test says otherwise."""

_NAMESPACE = uuid.UUID("6f1d3a52-9c1e-4f0e-8f57-0c6b6f4f7a11")


def stored(key: str, value: T, version: int = 0) -> Stored[T]:
    """A record as if it had been read from the store."""
    return Stored(key, value, version, encode(value))


def uuid_of(name: str) -> str:
    """The UUID that `a_vm` gives to the VM with this name; the same in every run."""
    return str(uuid.uuid5(_NAMESPACE, name))


def a_node(
    name: str = "hv1",
    *,
    memory_mib: int = 4096,
    available_mib: int | None = None,
    cores: int = 4,
    load_1m: float = 0.0,
    mode: NodeMode | str = NodeMode.READY,
    alive: bool = True,
    reported: bool = True,
    report_age_s: float = 0.0,
    hypervisor_connected: bool = True,
    domains: Mapping[str, DomainReport] | None = None,
    unknown_domains: Mapping[str, str] | None = None,
    session: str = "",
    storage: Mapping[str, str | BackendReport] | None = None,
    **record: Any,
) -> NodeView:
    """A node: ready, alive, reported just now, empty. `record` takes further fields of `NodeRecord`.

    available_mib: None = all of it, and `a_snapshot` subtracts the VMs that run here. domains: by UUID, in
    addition to those that `a_snapshot` adds. session: of its daemon, by default one that names the node. storage: its
    backends, with what is reported of each, or why it is not usable there, "" when it is.
    """
    session = session or f"session-{name}"
    report = NodeReport(
        node=name,
        session=session,
        memory_total_mib=memory_mib,
        memory_available_mib=memory_mib if available_mib is None else available_mib,
        cores=cores,
        load_1m=load_1m,
        hypervisor="simulated",
        hypervisor_connected=hypervisor_connected,
        domains=dict(domains or {}),
        unknown_domains=dict(unknown_domains or {}),
        storage={name: _report_of(how) for name, how in (storage or {}).items()},
    )
    member = Member(
        node=name, session=session, version="test", drivers={"storage_backends": tuple(storage)} if storage else {}
    )
    return NodeView(
        record=stored(layout.node(name), NodeRecord(name=name, mode=NodeMode(mode), **record)),
        ledger=stored(layout.ledger(name), Ledger()),
        report=stored(layout.report(name), report) if reported else None,
        member=stored(layout.member(name), member) if alive else None,
        report_age_s=report_age_s,
    )


def _report_of(how: str | BackendReport) -> BackendReport:
    return how if isinstance(how, BackendReport) else BackendReport(usable=not how, detail=how)


def a_vm(
    name: str = "web1",
    *,
    node: str = "hv1",
    memory_mib: int = 512,
    vcpus: int = 1,
    state: VmState | str = VmState.RUNNING,
    home: str | None = None,
    **more: Any,
) -> VmRecord:
    """A VM, running on its home. `more` takes further fields of `VmRecord` and, by their names, of `VmMetadata`."""
    metadata = {key: more.pop(key) for key in tuple(more) if key in VmMetadata.__struct_fields__}
    for plural in ("node_limit", "tags"):
        if plural in metadata:
            metadata[plural] = tuple(metadata[plural])
    more.setdefault("metadata", VmMetadata(**metadata))
    more.setdefault("uuid", uuid_of(name))
    return VmRecord(
        name=name,
        node=node,
        home=node if home is None else home,
        memory_mib=memory_mib,
        vcpus=vcpus,
        state=VmState(state),
        **more,
    )


def a_volume(device: str = "vda", backend: str = "ceph", node: str = "", **more: Any) -> VmVolume:
    """A volume of a VM, on storage that all nodes reach, or that of `node`."""
    return VmVolume(**{"pool": "vms", "name": device, "id": device, **more}, device=device, backend=backend, node=node)


def a_rule(name: str, kind: RuleKind, *members: str, hard: bool = False, **nodes: float) -> Rule:
    """A rule; `nodes` are the weights of one that prefers."""
    return Rule(name=name, kind=kind, members=members, hard=hard, nodes=nodes)


def a_snapshot(
    nodes: Iterable[NodeView] = (),
    vms: Iterable[VmRecord] = (),
    settings: Settings | None = None,
    *,
    rules: Iterable[Rule] = (),
    active: Collection[str] | None = None,
    epoch: int | None = None,
) -> ClusterSnapshot:
    """A cluster in which records, ledgers and reports agree.

    Every VM stands in its node's ledger and, while it migrates, in its target's too (incoming). Domains are
    active on the VM's node for the states in `WITH_A_DOMAIN`, or exactly for the VMs named in `active`.
    """
    records = tuple(vms)
    views = {view.name: _furnished(view, records, active) for view in nodes}
    return ClusterSnapshot(
        nodes=views,
        vms={vm.uuid: stored(layout.vm(vm.uuid), vm) for vm in records},
        rules={rule.name: stored(layout.rule(rule.name), rule) for rule in rules},
        settings=settings or Settings(),
        settings_version=0,
        epoch=epoch,
    )


def _furnished(view: NodeView, vms: Iterable[VmRecord], active: Collection[str] | None) -> NodeView:
    """The node with its ledger and its report filled in from the VMs."""
    ledger = dict(view.reserved.vms)
    domains: dict[str, DomainReport] = {}
    used_mib = 0
    for vm in vms:
        if vm.node == view.name:
            ledger[vm.uuid] = Reservation(memory_mib=vm.memory_mib, vcpus=vm.vcpus)
            if vm.state in WITH_A_DOMAIN if active is None else vm.name in active:
                domains[vm.uuid] = DomainReport(state="running", memory_mib=vm.memory_mib, vcpus=vm.vcpus)
                used_mib += vm.memory_mib
        elif vm.state is VmState.MIGRATING and vm.target == view.name:
            ledger[vm.uuid] = Reservation(memory_mib=vm.memory_mib, vcpus=vm.vcpus, incoming=True)
    view = replace(view, ledger=stored(layout.ledger(view.name), Ledger(vms=ledger)))
    if view.report is None:
        return view
    report = view.report.value
    untouched = report.memory_available_mib == report.memory_total_mib
    report = msgspec.structs.replace(
        report,
        domains={**domains, **report.domains},
        memory_available_mib=report.memory_available_mib - used_mib if untouched else report.memory_available_mib,
    )
    return replace(view, report=stored(view.report.key, report))


def a_request(vm: VmRecord | str = "new", **fields: Any) -> PlacementRequest:
    """A placement request for a VM's record, or for a new VM of 512 MiB; `fields` also takes those of `VmMetadata`."""
    metadata = {key: fields.pop(key) for key in tuple(fields) if key in VmMetadata.__struct_fields__}
    if isinstance(vm, VmRecord):
        request = PlacementRequest.for_vm(vm)
    else:
        request = PlacementRequest(vm=vm, uuid=uuid_of(vm), memory_mib=512, vcpus=1)
    return replace(request, metadata=msgspec.structs.replace(request.metadata, **metadata), **fields)


def a_capacity(name: str = "hv1", **fields: Any) -> NodeCapacity:
    """One empty, ready node of 4096 MiB and 4 cores as selectors and filters see it."""
    defaults: dict[str, Any] = {
        "mode": NodeMode.READY,
        "alive": True,
        "left": False,
        "fenced": False,
        "maintenance": False,
        "memory_total_mib": 4096,
        "memory_available_mib": fields.get("memory_total_mib", 4096),
        "cores": 4,
        "load_1m": 0.0,
        "assigned_mib": 0,
        "running_mib": 0,
        "assigned_vcpus": 0,
        "assigned_vms": 0,
        "report_age_s": 0.0,
    }
    return NodeCapacity(name=name, **{**defaults, **fields})
