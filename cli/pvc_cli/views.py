# SPDX-License-Identifier: Apache-2.0
"""views: the fields of the API's answers that the commands read; a test compares them with what the API sends.

Plain dictionaries at run time: an answer is shown as it came, fields this version does not know included.
"""

from __future__ import annotations

from typing import Any, TypedDict


class VmView(TypedDict):
    """One VM: its record, its metadata, and what follows from them."""

    uuid: str
    name: str
    state: str
    node: str
    home: str
    target: str
    memory_mib: int
    vcpus: int
    held: bool
    kept_off: str
    cancelling: bool
    reason: str
    changed_at: str
    transition: int
    node_limit: list[str]
    node_selector: str
    node_autostart: bool
    migration_method: str
    max_downtime_ms: int
    recovery_policy: str
    priority: int
    shutdown_timeout_s: int | None
    on_poweroff: str
    start_failures: int | None
    relocations: int | None
    failed_on: list[str]
    held_until: str
    tags: list[str]
    profile: str
    limit_violated: bool
    progress_pct: int | None
    problem: str


class VmRule(TypedDict):
    """A rule about a VM."""

    name: str
    kind: str
    hard: bool
    problem: str


class VmVolume(TypedDict):
    """A volume that is a disk of a VM."""

    device: str
    backend: str
    pool: str
    name: str
    node: str
    state: str
    problem: str


class SnapshotVolume(TypedDict):
    """A volume in a snapshot of a VM."""

    device: str
    backend: str
    pool: str
    name: str
    snapshot: str
    size_bytes: int


class VmSnapshot(TypedDict):
    """A snapshot of a VM."""

    name: str
    state: str
    since: str
    at: str
    consistency: str
    automatic: bool
    volumes: list[SnapshotVolume]


class UnfinishedVolume(TypedDict):
    """A volume, or a snapshot of a VM, with which something was begun."""

    volume: str
    vm: str
    since: str
    problem: str
    remedy: str


class VmInfo(VmView):
    """One VM with its volumes and the rules about it."""

    volumes: list[VmVolume]
    rules: list[VmRule]


class MovingVm(TypedDict):
    """A VM that a drain is busy with."""

    vm: str
    state: str
    target: str
    progress_pct: int | None


class WaitingVm(TypedDict):
    """A VM that a drain has not helped yet, or could not help."""

    vm: str
    reason: str


class DrainView(TypedDict):
    """How far a flush or ready is."""

    total: int
    remaining: int
    moving: list[MovingVm]
    waiting: list[WaitingVm]
    stayed: list[WaitingVm]
    started_at: str
    finished_at: str


class FenceView(TypedDict):
    """How far it is with a node that was lost."""

    step: str
    number: int
    reason: str
    evidence: str
    attempts: int
    problem: str
    was_ready: bool
    started_at: str
    confirmed_at: str
    finished_at: str


class PauseView(TypedDict):
    """The terms of a maintenance."""

    reason: str
    began_at: str
    ends_at: str
    left_s: float | None


class MaintenanceView(TypedDict):
    """The maintenance of the whole cluster."""

    pause: PauseView | None
    sentence: str


class MaintenanceOutcome(MaintenanceView):
    """The same after a command."""

    changed: bool
    reason: str


class NodeView(TypedDict):
    """One node: what is wanted of it, what it last reported and what is reserved on it."""

    name: str
    mode: str
    liveness: str
    coordinator: bool
    maintenance: bool
    pause: PauseView | None
    fenced: bool
    labels: dict[str, str]
    address: str
    watchdog_s: float
    reason: str
    changed_at: str
    memory_total_mib: int
    memory_available_mib: int
    memory_reserved_mib: int
    vcpus_reserved: int
    cores: int
    load_1m: float
    vms: int
    hypervisor: str
    hypervisor_version: str
    hypervisor_connected: bool
    report_stale: bool
    daemon_version: str
    drain: DrainView | None
    fence: FenceView | None
    unknown_domains: dict[str, str]


class SettingsView(TypedDict):
    """The cluster's settings; under "plugins" those of plugins, by plugin and name."""

    settings: dict[str, Any]
    version: int


class SettingsOutcome(TypedDict):
    """The settings after a change."""

    settings: dict[str, Any]
    version: int
    changed: bool
    reason: str
    warnings: list[str]


class ClusterStatus(TypedDict):
    """The cluster at a glance."""

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
    pause: PauseView | None
    problems: list[str]


class RuleView(TypedDict):
    """A rule: whom it is about now, and whether it is kept."""

    name: str
    kind: str
    members: list[str]
    hard: bool
    nodes: dict[str, float]
    vms: list[str]
    missing: list[str]
    state: str
    problems: list[str]


class RuleOutcome(TypedDict):
    """What a command on a rule did."""

    rule: RuleView
    changed: bool
    reason: str


class EventView(TypedDict):
    """One thing that happened."""

    id: str
    at: str
    kind: str
    vm: str
    node: str
    target: str
    reason: str
    plugin: str
    by: str


class DriverView(TypedDict):
    """What a plugin registers."""

    kind: str
    name: str
    summary: str


class PluginTrouble(TypedDict):
    """What a plugin did wrong in one process so far."""

    circuit: str
    strikes: int
    failures: int
    hanging: int
    last_error: str
    last_error_at: str


class PluginOnNode(TypedDict):
    """A plugin on one living node."""

    node: str
    state: str
    version: str
    error: str
    trouble: PluginTrouble | None


class OptionView(TypedDict):
    """What can be configured of a plugin."""

    name: str
    kind: str
    values: str
    default: str
    meaning: str
    value: Any


class PluginView(TypedDict):
    """One plugin where the API runs, and on each living node."""

    name: str
    state: str
    distribution: str
    version: str
    summary: str
    hooks: list[str]
    drivers: list[DriverView]
    options: list[OptionView]
    error: str
    trouble: PluginTrouble | None
    nodes: list[PluginOnNode]
    skew: str


class TokenView(TypedDict):
    """A token without its secret."""

    name: str
    role: str
    created_at: str
    expires_at: str
    expired: bool


class Ranked(TypedDict):
    """A candidate's place in a ranking: what the selector said, and that from 0 (worst) to 100."""

    node: str
    score: float
    raw: float
    parts: dict[str, float]
    preference: float


class Rejection(TypedDict):
    """Why a node may not take a VM, and which filter says so."""

    node: str
    reason: str
    plugin: str


class Decision(TypedDict):
    """Where a VM would go and why."""

    vm: str
    node: str
    ranking: list[Ranked]
    rejections: list[Rejection]
    selector: str
    degraded: str
    reason: str
