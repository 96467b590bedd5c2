# SPDX-License-Identifier: Apache-2.0
"""agent: what a node does next for each of its VMs: `decide(snapshot, now)` gives actions with their reasons.

It looks at levels, not at edges: the record says what is wanted, the hypervisor says what is, and an action closes
the gap. So a command that arrives while an action runs is never lost, a daemon that was killed finds everything
again, and what was missed while the store was away does not matter. Nothing here waits: a deadline that lies in
the future is returned as the time to decide again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pvc_core.codec import Stored
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.ports import Domain, DomainState
from pvc_core.vm_states import VmEvent

ASK_AGAIN_S = 10.0
"""A guest that has not powered off is asked again: many ignore the first request while they boot."""
LOOK_AGAIN_S = 1.0
"""How soon to look again at what gives no event: a migration that an earlier daemon began, a peer."""


# ------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class Start:
    """Create the domain, after checking once more in the store that it is still ours to start."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class AskShutdown:
    """Ask the guest to power off."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class Terminate:
    """Destroy the domain. `stray`: the record belongs elsewhere; check that in the store once more."""

    uuid: str
    reason: str
    stray: bool = False


@dataclass(frozen=True)
class Migrate:
    """Move the domain live to `target`."""

    uuid: str
    target: str
    max_downtime_ms: int
    reason: str


@dataclass(frozen=True)
class CancelMigration:
    """Break off the migration under way."""

    uuid: str
    reason: str


@dataclass(frozen=True)
class LookAtPeer:
    """Ask the target's hypervisor what the domain does there."""

    uuid: str
    target: str
    reason: str


@dataclass(frozen=True)
class Record:
    """Write an event of the VM to its record."""

    uuid: str
    event: VmEvent
    reason: str


Action = Start | AskShutdown | Terminate | Migrate | CancelMigration | LookAtPeer | Record


# ------------------------------------------------------------------------------------------------ snapshot


@dataclass(frozen=True)
class VmMemory:
    """What the agent remembers of a VM. It is lost with the daemon, and nothing depends on it but patience.

    transition: of the record these notes belong to; notes of an older one do not count, except the failures.
    asked_at_s: first request to power off; asked_last_s: the latest. peer: what the target's hypervisor said, and
    when (None state: not active there). live_failed: why a live migration failed in this transition, "" if not;
    cancelled: it ended because it was cancelled. failures_s: times of failed starts and vanished domains.
    start_error: libvirt's reason of the last one. last_event: how the domain ended.
    """

    transition: int = -1
    asked_at_s: float | None = None
    asked_last_s: float | None = None
    peer: tuple[DomainState | None, float] | None = None
    peer_error: str = ""
    live_failed: str = ""
    unrecorded_failure: str = ""
    failures_s: tuple[float, ...] = ()
    start_error: str = ""
    last_event: str = ""


NO_MEMORY = VmMemory()


@dataclass(frozen=True)
class AgentSnapshot:
    """One node's view of its own VMs.

    vms: the records in its ledger, incoming ones included. strays: records of VMs that are active here but stand in
    another node's ledger. domains: the active domains, listed after the records were read. busy: the action under
    way, by UUID.
    """

    node: str
    vms: Mapping[str, Stored[VmRecord]]
    domains: Mapping[str, Domain]
    settings: Settings
    strays: Mapping[str, Stored[VmRecord]] = field(default_factory=dict)
    busy: Mapping[str, Action] = field(default_factory=dict)
    memory: Mapping[str, VmMemory] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentDecision:
    """The actions, and the monotonic time at which to decide again even if nothing happens (None: never)."""

    actions: tuple[Action, ...]
    wake_at_s: float | None


@dataclass(frozen=True)
class _Case:
    """One VM at one moment."""

    record: VmRecord
    domain: Domain | None
    memory: VmMemory
    settings: Settings
    now_s: float

    @property
    def uuid(self) -> str:
        return self.record.uuid

    @property
    def is_active(self) -> bool:
        return self.domain is not None and self.domain.state in (DomainState.RUNNING, DomainState.PAUSED)


Step = tuple[Action | None, float | None]
_NOTHING: Step = (None, None)


def decide(snapshot: AgentSnapshot, now_s: float) -> AgentDecision:
    """What to do now. At most one action per VM; a VM with an action under way gets only a cancellation."""
    steps: list[Step] = []
    for uuid, stored in snapshot.vms.items():
        record = stored.value
        memory = current_memory(snapshot.memory.get(uuid, NO_MEMORY), record)
        case = _Case(record, snapshot.domains.get(uuid), memory, snapshot.settings, now_s)
        if uuid in snapshot.busy:
            steps.append(_while_busy(case, snapshot.busy[uuid]))
        elif record.node == snapshot.node:
            steps.append(_BY_STATE[record.state](case))
        elif record.target != snapshot.node:
            steps.append(_stray(case))
    for uuid, stored in snapshot.strays.items():
        if uuid not in snapshot.busy and uuid not in snapshot.vms:
            case = _Case(stored.value, snapshot.domains.get(uuid), NO_MEMORY, snapshot.settings, now_s)
            if snapshot.node not in (stored.value.node, stored.value.target):
                steps.append(_stray(case))
    wakes = [at for _, at in steps if at is not None]
    return AgentDecision(tuple(action for action, _ in steps if action), min(wakes, default=None))


def current_memory(memory: VmMemory, record: VmRecord) -> VmMemory:
    """The notes that still count for this record: those of an older transition are dropped, the failures stay."""
    if memory.transition == record.transition:
        return memory
    return VmMemory(
        transition=record.transition,
        failures_s=memory.failures_s,
        start_error=memory.start_error,
        last_event=memory.last_event,
    )


def _while_busy(case: _Case, action: Action) -> Step:
    if isinstance(action, Migrate) and (case.record.cancelling or case.record.state is not VmState.MIGRATING):
        return CancelMigration(case.uuid, "the migration is cancelled by command"), case.now_s + LOOK_AGAIN_S
    return _NOTHING


def _stray(case: _Case) -> Step:
    if case.domain is None:
        return _NOTHING
    return Terminate(case.uuid, f"it runs here, but belongs to {case.record.node}", stray=True), None


# ------------------------------------------------------------------------------------------- state by state


def _when_running(case: _Case) -> Step:
    if case.is_active:
        return _NOTHING
    if case.domain is not None:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away and start again"), None
    detail = f" ({case.memory.last_event})" if case.memory.last_event else ""
    if len(recent_failures(case)) + 1 >= case.settings.start_failures:
        window_s = case.settings.start_failure_window_s
        count = len(recent_failures(case)) + 1
        reason = f"the guest ended{detail}; {count} failures in {window_s} s, giving up"
        return Record(case.uuid, VmEvent.GAVE_UP, reason), None
    return Record(case.uuid, VmEvent.GONE, f"the guest ended{detail} while it should run"), None


def _when_starting(case: _Case) -> Step:
    if case.is_active:
        return Record(case.uuid, VmEvent.STARTED, f"the guest runs; {case.record.reason}"), None
    if case.domain is not None:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away before the start"), None
    failures = recent_failures(case)
    error = case.memory.start_error or case.memory.last_event
    if len(failures) >= case.settings.start_failures:
        window_s = case.settings.start_failure_window_s
        reason = f"{len(failures)} failures in {window_s} s, giving up: {error}"
        return Record(case.uuid, VmEvent.GAVE_UP, reason), None
    if case.memory.unrecorded_failure:
        return Record(case.uuid, VmEvent.START_FAILED, case.memory.unrecorded_failure), None
    next_s = (failures[-1] + backoff_s(len(failures), case.settings)) if failures else case.now_s
    if case.now_s < next_s:
        return None, next_s
    return Start(case.uuid, case.record.reason), None


def recent_failures(case: _Case) -> tuple[float, ...]:
    """The failures that lie within the window."""
    since_s = case.now_s - case.settings.start_failure_window_s
    return tuple(at for at in case.memory.failures_s if at > since_s)


def recent_count(failures_s: tuple[float, ...], settings: Settings, now_s: float) -> int:
    """How many of these failures lie within the window that ends now."""
    return sum(1 for at in failures_s if at > now_s - settings.start_failure_window_s)


def backoff_s(failures: int, settings: Settings) -> float:
    """Pause after the nth failure in a row: doubled each time."""
    return float(settings.start_backoff_s * 2 ** (failures - 1)) if failures else 0.0


def _when_ending(case: _Case) -> Step:
    """shutting-down and restarting: ask, wait, terminate."""
    if case.domain is None:
        return Record(case.uuid, VmEvent.ENDED, _ended_reason(case)), None
    if not case.is_active:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away"), None
    if case.record.forced:
        return Terminate(case.uuid, case.record.reason), None
    return _ask_or_terminate(case)


def _ended_reason(case: _Case) -> str:
    why = case.record.reason
    return f"the guest is off; {why}" if why else "the guest is off"


def _ask_or_terminate(case: _Case) -> Step:
    timeout_s = shutdown_timeout_s(case.record, case.settings)
    asked = case.memory.asked_at_s
    if asked is None:
        return AskShutdown(case.uuid, case.record.reason), None
    if case.now_s >= asked + timeout_s:
        return Terminate(case.uuid, f"the guest has not powered off within {timeout_s} s"), None
    again_s = (case.memory.asked_last_s or asked) + ASK_AGAIN_S
    if case.now_s >= again_s:
        return AskShutdown(case.uuid, "the guest has not powered off yet: asked again"), None
    return None, min(again_s, asked + timeout_s)


def shutdown_timeout_s(record: VmRecord, settings: Settings) -> int:
    """How long this guest may take to power off."""
    own = record.metadata.shutdown_timeout_s
    return settings.shutdown_timeout_s if own is None else own


def _when_off(case: _Case) -> Step:
    """stopped, failed, disabled: nothing may run."""
    if case.domain is None:
        return _NOTHING
    return Terminate(case.uuid, f"it runs, but its record says {case.record.state}"), None


def _when_migrating(case: _Case) -> Step:
    if case.domain is None:
        return _when_migrated_away(case)
    if not case.is_active:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away"), None
    if case.domain.job_active:
        if case.record.cancelling:
            action = CancelMigration(case.uuid, "the migration is cancelled by command")
            return action, case.now_s + LOOK_AGAIN_S
        return None, case.now_s + LOOK_AGAIN_S
    if case.domain.state is DomainState.PAUSED and (step := _when_left_behind(case)):
        return step
    if case.record.cancelling:
        return Record(case.uuid, VmEvent.MIGRATION_CANCELLED, "the migration was cancelled by command"), None
    method = case.record.metadata.migration_method
    if method == "shutdown" or (method == "none" and case.memory.live_failed):
        return _ask_or_terminate(case)
    if case.memory.live_failed:
        return Record(case.uuid, VmEvent.MIGRATION_FAILED, f"the migration failed: {case.memory.live_failed}"), None
    downtime_ms = case.record.metadata.max_downtime_ms
    return Migrate(case.uuid, case.record.target, downtime_ms, case.record.reason), None


def _when_left_behind(case: _Case) -> Step | None:
    """A paused domain without a job may be all that is left of a guest that runs on the target. None: it is not."""
    waits = _look_at_peer(case, "the guest is paused here")
    if waits is not None:
        return waits
    if case.memory.peer is not None and case.memory.peer[0] is DomainState.RUNNING:
        return Terminate(case.uuid, f"the guest runs on {case.record.target}: clear away what is left here"), None
    return None


def _look_at_peer(case: _Case, why: str) -> Step | None:
    """Find out what the guest does on the target. None: it is known, `case.memory.peer` says it."""
    memory, target = case.memory, case.record.target
    if memory.peer is None or case.now_s >= memory.peer[1] + LOOK_AGAIN_S:
        return LookAtPeer(case.uuid, target, f"{why}: look for it on {target}"), None
    state, looked_at_s = memory.peer
    if memory.peer_error or state is DomainState.PAUSED:
        return None, looked_at_s + LOOK_AGAIN_S
    return None


def _when_migrated_away(case: _Case) -> Step:
    """The domain is gone here: it arrived, or it was shut down for the move, or it is lost. The target knows."""
    waits = _look_at_peer(case, "the guest is gone here")
    if waits is not None:
        return waits
    memory, target = case.memory, case.record.target
    if memory.peer is not None and memory.peer[0] is DomainState.RUNNING:
        return Record(case.uuid, VmEvent.ARRIVED, f"arrived on {target}; {case.record.reason}"), None
    if case.record.cancelling:
        return Record(case.uuid, VmEvent.GONE, "the guest ended during a migration that was cancelled"), None
    was_asked = memory.asked_at_s is not None or case.record.metadata.migration_method == "shutdown"
    if was_asked:
        reason = f"shut down to move to {target}; {case.record.reason}"
        return Record(case.uuid, VmEvent.MOVED_OFF, reason), None
    return Record(case.uuid, VmEvent.GONE, f"the guest ended during its migration to {target}"), None


_BY_STATE: Mapping[VmState, Callable[[_Case], Step]] = {
    VmState.STOPPED: _when_off,
    VmState.FAILED: _when_off,
    VmState.DISABLED: _when_off,
    VmState.STARTING: _when_starting,
    VmState.RUNNING: _when_running,
    VmState.SHUTTING_DOWN: _when_ending,
    VmState.RESTARTING: _when_ending,
    VmState.MIGRATING: _when_migrating,
}
