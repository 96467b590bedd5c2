# SPDX-License-Identifier: Apache-2.0
"""views: what the API shows of VMs, nodes and the cluster, as typed answers.

A view is made for a reader: metadata stands beside the record's own fields, and what can be computed from the
snapshot (a violated limit, a migration's progress, what a drain waits for) is computed here once, not by every client.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from pvc_core.events import Event
from pvc_core.model import FenceReport, HeldUntil, MigrationMethod, NodeMode, OnPoweroff, RuleKind
from pvc_core.pause_record import Pause
from pvc_core.placement import Decision
from pvc_core.plan_record import StepState

ShownVmState = Literal[
    "stopped",
    "starting",
    "running",
    "shutting-down",
    "restarting",
    "migrating",
    "failed",
    "disabled",
    "broken",
]
"""A VM's state, or `broken` when its record does not parse."""

Liveness = Literal["alive", "left", "lost"]

Version = Annotated[int, msgspec.Meta(description="The record's version, as in ETag and If-Match; -1 when unknown")]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The root of everything the API answers with."""


class VmView(Answer, frozen=True, kw_only=True, gc=False):
    """One VM: its record, its metadata, and what follows from them.

    kept_off: what goes on with its volumes, so that it does not start before that is over; empty when nothing does.
    """

    uuid: str
    name: str
    state: ShownVmState
    node: str = ""
    home: str = ""
    target: str = ""
    memory_mib: int = 0
    vcpus: int = 0
    held: bool = False
    kept_off: str = ""
    permanent: bool = False
    cancelling: bool = False
    reason: str = ""
    changed_at: str = ""
    transition: int = 0
    version: Version = -1
    node_limit: tuple[str, ...] = ()
    node_selector: str = ""
    node_autostart: bool = False
    migration_method: MigrationMethod = "none"
    max_downtime_ms: int = 0
    recovery_policy: str = ""
    priority: int = 0
    shutdown_timeout_s: int | None = None
    on_poweroff: OnPoweroff = "restart"
    start_failures: int | None = None
    relocations: int | None = None
    failed_on: tuple[str, ...] = ()
    held_until: HeldUntil = "home"
    tags: tuple[str, ...] = ()
    profile: str = ""
    limit_violated: bool = False
    progress_pct: Percent | None = None
    problem: str = ""


class VmRuleView(Answer, frozen=True, kw_only=True):
    """A rule about a VM; `problem`: how the VM breaks it now, with others. Empty when it does not."""

    name: str
    kind: RuleKind
    hard: bool
    problem: str


class VmVolumeView(Answer, frozen=True, kw_only=True):
    """A volume that is a disk of a VM. node: the host on which it lies; empty for storage that all nodes reach.

    state: the guest has it (attached), is to get it, or is to let go of it (leaving); off: it gets it at its start.
    problem: why it does not get it or does not let go of it, as its node said last.
    """

    device: str
    backend: str
    pool: str
    name: str
    node: str
    state: Literal["off", "attaching", "attached", "leaving"]
    problem: str


class VmInfo(VmView, frozen=True, kw_only=True, gc=False):
    """One VM with its volumes and the rules about it."""

    volumes: tuple[VmVolumeView, ...] = ()
    rules: tuple[VmRuleView, ...] = ()


class VmList(Answer, frozen=True, kw_only=True):
    """VMs by name. `total` counts those that match the filters, also beyond `limit`."""

    vms: tuple[VmView, ...]
    total: int


class VmOutcome(Answer, frozen=True, kw_only=True):
    """What a command on a VM did. `watch` is the URL that tells when a long one is done; empty when it is.

    warnings: sentences on what was accepted and may not work as meant.
    """

    vm: VmView
    changed: bool
    reason: str
    watch: str = ""
    decision: Decision | None = None
    warnings: tuple[str, ...] = ()


class VmStateView(Answer, frozen=True, kw_only=True):
    """A VM and whether it has come to rest: nothing is under way that would change its state."""

    vm: VmView
    settled: bool


class VmPlaceView(Answer, frozen=True, kw_only=True):
    """Where a VM is, where it belongs and where it is going to."""

    vm: str
    uuid: str
    node: str
    home: str
    target: str
    node_limit: tuple[str, ...]
    limit_violated: bool
    progress_pct: Percent | None


class MovingVm(Answer, frozen=True, kw_only=True):
    """A VM that a drain is busy with: on its way to `target`, shutting down to be held, or starting."""

    vm: str
    state: ShownVmState
    target: str
    progress_pct: Percent | None = None


class WaitingVm(Answer, frozen=True, kw_only=True):
    """A VM that a drain has not helped yet, and what it waits for; or that it could not help, and why."""

    vm: str
    reason: str


class DrainView(Answer, frozen=True, kw_only=True):
    """How far a flush or ready is: `remaining` of `total` VMs are still to be helped."""

    total: int
    remaining: int
    moving: tuple[MovingVm, ...] = ()
    waiting: tuple[WaitingVm, ...] = ()
    stayed: tuple[WaitingVm, ...] = ()
    started_at: str = ""
    finished_at: str = ""


class NodeView(Answer, frozen=True, kw_only=True):
    """One node: what is wanted of it, what it last reported and what is reserved on it."""

    name: str
    mode: NodeMode
    liveness: Liveness
    coordinator: bool
    maintenance: bool
    pause: Annotated[Pause | None, msgspec.Meta(description="The terms of its maintenance")]
    fenced: bool
    labels: dict[str, str]
    address: str
    watchdog_s: Annotated[
        float, msgspec.Meta(description="It is off so long after the end of its session, by its watchdog; 0: has none")
    ]
    reason: str
    changed_at: str
    version: Version
    memory_total_mib: int
    memory_available_mib: int
    memory_reserved_mib: int
    vcpus_reserved: int
    cores: int
    load_1m: float
    vms: Annotated[int, msgspec.Meta(description="How many VMs are assigned to it")]
    hypervisor: str
    hypervisor_version: str
    hypervisor_connected: bool
    report_stale: bool
    daemon_version: str
    drain: DrainView | None = None
    fence: FenceReport | None = None
    unknown_domains: Annotated[
        dict[str, str], msgspec.Meta(description="Domains that run there and that PVC does not own: UUID to name")
    ] = {}


class NodeList(Answer, frozen=True, kw_only=True):
    """All nodes by name. pause: the terms of the cluster's maintenance, null when it is not in maintenance."""

    nodes: tuple[NodeView, ...]
    pause: Pause | None = None


class NodeOutcome(Answer, frozen=True, kw_only=True):
    """What a command on a node did. `watch` is the URL that tells when it is done; empty when it is."""

    node: NodeView
    changed: bool
    reason: str
    watch: str = ""


class NodeModeView(Answer, frozen=True, kw_only=True):
    """A node and whether it has come to rest: no flush or ready is under way."""

    node: NodeView
    settled: bool


class BrokenRecordView(Answer, frozen=True, kw_only=True):
    """A record that does not parse. It is left alone."""

    key: str
    problem: str


class ClusterStatus(Answer, frozen=True, kw_only=True):
    """The cluster at a glance. `problems` are sentences an operator should act on.

    pause: the terms of its maintenance, null when it is not in maintenance.
    """

    version: str
    store: str
    leader: str
    nodes: dict[str, int]
    liveness: dict[str, int]
    vms: dict[str, int]
    memory_total_mib: int
    memory_reserved_mib: int
    vcpus_reserved: int
    cores: int
    pause: Pause | None
    problems: tuple[str, ...]
    broken: tuple[BrokenRecordView, ...]


SettingValue = bool | int | float | str | tuple[bool | int | float | str, ...] | None
ShownSettings = dict[str, SettingValue | dict[str, dict[str, SettingValue]]]
"""Settings by name; under "plugins" those of plugins, by plugin and name."""


class SettingsView(Answer, frozen=True, kw_only=True):
    """The cluster's settings by name; `version` -1 while none was ever changed."""

    settings: ShownSettings
    version: Version


class SettingsOutcome(Answer, frozen=True, kw_only=True):
    """The settings after a change. `warnings`: sentences on what was accepted and may not work as meant."""

    settings: ShownSettings
    version: Version
    changed: bool
    reason: str
    warnings: tuple[str, ...] = ()


class RuleView(Answer, frozen=True, kw_only=True):
    """A rule: whom it is about now, and whether it is kept.

    vms: the members by name. missing: names among them that no VM has. problems: how it is broken, a sentence each.
    """

    name: str
    kind: RuleKind
    members: tuple[str, ...]
    hard: bool
    nodes: dict[str, float]
    vms: tuple[str, ...]
    missing: tuple[str, ...]
    state: Literal["kept", "broken"]
    problems: tuple[str, ...]


class RuleList(Answer, frozen=True, kw_only=True):
    """All rules by name, and those whose records do not parse."""

    rules: tuple[RuleView, ...]
    broken: tuple[BrokenRecordView, ...]


class RuleOutcome(Answer, frozen=True, kw_only=True):
    """What a command on a rule did."""

    rule: RuleView
    changed: bool
    reason: str


class RuleRemoved(Answer, frozen=True, kw_only=True):
    """The rule is gone."""

    name: str
    reason: str


class EventList(Answer, frozen=True, kw_only=True):
    """Events, newest last, and those whose records do not parse."""

    events: tuple[Event, ...]
    broken: tuple[BrokenRecordView, ...]


class PlanStepView(Answer, frozen=True, kw_only=True):
    """One step of the plan that is being carried out. `note`: why it ended as it did."""

    vm: str
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    state: StepState
    after: tuple[int, ...]
    attempts: int
    reason: str
    note: str
    progress_pct: Percent | None = None


class PlanProgress(Answer, frozen=True, kw_only=True):
    """How far a plan is, or what became of the last one. `left`: VMs that it had no place for."""

    kind: str
    subject: str
    steps: tuple[PlanStepView, ...]
    left: tuple[WaitingVm, ...]
    done: int
    total: int
    cancelled: bool
    reason: str
    started_at: str
    finished_at: str
    version: Version


class PlanStatus(Answer, frozen=True, kw_only=True):
    """The plan that is being carried out, or was last; none when none ever was. settled: nothing goes on."""

    plan: PlanProgress | None
    settled: bool


class PlanOutcome(Answer, frozen=True, kw_only=True):
    """A plan was applied or cancelled: the plan; of a flush, the node. `watch` tells when it is over."""

    plan: PlanProgress | None
    node: NodeView | None
    changed: bool
    reason: str
    watch: str = ""


class Health(Answer, frozen=True, kw_only=True):
    """Whether this process can serve. `store`: the state of its session."""

    status: Literal["ok", "unavailable"]
    store: Literal["connected", "suspended", "lost"]
    version: str
    detail: str = ""
