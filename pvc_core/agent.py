# SPDX-License-Identifier: Apache-2.0
"""agent: what a node does next for each of its VMs: `decide(snapshot, now)` gives actions with their reasons.

It looks at levels, not at edges: the record says what is wanted, the hypervisor says what is, and an action closes
the gap. So a command that arrives while an action runs is never lost, a daemon that was killed finds everything
again, and what was missed while the store was away does not matter. Nothing here waits: a deadline that lies in
the future is returned as the time to decide again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pvc_core.agent_actions import (
    Action,
    AskShutdown,
    CancelMigration,
    LookAtPeer,
    Migrate,
    Record,
    Start,
    TakeSnapshot,
    Terminate,
)
from pvc_core.agent_disks import disks_of_ended, disks_of_running
from pvc_core.agent_memory import NO_MEMORY, VmMemory, backoff_s, current_memory, recent_failures, start_limit
from pvc_core.agent_snapshot import AgentDecision, AgentSnapshot, Seen
from pvc_core.agent_starts import in_turn
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.ports import Domain, DomainState
from pvc_core.vm_states import VmEvent

ASK_AGAIN_S = 10.0
"""A guest that has not powered off is asked again: many ignore the first request while they boot."""
LOOK_AGAIN_S = 1.0
"""How soon to look again at what gives no event: a migration that an earlier daemon began, a peer."""
HEAR_WITHIN_S = 1.0
"""So much later than the domain is gone the hypervisor may still tell how it ended."""
ARRIVE_WITHIN_S = 3.0
"""A guest that is paused by a migration of which no record speaks may still be on the point of running."""


@dataclass(frozen=True)
class _Case:
    """One VM at one moment."""

    record: VmRecord
    domain: Domain | None
    memory: VmMemory
    settings: Settings
    now_s: float
    seen: Seen | None = None

    @property
    def uuid(self) -> str:
        return self.record.uuid

    @property
    def is_active(self) -> bool:
        return self.domain is not None and self.domain.state in (DomainState.RUNNING, DomainState.PAUSED)

    @property
    def stops_at_power_off(self) -> bool:
        return self.record.metadata.on_poweroff == "stop"

    @property
    def has_powered_itself_off(self) -> bool:
        """Its guest powered off by its own will, and that is to be the end."""
        return self.stops_at_power_off and self.memory.powered_itself_off

    @property
    def seen_since_s(self) -> float:
        """Since when the domain has looked as it does."""
        return self.seen.since_s if self.seen else 0.0

    @property
    def failures_s(self) -> tuple[float, ...]:
        """Those within the window."""
        return recent_failures(self.memory.failures_s, self.settings, self.now_s)


POWERED_OFF = "its guest powered off"
Step = tuple[Action | None, float | None]
_NOTHING: Step = (None, None)


def decide(snapshot: AgentSnapshot, now_s: float) -> AgentDecision:
    """What to do now. At most one action per VM; a VM with an action under way gets only a cancellation."""
    steps: list[Step] = []
    for uuid, stored in snapshot.vms.items():
        record = stored.value
        memory = current_memory(snapshot.memory.get(uuid, NO_MEMORY), record)
        seen = snapshot.seen.get(uuid)
        case = _Case(record, snapshot.domains.get(uuid), memory, snapshot.settings, now_s, seen)
        if uuid in snapshot.busy:
            steps.append(_while_busy(case, snapshot.busy[uuid]))
        elif record.node == snapshot.node:
            steps.append(_unless_paused(_BY_STATE[record.state](case), uuid, snapshot, now_s))
        elif record.target != snapshot.node:
            steps.append(_unless_paused(_stray(case), uuid, snapshot, now_s))
    for uuid, stored in snapshot.strays.items():
        if uuid not in snapshot.busy and uuid not in snapshot.vms:
            case = _Case(stored.value, snapshot.domains.get(uuid), NO_MEMORY, snapshot.settings, now_s)
            if snapshot.node not in (stored.value.node, stored.value.target):
                steps.append(_unless_paused(_stray(case), uuid, snapshot, now_s))
    starts, look_s = in_turn([action for action, _ in steps if isinstance(action, Start)], snapshot, now_s)
    actions = [action for action, _ in steps if action and (not isinstance(action, Start) or action in starts)]
    wakes = [at for at in (look_s, *(at for _, at in steps)) if at is not None]
    return AgentDecision(tuple(actions), min(wakes, default=None))


def _unless_paused(step: Step, uuid: str, snapshot: AgentSnapshot, now_s: float) -> Step:
    """The step, or nothing for a moment when the VM's last action has just failed; a cancellation does not wait."""
    until_s = snapshot.paused_until_s.get(uuid, now_s)
    if step[0] is None or isinstance(step[0], CancelMigration) or now_s >= until_s:
        return step
    return None, until_s


def _while_busy(case: _Case, action: Action) -> Step:
    if isinstance(action, Migrate) and (case.record.cancelling or case.record.state is not VmState.MIGRATING):
        return _cancel(case)
    return _NOTHING


def _cancel(case: _Case) -> Step:
    """Ask the hypervisor to break the migration off; again only after a while, since that may take its time."""
    asked_s = case.memory.cancel_asked_s
    if asked_s is not None and case.now_s < asked_s + LOOK_AGAIN_S:
        return None, asked_s + LOOK_AGAIN_S
    return CancelMigration(case.uuid, "the migration is cancelled by command"), case.now_s + LOOK_AGAIN_S


def _stray(case: _Case) -> Step:
    if case.domain is None:
        return _NOTHING
    return Terminate(case.uuid, f"it runs here, but belongs to {case.record.node}", stray=True, told=True), None


# ------------------------------------------------------------------------------------------- state by state


def _when_running(case: _Case) -> Step:
    if case.is_active:
        return _stuck_in_a_migration(case) or _snapshot(case) or _sooner(_settles(case), _disks(case))
    if case.domain is not None:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away"), None
    if case.has_powered_itself_off:
        return Record(case.uuid, VmEvent.POWERED_OFF, POWERED_OFF), None
    if case.stops_at_power_off and not case.memory.ended_by and case.now_s < case.seen_since_s + HEAR_WITHIN_S:
        return None, case.seen_since_s + HEAR_WITHIN_S
    detail = f" ({case.memory.last_event})" if case.memory.last_event else ""
    count = len(case.failures_s) + 1
    if count >= start_limit(case.record, case.settings):
        window_s = case.settings.start_failure_window_s
        reason = f"the guest ended{detail}; {count} failures in {window_s} s, giving up; {_how_to_go_on(case)}"
        return Record(case.uuid, VmEvent.GAVE_UP, reason), None
    return Record(case.uuid, VmEvent.GONE, f"the guest ended{detail} while it should run"), None


def _snapshot(case: _Case) -> Step | None:
    """A snapshot that is to be taken here, or was when the daemon or the guest ended. None: there is none.

    Before anything else is done with the guest, since it may have been left frozen.
    """
    name = case.record.snapshots.taking
    if not name or (case.domain is not None and case.domain.job_active):
        return None
    return TakeSnapshot(case.uuid, name, f"its snapshot {name} is to be taken"), None


def _disks(case: _Case) -> Step:
    """What its disks need, which nobody changes while it is paused or leaves."""
    is_at_rest = case.domain is not None and case.domain.state is DomainState.RUNNING and not case.domain.job_active
    return disks_of_running(case.record, case.memory, case.now_s) if is_at_rest else _NOTHING


def _sooner(first: Step, second: Step) -> Step:
    """The first step that is due; else the time of the one that is due first."""
    if first[0] is not None:
        return first
    waits = [at_s for at_s in (first[1], second[1]) if at_s is not None]
    return (second[0], None) if second[0] is not None else (None, min(waits, default=None))


def _how_to_go_on(case: _Case) -> str:
    return f"`pvc vm start {case.record.name}` tries again"


def _settles(case: _Case) -> Step:
    """A guest that had failed elsewhere and has run here for as long as failures count."""
    if not case.record.failed_on:
        return _NOTHING
    settled_s = max((case.seen_since_s, *case.memory.failures_s)) + case.settings.start_failure_window_s
    if case.now_s < settled_s:
        return None, settled_s
    failed_on = ", ".join(case.record.failed_on)
    return Record(case.uuid, VmEvent.SETTLED, f"it runs; that it failed on {failed_on} is forgotten"), None


def _stuck_in_a_migration(case: _Case) -> Step | None:
    """A guest that a migration has paused, though its record speaks of none: the other end died, nobody resumes it.

    None: it is not. As long as a job is under way the hypervisor still works on it.
    """
    if case.domain is None or not case.domain.paused_by_migration:
        return None
    if case.domain.job_active:
        return None, case.now_s + LOOK_AGAIN_S
    if case.now_s < case.seen_since_s + ARRIVE_WITHIN_S:
        return None, case.seen_since_s + ARRIVE_WITHIN_S
    reason = "a migration that is over has left it paused: clear it away and start again"
    return Terminate(case.uuid, reason), None


def _when_starting(case: _Case) -> Step:
    if case.is_active:
        started = Record(case.uuid, VmEvent.STARTED, f"the guest runs; {case.record.reason}"), None
        return _stuck_in_a_migration(case) or started
    if case.domain is not None:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away before the start"), None
    if case.memory.created_s is not None:
        return _ended_at_once(case, case.memory.created_s)
    if left := disks_of_ended(case.record):
        return left, None
    failures = case.failures_s
    error = case.memory.start_error or case.memory.last_event
    if len(failures) >= start_limit(case.record, case.settings):
        window_s = case.settings.start_failure_window_s
        reason = f"{len(failures)} failures in {window_s} s, giving up: {error}; {_how_to_go_on(case)}"
        return Record(case.uuid, VmEvent.GAVE_UP, reason), None
    if case.memory.unrecorded_failure:
        return Record(case.uuid, VmEvent.START_FAILED, case.memory.unrecorded_failure), None
    next_s = (failures[-1] + backoff_s(len(failures), case.settings)) if failures else case.now_s
    if case.now_s < next_s:
        return None, next_s
    return Start(case.uuid, case.record.reason), None


def _ended_at_once(case: _Case, created_s: float) -> Step:
    """The guest was created, and was gone before anybody saw it."""
    if case.has_powered_itself_off:
        return Record(case.uuid, VmEvent.POWERED_OFF, POWERED_OFF), None
    heard_s = max(created_s, case.seen_since_s) + HEAR_WITHIN_S
    if case.stops_at_power_off and not case.memory.ended_by and case.now_s < heard_s:
        return None, heard_s
    detail = f" ({case.memory.last_event})" if case.memory.last_event else ""
    return Record(case.uuid, VmEvent.START_FAILED, f"the guest ended right after its start{detail}"), None


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
        return Terminate(case.uuid, f"the guest has not powered off within {timeout_s} s", told=True), None
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
        return _snapshot(case) or (disks_of_ended(case.record), None)
    return Terminate(case.uuid, f"it runs, but its record says {case.record.state}", told=case.is_active), None


def _when_migrating(case: _Case) -> Step:
    if case.domain is None:
        return _when_migrated_away(case)
    if not case.is_active:
        return Terminate(case.uuid, f"the domain is {case.domain.state.value}: clear it away"), None
    if case.domain.job_active:
        if case.record.cancelling:
            return _cancel(case)
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
    if case.has_powered_itself_off:
        return Record(case.uuid, VmEvent.POWERED_OFF, POWERED_OFF), None
    if case.record.cancelling:
        return Record(case.uuid, VmEvent.GONE, "the guest ended during a migration that was cancelled"), None
    was_asked = memory.was_asked or case.record.metadata.migration_method == "shutdown"
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
