# SPDX-License-Identifier: Apache-2.0
"""agent: what holds whatever there is, and however it came about."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from played_guest import (
    BUSY,
    D,
    E,
    Guest,
    S,
    a_domain,
    a_migrating,
    by_uuid,
    decided,
)

from pvc_core import agent
from pvc_core.agent import decide
from pvc_core.agent_actions import CancelMigration, Migrate, Record, Start, Terminate
from pvc_core.agent_memory import NO_MEMORY, VmMemory, current_memory
from pvc_core.agent_snapshot import AgentDecision, AgentSnapshot, Seen
from pvc_core.errors import Refused
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.ports import Domain, DomainEventKind, DomainState
from pvc_core.testing.builders import a_vm, uuid_of
from pvc_core.vm_states import OFF, VmEvent, advance

# ------------------------------------------------------------------------------------ whatever there may be

NAMES = ("web1", "web2", "web3")
moments = st.floats(min_value=0, max_value=2000, allow_nan=False)
memories = st.builds(
    VmMemory,
    transition=st.integers(min_value=-1, max_value=1),
    asked_at_s=st.none() | moments,
    asked_last_s=st.none() | moments,
    peer=st.none() | st.tuples(st.none() | st.sampled_from(DomainState), moments),
    peer_error=st.sampled_from(["", "no route to host"]),
    live_failed=st.sampled_from(["", "unsafe"]),
    unrecorded_failure=st.sampled_from(["", "failed"]),
    created_s=st.none() | moments,
    was_asked=st.booleans(),
    ended_by=st.sampled_from(["", "guest", "other"]),
    failures_s=st.lists(moments, max_size=4).map(lambda at: tuple(sorted(at))),
)


@st.composite
def vms(draw: st.DrawFn, name: str) -> VmRecord:
    state = draw(st.sampled_from(VmState))
    migrating = state is S.MIGRATING
    node, target = draw(st.permutations(["hv1", "hv2", "hv3"]))[:2]
    return a_vm(
        name,
        node=node,
        state=state,
        target=target if migrating else "",
        cancelling=migrating and draw(st.booleans()),
        forced=state is S.SHUTTING_DOWN and draw(st.booleans()),
        migration_method=draw(st.sampled_from(["live", "shutdown", "none"])),
        shutdown_timeout_s=draw(st.sampled_from([None, 0, 30])),
        on_poweroff=draw(st.sampled_from(["restart", "stop"])),
        transition=draw(st.integers(min_value=0, max_value=1)),
    )


@st.composite
def domains(draw: st.DrawFn, name: str) -> Domain:
    state = draw(st.sampled_from(DomainState))
    domain = a_domain(name, state, job_active=draw(st.booleans()))
    return replace(domain, paused_by_migration=state is D.PAUSED and draw(st.booleans()))


@st.composite
def snapshots(draw: st.DrawFn) -> AgentSnapshot:
    records = [draw(vms(name)) for name in NAMES]
    active = [name for name in NAMES if draw(st.booleans())]
    ours = [vm for vm in records if draw(st.booleans())]
    busy = draw(st.sampled_from(NAMES)) if draw(st.booleans()) else ""
    under_way = draw(st.sampled_from(BUSY))(uuid_of(busy)) if busy else None
    return AgentSnapshot(
        node="hv1",
        vms=by_uuid(ours),
        strays=by_uuid(vm for vm in records if vm not in ours and vm.name in active),
        domains={uuid_of(name): draw(domains(name)) for name in active},
        settings=Settings(),
        busy={under_way.uuid: under_way} if under_way else {},
        memory={uuid_of(name): draw(memories) for name in NAMES if draw(st.booleans())},
        seen={uuid_of(name): Seen("other", draw(moments)) for name in NAMES if draw(st.booleans())},
    )


@given(snapshots(), moments)
@settings(max_examples=300, deadline=None)
def test_whatever_there_is_no_guest_starts_twice_or_elsewhere_and_no_vm_gets_two_actions(
    snapshot: AgentSnapshot, now_s: float
) -> None:
    made = decide(snapshot, now_s)

    assert made == decide(snapshot, now_s), "the same snapshot gives the same decision"
    uuids = [done.uuid for done in made.actions]
    assert len(uuids) == len(set(uuids))
    assert made.wake_at_s is None or made.wake_at_s > now_s or made.actions
    for done in made.actions:
        record = {**snapshot.strays, **snapshot.vms}[done.uuid].value
        domain = snapshot.domains.get(done.uuid)
        assert done.uuid not in snapshot.busy or isinstance(done, CancelMigration)
        assert done.reason is not None
        if isinstance(done, Start):
            assert record.node == "hv1"
            assert record.state is S.STARTING
            assert domain is None
        if isinstance(done, Migrate):
            assert (record.node, record.state, record.cancelling) == ("hv1", S.MIGRATING, False)
            assert domain is not None
            assert not domain.job_active
        if isinstance(done, Terminate):
            assert domain is not None
            assert record.target != "hv1" or record.node == "hv1"
        if isinstance(done, Terminate) and not done.stray and domain and domain.state in (D.RUNNING, D.PAUSED):
            assert _may_be_terminated(record, domain, snapshot, now_s)
        if isinstance(done, Record):
            advance(record, done.event, done.reason, "")  # never an event that its state refuses


def _may_be_terminated(record: VmRecord, domain: Domain, snapshot: AgentSnapshot, now_s: float) -> bool:
    """A guest that may be running is only terminated when it is to be off, is overdue, or runs elsewhere."""
    memory = current_memory(snapshot.memory.get(record.uuid, NO_MEMORY), record)
    timeout_s = agent.shutdown_timeout_s(record, snapshot.settings)
    is_overdue = memory.asked_at_s is not None and now_s >= memory.asked_at_s + timeout_s
    if record.state is S.MIGRATING:
        runs_there = domain.state is D.PAUSED and memory.peer is not None and memory.peer[0] is D.RUNNING
        return runs_there or (is_overdue and record.metadata.migration_method != "live")
    if domain.paused_by_migration and record.state in (S.STARTING, S.RUNNING):
        return not domain.job_active
    return record.state in OFF or record.forced or (record.state in (S.SHUTTING_DOWN, S.RESTARTING) and is_overdue)


@given(
    st.sampled_from([S.STOPPED, S.RUNNING]),
    st.lists(
        st.sampled_from([E.START, E.SHUTDOWN, E.STOP, E.RESTART, E.DISABLE, E.MIGRATE, "vanish", "power off", "wait"]),
        max_size=12,
    ),
    st.sampled_from(["restart", "stop"]),
    st.booleans(),
    st.integers(min_value=0, max_value=2),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_and_happens_the_vm_comes_to_rest_as_its_record_says(
    first: VmState, script: list[str], on_poweroff: str, obeys: bool, start_errors: int
) -> None:
    guest = Guest(a_vm(state=first, on_poweroff=on_poweroff), runs=first is S.RUNNING, obeys=obeys)
    guest.start_errors = ["no"] * start_errors
    for line in script:
        if line == "vanish":
            guest.vanishes()
        elif line == "power off":
            if guest.domain is not None:
                guest.vanishes(DomainEventKind.POWERED_OFF)
        elif line == "wait":
            guest.runs(for_s=7)
        else:
            try:
                guest.told(VmEvent(line), **({"target": "hv2"} if line == E.MIGRATE else {}))
            except Refused:
                continue
    guest.runs()
    assert guest.record.state in (*OFF, S.RUNNING) or guest.record.node == "hv2"
    if guest.record.node == "hv1":
        assert (guest.domain is D.RUNNING) == (guest.record.state is S.RUNNING)
    else:
        assert guest.domain is None


def test_every_state_has_a_decision_for_every_domain() -> None:
    for state, domain in itertools.product(VmState, [None, *DomainState]):
        record = a_migrating() if state is S.MIGRATING else a_vm(state=state)
        made = decided(record, domains=[a_domain(state=domain)] if domain else [])
        assert isinstance(made, AgentDecision)
