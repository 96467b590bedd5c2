# SPDX-License-Identifier: Apache-2.0
"""model: the records of the store as frozen typed data: VMs, nodes, reports, ledgers, members, rules, settings.

One set of types for store, API and CLI. Encoded as JSON; a record carries the schema version it was written
with, and fields this version does not know survive a rewrite (see `pvc_core.codec`).
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import msgspec

from pvc_core.layout import SCHEMA_VERSION
from pvc_core.pause_record import Pause
from pvc_core.plugin_troubles import PluginTrouble
from pvc_core.shut_out_record import ShutOut
from pvc_core.storage_reports import BackendReport
from pvc_core.vm_snapshot_standing import SnapshotStanding
from pvc_core.vm_volumes import VmVolume, renaming_sentence

MigrationMethod = Literal["live", "shutdown", "none"]
OnPoweroff = Literal["restart", "stop"]
HeldUntil = Literal["home", "any"]
Admission = Literal["off", "warn", "refuse"]
RuleKind = Literal["together", "apart", "prefer"]

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]


class VmState(enum.StrEnum):
    """What a person sees of a VM's life; the table is in `pvc_core.vm_states`."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    RESTARTING = "restarting"
    MIGRATING = "migrating"
    FAILED = "failed"
    DISABLED = "disabled"


class NodeMode(enum.StrEnum):
    """What the operator wants of a node, and how far the leader is with it."""

    READY = "ready"
    FLUSHING = "flushing"
    FLUSHED = "flushed"
    UNFLUSHING = "unflushing"


class VmMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What an administrator chooses per VM. Defaults are the cluster's.

    node_limit: nodes it may run on, or label:NAME=VALUE; empty = any. node_selector: "" = the cluster's default.
    max_downtime_ms: 1 to 60 000. priority: higher goes first, -1000 to 1000. shutdown_timeout_s, start_failures and
    relocations: None = cluster's. on_poweroff: what follows when its guest powers off by itself. held_until: a held VM
    waits for its home, or starts on any candidate that appears.
    """

    node_limit: tuple[str, ...] = ()
    node_selector: str = ""
    node_autostart: bool = False
    migration_method: MigrationMethod = "none"
    max_downtime_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 300
    recovery_policy: str = "restart"
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    shutdown_timeout_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None = None
    on_poweroff: OnPoweroff = "restart"
    start_failures: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    relocations: Annotated[int, msgspec.Meta(ge=0, le=16)] | None = None
    held_until: HeldUntil = "home"
    tags: tuple[str, ...] = ()
    profile: str = ""


class VmRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The truth about one VM. Its definition (XML) stands apart, under `/definitions`."""

    schema: int = SCHEMA_VERSION
    uuid: str
    name: str
    state: VmState
    node: str
    """The node whose agent is responsible for it now, and in whose ledger it stands."""
    home: str
    """The node it goes back to after a temporary migration."""
    memory_mib: int
    vcpus: int
    metadata: VmMetadata = VmMetadata()
    volumes: tuple[VmVolume, ...] = ()
    only_volumes: bool = False
    """Its definition, also the one by which its guest runs, has no other storage to write to; False: not known."""
    snapshots: SnapshotStanding = SnapshotStanding()
    """Which snapshots it has, and whether one is being taken or gone back to."""
    target: str = ""
    """While migrating: where to. It stands in that node's ledger too."""
    permanent: bool = False
    """While migrating: arrival changes the home as well (move)."""
    cancelling: bool = False
    """While migrating: the source's agent is asked to break it off."""
    forced: bool = False
    """While shutting down or restarting: terminate at once instead of asking the guest."""
    after_shutdown: Literal["stopped", "disabled"] = "stopped"
    """While shutting down: the state that follows."""
    held: bool = False
    """Stopped because no candidate was left; starts again when its home becomes ready, or as `held_until` says."""
    failed_on: tuple[str, ...] = ()
    """Nodes on which it became failed, until it has run for long or a person takes over."""
    transition: int = 0
    """Counts every change of the state or of what is wanted in it, so that an agent that missed steps knows."""
    reason: str = ""
    """Why it is in this state: the sentence of the last decision."""
    changed_at: str = ""
    """Wall-clock time of the last change, for people."""

    @property
    def kept_off_by(self) -> str:
        """What goes on with its volumes, a sentence of its own, so that it does not start; "" if it may."""
        return self.snapshots.kept_off_by or renaming_sentence(self.volumes)

    @property
    def kept_off(self) -> str:
        """Why it does not start, the VM being the subject, while something goes on with its volumes; "" if it may."""
        return f"is kept off: {self.kept_off_by}" if self.kept_off_by else ""


class DrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a flush or ready, kept in the store so that another leader goes on from it."""

    total: int = 0
    """How many VMs it set out to move or start."""
    attempts: dict[str, int] = {}
    """VM UUID to how often the leader has tried to migrate or start it."""
    stayed: dict[str, str] = {}
    """VM UUID to the reason why it could not be helped."""
    planned: dict[str, str] = {}
    """VM UUID to the node that a plan, which was applied, sends it to; as long as all of that plan is possible."""
    cancels_flush: bool = False
    """This ready broke off a flush: migrations away from the node are cancelled."""
    leaves_running: bool = False
    """This ready starts what is off and does not move what runs elsewhere."""
    by_itself: bool = False
    """Nobody asked for this ready: the node had been fenced and came back."""
    started_at: str = ""
    finished_at: str = ""


class FenceStep(enum.StrEnum):
    """How far it is with a lost node: being switched off, known to be off with VMs left to recover, done with."""

    FENCING = "fencing"
    RECOVERING = "recovering"
    RECOVERED = "recovered"


class FenceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a lost node, kept in the store so that another leader goes on from it.

    number: counts the fences of this node, so that an answer to an earlier one is not taken for one to this.
    evidence: why it is certain that the node is off; "" as long as it is not. attempts: how often its fence agents
    did not confirm, problem: what they said last. was_ready: its mode was ready, or on the way there.
    """

    step: FenceStep = FenceStep.FENCING
    number: int = 1
    reason: str = ""
    evidence: str = ""
    attempts: int = 0
    problem: str = ""
    was_ready: bool = True
    started_at: str = ""
    confirmed_at: str = ""
    finished_at: str = ""


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a node. It appears with the daemon's first start and outlives it."""

    schema: int = SCHEMA_VERSION
    name: str
    mode: NodeMode = NodeMode.READY
    left: bool = False
    """The daemon stopped cleanly; guests run on unsupervised and the node takes no new VMs."""
    goes_down: str = ""
    """The session in which its host went down by plan; with its daemon there in another, it is taken back by itself."""
    maintenance: bool = False
    """It is neither fenced nor given VMs, whatever becomes of its daemon."""
    pause: Pause | None = None
    """The terms of its maintenance."""
    fenced: bool = False
    """It was confirmed to be off, and has not been taken back into service since."""
    gone_at: str = ""
    """Since when its daemon is known to be gone without a word while no VM is to run there; "" otherwise."""
    fence: FenceReport | None = None
    """Of the loss that is dealt with, or was dealt with last."""
    shut_out: dict[str, ShutOut] = {}
    """The storage backends that keep its clients out, or may do so, by name: meanwhile it takes no VMs."""
    watchdog_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """It has armed a watchdog, by which it is off so long after the end of its session; 0 when it has not."""
    session: str = ""
    """In which its daemon has registered last."""
    coordinator: bool = True
    labels: dict[str, str] = {}
    address: str = ""
    """Where other nodes' hypervisors reach this one: a host name or IP address."""
    drain: DrainReport | None = None
    """Of the flush or ready that runs, or ran last."""
    reason: str = ""
    changed_at: str = ""


class DomainReport(msgspec.Struct, frozen=True, kw_only=True):
    """One active domain as its host sees it."""

    state: str
    memory_mib: int = 0
    vcpus: int = 0
    cpu_time_ns: int = 0
    volumes: dict[str, str] = {}
    """Of a VM: ids of the volumes that its guest has or makes trouble with; what is wrong, "" when nothing is."""


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself every few seconds. `domains` maps UUIDs, also of domains PVC does not own."""

    schema: int = SCHEMA_VERSION
    node: str
    session: str = ""
    memory_total_mib: int
    memory_available_mib: int
    cores: int
    load_1m: float
    hypervisor: str = ""
    hypervisor_version: str = ""
    hypervisor_connected: bool = True
    domains: dict[str, DomainReport] = {}
    unknown_domains: dict[str, str] = {}
    """Domains PVC has never heard of: UUID to name. They are left alone."""
    progress: dict[str, int] = {}
    """Outgoing migrations: VM UUID to percent."""
    plugin_troubles: dict[str, PluginTrouble] = {}
    """Plugins that have failed in this node's daemon, by name."""
    storage: dict[str, BackendReport] = {}
    """Its storage backends, by name; one that has not been looked at yet is missing."""
    reported_at: str = ""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What one VM reserves on a node. `incoming`: it is on its way there."""

    memory_mib: int
    vcpus: int
    incoming: bool = False


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The VMs assigned to a node, running or not, by UUID."""

    schema: int = SCHEMA_VERSION
    vms: dict[str, Reservation] = {}
    leftovers: dict[str, str] = {}
    """Whose guests may still run there though they are no VMs any more, undefined by force: UUID to name."""

    @property
    def leftover_sentence(self) -> str:
        """What the node has to be rid of before it takes VMs, the node being the subject; "" if nothing."""
        names = ", ".join(sorted(self.leftovers.values()))
        return f"may still run {names}, undefined by force" if names else ""

    @property
    def memory_mib(self) -> int:
        """The sum of what is reserved."""
        return sum(r.memory_mib for r in self.vms.values())

    @property
    def vcpus(self) -> int:
        """The sum of what is reserved."""
        return sum(r.vcpus for r in self.vms.values())


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A living daemon, bound to its session. `plugins`: name to version; `drivers`: kind to driver names.

    plugins_refused: those that are installed and not loaded, with the reason; empty for one that is blocked.
    """

    schema: int = SCHEMA_VERSION
    node: str
    session: str
    version: str
    host: str = ""
    """The running host the daemon is on, to tell a restart from a second daemon of the same name."""
    plugins: dict[str, str] = {}
    plugins_refused: dict[str, str] = {}
    drivers: dict[str, tuple[str, ...]] = {}
    started_at: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Cluster-wide settings, changed by `pvc cluster settings`. Every field's comment is its documentation."""

    schema: int = SCHEMA_VERSION
    default_selector: str = "mem"
    """Selector of VMs that name none."""
    memory_reserve_mib: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 512
    """Memory of every node that is never given to VMs."""
    memory_overcommit: Annotated[float, msgspec.Meta(ge=0.1, le=10)] = 1.0
    """A node takes VMs up to (total - reserve) times this ratio."""
    vcpu_overcommit: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    """A node takes VMs up to this many vCPUs per core; 0 sets no limit."""
    admission: Admission = "warn"
    """When a VM is placed by command, and it or others would then not come back any more if their node were lost:
    refuse does not place it, warn says so, off does not look."""
    max_parallel_migrations: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """Migrations at one time per source node, and per target node."""
    shutdown_timeout_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 180
    """How long a guest may take to power off before it is terminated, unless the VM says otherwise."""
    migration_timeout_s: Annotated[int, msgspec.Meta(ge=10, le=86_400)] = 1800
    """A live migration that takes longer is cancelled."""
    migration_attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 2
    """How often a flush tries to migrate one VM before it reports that it stayed."""
    start_failures: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """A VM that fails this often within start_failure_window_s becomes failed, unless the VM says otherwise."""
    start_failure_window_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 600
    """The window for start_failures."""
    start_backoff_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    """Pause before the second start attempt; doubled for each further one."""
    start_backoff_max_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60.0
    """The longest such pause."""
    relocations: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    """On how many other nodes, one after the other, a VM that has failed is tried, unless the VM says otherwise."""
    parallel_starts: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """Starts of VMs at one time per node; those of a higher priority run before a lower one begins."""
    start_stagger_s: Annotated[float, msgspec.Meta(ge=0, le=300)] = 0.0
    """Pause between the beginnings of two starts on a node; 0 makes none."""
    fence_grace_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    """How long a node's session may be gone before the node is fenced, if VMs are to run there."""
    fence_startup_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 300.0
    """How long hosts may take to boot after an outage of the whole cluster, when fewer than half of the nodes are there
    as the leader has just connected, before those that have not been heard of are fenced."""
    fence_retry_s: Annotated[float, msgspec.Meta(ge=0.5, le=3600)] = 5.0
    """Pause before a node whose fence devices did not confirm is fenced again."""
    watchdog_margin_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 5.0
    """How long after a lost node's watchdog must have ended it the node counts as off."""
    autoready: bool = True
    """A node that was fenced, or whose host went down, while ready is taken back once its daemon is there again."""
    autoready_delay_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0
    """How long its daemon has to be there before."""
    failback: bool = False
    """Such a return also brings home VMs that run elsewhere; an operator's `pvc node ready` always does."""
    maintenance_reminder_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 900
    """How often an event reminds of a maintenance that goes on."""
    report_interval_s: Annotated[float, msgspec.Meta(ge=0.2, le=300)] = 5.0
    """How often a node reports."""
    report_stale_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 30.0
    """A node whose report is older than this takes no new VMs."""
    balance_threshold: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.1
    """A cluster whose score (how unevenly its nodes are loaded, 0 is perfect) is no higher is balanced enough."""
    balance_margin: Annotated[float, msgspec.Meta(ge=0.001, le=10)] = 0.01
    """A migration for balance has to lower the score times the number of nodes in service by at least this."""
    balance_max_moves: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 100
    """A recommendation for balance has at most so many migrations."""
    balance_cooldown_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 300
    """How long after a balance another one is not carried out, so that reports and guests come to rest in between."""
    events_kept: Annotated[int, msgspec.Meta(ge=100, le=10_000)] = 2000
    """How many events the cluster remembers; the oldest are forgotten first."""
    plugins: dict[str, dict[str, Any]] = {}
    """What was set of plugins' own settings, by plugin and name; `Registry.options` makes a plugin's options of it."""


NOT_SETTINGS = ("schema", "plugins")
"""Fields of `Settings` that are not a setting each."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Which VMs belong together, apart, or rather on certain nodes.

    members: names of VMs, or `tag:T` for all VMs that have the tag T. hard: never broken by a decision; without it the
    rule is a preference. nodes: of `prefer`, which is always a preference, the weights of nodes by name; negative
    ones are avoided.
    """

    schema: int = SCHEMA_VERSION
    name: Name
    kind: RuleKind
    members: tuple[str, ...] = ()
    hard: bool = False
    nodes: dict[str, Annotated[float, msgspec.Meta(ge=-1000, le=1000)]] = {}
    guard: dict[str, int] = {}
    """Of a hard rule, the members that were placed since it exists: UUID to the version of the record written then.

    Whoever places another member has seen them all; kept by `pvc_core.rule_guards`.
    """
