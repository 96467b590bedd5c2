# SPDX-License-Identifier: Apache-2.0
"""played_guest: one VM and a daemon that does what the agent decides, on a clock that jumps to each decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pvc_core import agent_memory, layout
from pvc_core.agent import decide
from pvc_core.agent_actions import Action, AskShutdown, LookAtPeer, Migrate, Record, Start, Terminate
from pvc_core.agent_memory import NO_MEMORY, VmMemory, current_memory
from pvc_core.agent_snapshot import AgentDecision, AgentSnapshot, Seen, looked_at
from pvc_core.codec import Stored
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.ports import Domain, DomainEvent, DomainEventKind, DomainState
from pvc_core.testing.builders import a_vm, stored, uuid_of
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.vm_states import VmEvent, advance

S, E, D = VmState, VmEvent, DomainState
NOW_S = 1000.0
ASKED = VmMemory(transition=0, asked_at_s=NOW_S, asked_last_s=NOW_S)


def a_domain(vm: VmRecord | str = "web1", state: DomainState = D.RUNNING, *, job_active: bool = False) -> Domain:
    name = vm if isinstance(vm, str) else vm.name
    return Domain(uuid=uuid_of(name), name=name, state=state, job_active=job_active)


def by_uuid(vms: Iterable[VmRecord]) -> dict[str, Stored[VmRecord]]:
    return {vm.uuid: stored(layout.vm(vm.uuid), vm) for vm in vms}


def decided(
    *vms: VmRecord,
    domains: Iterable[Domain] = (),
    memory: VmMemory | Mapping[str, VmMemory] = NO_MEMORY,
    busy: Action | None = None,
    strays: Iterable[VmRecord] = (),
    settings: Settings | None = None,
    now_s: float = NOW_S,
    **more: Any,
) -> AgentDecision:
    """What the agent of hv1 decides for these VMs."""
    notes = memory if isinstance(memory, Mapping) else {vm.uuid: memory for vm in vms}
    snapshot = AgentSnapshot(
        node="hv1",
        vms=by_uuid(vms),
        domains={domain.uuid: domain for domain in domains},
        settings=settings or Settings(),
        strays=by_uuid(strays),
        busy={busy.uuid: busy} if busy else {},
        memory=notes,
        **more,
    )
    return decide(snapshot, now_s)


def action(*vms: VmRecord, **more: Any) -> Action | None:
    """The one action decided for one VM, or None."""
    actions = decided(*vms, **more).actions
    assert len(actions) <= 1
    return actions[0] if actions else None


def recorded(done: Action | None) -> VmEvent:
    assert isinstance(done, Record), done
    return done.event


class Guest:
    """One VM on hv1 and a daemon that does what the agent decides, on a clock that jumps from decision to decision."""

    def __init__(self, record: VmRecord, *, runs: bool = False, obeys: bool = True, **settings: Any) -> None:
        self.record = record
        self.domain: DomainState | None = D.RUNNING if runs else None
        self.obeys = obeys
        self.left_paused = False
        self.start_errors: list[str] = []
        self.ends_at_once = 0
        self.migration_error = ""
        self.peer: DomainState | None = None
        self.clock = ManualClock(NOW_S)
        self.memory = NO_MEMORY
        self.seen: dict[str, Seen] = {}
        self.settings = Settings(**settings)
        self.done: list[tuple[float, Action]] = []

    def told(self, event: VmEvent, **more: Any) -> None:
        """A command is accepted."""
        self.record = advance(self.record, event, f"{event} requested", self.clock.utc_iso(), **more)

    def vanishes(self, kind: DomainEventKind | None = DomainEventKind.CRASHED) -> None:
        """It ends, and the hypervisor says how; None: nobody hears it."""
        self.domain = None
        if kind is not None:
            self.hears(kind)

    def hears(self, kind: DomainEventKind) -> None:
        event = DomainEvent(self.record.uuid, kind)
        self.memory = agent_memory.heard(current_memory(self.memory, self.record), event)

    def decision(self) -> AgentDecision:
        domain = replace(a_domain(self.record), state=self.domain) if self.domain else None
        domain = replace(domain, paused_by_migration=self.left_paused) if domain else None
        domains = [domain] if domain else []
        by_id = {each.uuid: each for each in domains}
        self.seen = looked_at(self.seen, [self.record.uuid], by_id, self.clock.monotonic_s())
        return decided(
            self.record,
            domains=domains,
            memory=self.memory,
            settings=self.settings,
            now_s=self.clock.monotonic_s(),
            seen=self.seen,
        )

    def runs(self, for_s: float | None = None) -> list[str]:
        """Decide and do for this long, or until nothing is left to do or wait for; what was done, in words."""
        first, end_s = len(self.done), self.clock.monotonic_s() + (10_000 if for_s is None else for_s)
        for _ in range(1000):
            made = self.decision()
            if made.actions:
                self._do(made.actions[0])
            elif made.wake_at_s is None or made.wake_at_s > end_s:
                break
            else:
                assert made.wake_at_s > self.clock.monotonic_s(), "it would spin"
                self.clock.advance(made.wake_at_s - self.clock.monotonic_s())
        else:
            raise AssertionError(f"never comes to rest: {self.done[-4:]}")
        if for_s is not None:
            self.clock.advance(end_s - self.clock.monotonic_s())
        return [_in_words(done) for _, done in self.done[first:]]

    def _do(self, done: Action) -> None:
        now_s = self.clock.monotonic_s()
        self.done.append((now_s - NOW_S, done))
        self.memory = current_memory(self.memory, self.record)
        match done:
            case Start():
                assert self.domain is None
                self._start(now_s)
            case AskShutdown():
                self.memory = agent_memory.asked(self.memory, now_s)
                if self.obeys:
                    self.vanishes(DomainEventKind.POWERED_OFF)
            case Terminate():
                self.left_paused = False
                self.vanishes(DomainEventKind.STOPPED)
            case Migrate():
                self._migrate(done, now_s)
            case LookAtPeer():
                self.memory = replace(self.memory, peer=(self.peer, now_s))
            case Record():
                self._record(done, now_s)

    def _start(self, now_s: float) -> None:
        self.memory = agent_memory.starting(self.memory)
        if self.start_errors:
            error = self.start_errors.pop(0)
            self.memory = agent_memory.start_failed(self.memory, self.record, error, self.settings, now_s)
            return
        self.domain = D.RUNNING
        self.hears(DomainEventKind.STARTED)
        if self.ends_at_once:
            self.ends_at_once -= 1
            self.vanishes()
        self.memory = agent_memory.created(self.memory, now_s)

    def _migrate(self, done: Migrate, now_s: float) -> None:
        if self.migration_error:
            self.memory = replace(self.memory, live_failed=self.migration_error)
        else:
            self.domain, self.peer = None, D.RUNNING
            self.memory = replace(self.memory, peer=(D.RUNNING, now_s))

    def _record(self, done: Record, now_s: float) -> None:
        self.record = advance(self.record, done.event, done.reason, self.clock.utc_iso())
        self.memory = agent_memory.recorded(self.memory, done.event, now_s)


def _in_words(done: Action) -> str:
    return done.event.value if isinstance(done, Record) else type(done).__name__


def times_of(guest: Guest, kind: type[Action]) -> list[float]:
    return [at for at, done in guest.done if isinstance(done, kind)]


def a_migrating(method: str = "none", **more: Any) -> VmRecord:
    return a_vm(state="migrating", target="hv2", migration_method=method, reason="flush of hv1", **more)


BUSY: list[Callable[[str], Action]] = [
    lambda uuid: Start(uuid, ""),
    lambda uuid: AskShutdown(uuid, ""),
    lambda uuid: Terminate(uuid, ""),
    lambda uuid: LookAtPeer(uuid, "hv2", ""),
    lambda uuid: Record(uuid, E.STARTED, ""),
]
