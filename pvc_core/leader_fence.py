# SPDX-License-Identifier: Apache-2.0
"""leader_fence: what is done about a node whose session is gone: wait, have it switched off, believe proof alone.

`decide(snapshot, memory, now_s)` gives actions with reasons. A node is lost when its session is gone and its daemon
did not say that it stops. It is fenced if VMs are to run there, after a grace time by the leader's own clock; clocks
of hosts are never compared. Only proof that it is off leads on to the recovery of its VMs (`leader_recovery`): a fence
agent confirmed it, its own armed watchdog has fenced it (`self_fence` has why), storage has shut it out
(`storage_evidence`), or a person said so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from pvc_core import changes, storage_evidence
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.fence_memory import (
    AskAgents,
    BeginFence,
    BeginShutOut,
    ConfirmFence,
    EndFence,
    FenceAction,
    FenceMemory,
    NoteGone,
    NoteRefusal,
    TakeBack,
    grace_ends_s,
)
from pvc_core.fence_standing import TOLD_EVERY, has_storage_to_answer, shut_outs_of_fence
from pvc_core.leader_ready import take_back
from pvc_core.model import FenceReport, FenceStep, NodeMode, NodeRecord
from pvc_core.shut_out_record import ShutOut
from pvc_core.snapshot import ClusterSnapshot, NodeView

SEEN_SOON_S = 1.0
"""A life sign that is in the store already reaches the watched copy within that."""
DRAINED = (NodeMode.FLUSHED, NodeMode.FLUSHING)
NO_GUESTS = "no VM is to run there"
NOTHING_LEFT = f"{NO_GUESTS} any more: there is nothing to recover"


# ------------------------------------------------------------------------------------------------ deciding


@dataclass(frozen=True)
class FenceDecision:
    """The actions, and the monotonic time at which to decide again even if nothing happens (None: never)."""

    actions: tuple[FenceAction, ...]
    wake_at_s: float | None


_Step = FenceAction | float | None
"""Something to do, when to look again, or neither."""


def decide(snapshot: ClusterSnapshot, memory: FenceMemory, now_s: float) -> FenceDecision:
    """What to do now about every node that is lost, and every fenced one that is back. `memory`: after a `look`."""
    steps = [step for name in sorted(snapshot.nodes) for step in _steps(snapshot.nodes[name], snapshot, memory, now_s)]
    actions = tuple(step for step in steps if step is not None and not isinstance(step, float))
    return FenceDecision(actions, min((step for step in steps if isinstance(step, float)), default=None))


def _steps(node: NodeView, snapshot: ClusterSnapshot, memory: FenceMemory, now_s: float) -> Iterator[_Step]:
    step = node.record.value.fence.step if node.record.value.fence else None
    if not node.is_alive and node.name not in memory.gone_since_s and not why_paused(node, snapshot):
        yield now_s + SEEN_SOON_S
        return
    if step is FenceStep.FENCING:
        yield from _fencing(node, snapshot, memory, now_s)
    elif step is FenceStep.RECOVERING:
        return
    elif node.is_alive and not node.record.value.shut_out:
        yield _taken_back(node, snapshot, memory, now_s)
    elif not node.record.value.fenced and is_lost(node, snapshot):
        due_s = grace_ends_s(memory, node.name, snapshot.settings)
        yield BeginFence(node.name, _why_lost(node, snapshot)) if now_s >= due_s else due_s
    elif not (node.record.value.fenced or node.record.value.gone_at) and why_not_lost(node, snapshot) == NO_GUESTS:
        due_s = grace_ends_s(memory, node.name, snapshot.settings)
        yield NoteGone(node.name, f"its session is gone; {NO_GUESTS}") if now_s >= due_s else due_s


def is_lost(node: NodeView, snapshot: ClusterSnapshot) -> bool:
    """Whether the node is gone without a word and VMs are to run there."""
    return why_not_lost(node, snapshot) == ""


def why_not_lost(node: NodeView, snapshot: ClusterSnapshot) -> str:
    """Why there is nothing to fence; "" when there is."""
    record = node.record.value
    if node.is_alive:
        return "its daemon is there again"
    if record.left:
        return "its daemon was stopped on purpose"
    paused = why_paused(node, snapshot)
    if paused:
        return paused
    if not any(_guests(node, snapshot)):
        return NO_GUESTS
    return ""


def why_paused(node: NodeView, snapshot: ClusterSnapshot) -> str:
    """Why a loss of the node would be planned, and is not acted on; "" when it would not be."""
    if snapshot.pause is not None:
        return "the cluster is in maintenance"
    return "it is in maintenance" if node.record.value.maintenance else ""


def guests_of(node: NodeView, snapshot: ClusterSnapshot) -> tuple[str, ...]:
    """The UUIDs of VMs that may run on the node: its own that are not off, those on their way, and unreadable ones."""
    return tuple(sorted({*_guests(node, snapshot)}))


def _guests(node: NodeView, snapshot: ClusterSnapshot) -> Iterator[str]:
    """The same in no order, and possibly twice: as far as anybody wants to know."""
    yield from (vm.value.uuid for vm in snapshot.active_by_node.get(node.name, ()))
    yield from snapshot.arriving.get(node.name, ())
    yield from (uuid for uuid in node.reserved.vms if uuid not in snapshot.vms)


def _why_lost(node: NodeView, snapshot: ClusterSnapshot) -> str:
    count = len(guests_of(node, snapshot))
    vms = "one VM is" if count == 1 else f"{count} VMs are"
    return f"its session is gone and {vms} to run there"


def _fencing(node: NodeView, snapshot: ClusterSnapshot, memory: FenceMemory, now_s: float) -> Iterator[_Step]:
    record, name = node.record.value, node.name
    number = record.fence.number if record.fence else 0
    guests = guests_of(node, snapshot)
    proof = "" if why_paused(node, snapshot) else storage_evidence.proof(node, guests, snapshot)
    if proof:
        yield ConfirmFence(name, number, proof)
        return
    asked = shut_outs_of_fence(record)
    why_not = why_not_lost(node, snapshot)
    is_open = bool(guests) and snapshot.pause is None and has_storage_to_answer(record)
    if why_not and not (node.is_alive and is_open):
        yield EndFence(name, _why_over(NOTHING_LEFT if why_not == NO_GUESTS else why_not, asked))
        return
    if why_not:
        return  # its daemon is back, and waits for what storage has to say
    answer = memory.answers.get(name)
    verdict = answer[1] if answer and answer[0] == number else None
    if verdict is not None and verdict.confirmed:
        yield ConfirmFence(name, number, verdict.detail or "a fence agent confirmed it")
        return
    waits_for_watchdog = record.watchdog_s > 0
    if waits_for_watchdog:
        over_s = memory.gone_since_s[name] + record.watchdog_s + snapshot.settings.watchdog_margin_s
        if now_s >= over_s:
            reason = (
                f"its watchdog has fenced it: it was to be off {record.watchdog_s:g} s after the end of its session"
            )
            yield ConfirmFence(name, number, reason)
            return
        yield over_s
    storage_can = not storage_evidence.why_no_proof(node, guests, snapshot)
    missing = storage_evidence.backends_of(guests, snapshot) - set(asked) if storage_can else frozenset()
    if verdict is not None and missing:
        yield BeginShutOut(name, number, tuple(sorted(missing)), verdict.detail)
        return
    waits_for_storage = storage_can and not any(entry.attempts for entry in asked.values())
    is_proven_soon = waits_for_watchdog or waits_for_storage
    if verdict is not None and record.fence and not is_proven_soon:  # what is proven soon needs nobody's help
        refusals = memory.refusals.get(name, 0)
        if refusals and (verdict.detail != record.fence.problem or refusals >= TOLD_EVERY):
            yield NoteRefusal(name, number, refusals, verdict.detail)
            return
    if memory.asking.get(name) != number:
        refused_s = memory.refused_at_s.get(name)
        again_s = now_s if refused_s is None else refused_s + snapshot.settings.fence_retry_s
        lost_for_s = now_s - memory.gone_since_s[name]
        yield AskAgents(name, number, _why_lost(node, snapshot), lost_for_s) if now_s >= again_s else again_s


def _why_over(reason: str, asked: Mapping[str, ShutOut]) -> str:
    """Guests that storage has shut out meanwhile do not get their disks back."""
    if not asked:
        return reason
    return f"{reason}; guests on it may have lost their disks in {' and '.join(asked)} and need a restart then"


def _taken_back(node: NodeView, snapshot: ClusterSnapshot, memory: FenceMemory, now_s: float) -> _Step:
    settings = snapshot.settings
    if not (_comes_back_by_itself(node) and settings.autoready) or why_paused(node, snapshot):
        return None
    due_s = memory.back_since_s[node.name][1] + settings.autoready_delay_s
    if now_s < due_s:
        return due_s
    if not _is_at_work(node):
        return None  # its next report says when it is
    return TakeBack(node.name, f"its daemon has been there again for {settings.autoready_delay_s:g} s")


def _comes_back_by_itself(node: NodeView) -> bool:
    """It was in service until it was fenced, or until its host went down, and nobody has decided otherwise since."""
    record = node.record.value
    if node.member is not None and record.goes_down:
        return record.mode in DRAINED and record.goes_down != node.member.value.session
    return record.fenced and record.mode is NodeMode.FLUSHED and record.fence is not None and record.fence.was_ready


def _is_at_work(node: NodeView) -> bool:
    """Its daemon has reported in this session, and its hypervisor answers."""
    if node.member is None or node.report is None:
        return False
    report = node.report.value
    return report.session == node.member.value.session and report.hypervisor_connected


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: FenceAction, snapshot: ClusterSnapshot, now: str) -> Change:
    """The transaction of an action, on the version of the node's record: a daemon that comes back writes there too.

    Raises `Refused` when the action does not make sense any more on this snapshot; then decide again.
    """
    node = snapshot.nodes.get(action.node)
    if node is None:
        raise Refused(action.node, "it is gone")
    match action:
        case NoteGone():
            return _note_gone(action, node, snapshot, now)
        case BeginFence():
            return _begin(action, node, snapshot, now)
        case BeginShutOut():
            return _begin_shut_out(action, node, snapshot)
        case NoteRefusal():
            return _refused(action, node, snapshot)
        case ConfirmFence():
            return confirm(node, action.number, action.reason, now, snapshot)
        case EndFence():
            report = _report(node, FenceStep.FENCING)
            kind, why = EventKind.NODE_FENCE_ENDED, action.reason
            return _change(node, kind, why, fence=_ended(report, now), reason=why, changed_at=now)
        case TakeBack():
            return _take_back(action, node, snapshot, now)
        case AskAgents():
            raise TypeError("asking fence agents is no transaction")


def _report(node: NodeView, step: FenceStep, number: int = 0) -> FenceReport:
    report = node.record.value.fence
    if report is None or report.step is not step or (number and report.number != number):
        raise Refused(node.name, f"it is not {step} any more")
    return report


def _change(node: NodeView, kind: EventKind, why: str, **fields: object) -> Change:
    before = node.record.value
    after: NodeRecord = msgspec.structs.replace(before, **fields)
    happening = of_node(kind, before, after, why)
    return Change((changes.write_node(node.record, after),), why, happenings=(happening,))


def _ended(report: FenceReport, now: str) -> FenceReport:
    return msgspec.structs.replace(report, step=FenceStep.RECOVERED, problem="", finished_at=now)


def returned(record: NodeRecord, now: str) -> NodeRecord:
    """The record of a node whose daemon joins: it is not gone, and a fence that nothing has confirmed yet is over.

    But for one for which storage has been told to shut the node out: that has no way back.
    """
    report = record.fence
    if report is not None and report.step is FenceStep.FENCING and not shut_outs_of_fence(record):
        report = _ended(report, now)
    return msgspec.structs.replace(record, fence=report, gone_at="")


def _note_gone(action: NoteGone, node: NodeView, snapshot: ClusterSnapshot, now: str) -> Change:
    if (why_not := why_not_lost(node, snapshot)) != NO_GUESTS:
        raise Refused(node.name, why_not or "VMs are to run there")
    return _change(node, EventKind.NODE_GONE, action.reason, gone_at=now)


def _begin(action: BeginFence, node: NodeView, snapshot: ClusterSnapshot, now: str) -> Change:
    report = node.record.value.fence
    why_not = why_not_lost(node, snapshot)
    if why_not or (report is not None and report.step is not FenceStep.RECOVERED):
        raise Refused(node.name, why_not or f"it is {report.step if report else ''} already")
    return begin(node, action.reason, now)


def begin(node: NodeView, reason: str, now: str) -> Change:
    """Write down that a node is to be switched off."""
    earlier = node.record.value.fence
    report = FenceReport(
        number=earlier.number + 1 if earlier else 1,
        reason=reason,
        was_ready=node.mode in (NodeMode.READY, NodeMode.UNFLUSHING),
        started_at=now,
    )
    return _change(
        node, EventKind.NODE_LOST, reason, fence=report, left=False, gone_at="", reason=reason, changed_at=now
    )


def _begin_shut_out(action: BeginShutOut, node: NodeView, snapshot: ClusterSnapshot) -> Change:
    """Its daemon, if it joins at this moment, writes the record as well: then this is decided again."""
    _report(node, FenceStep.FENCING, action.number)
    if why_not := why_not_lost(node, snapshot):
        raise Refused(node.name, why_not)
    if why_not := storage_evidence.why_no_proof(node, guests_of(node, snapshot), snapshot):
        raise Refused(node.name, why_not)
    entries = {backend: ShutOut(fence=action.number) for backend in action.backends}
    told = f"{' and '.join(action.backends)} told to shut it out, since no device has switched it off: {action.reason}"
    shut_out = {**node.record.value.shut_out, **entries}
    return _change(node, EventKind.NODE_SHUTTING_OUT, told, shut_out=shut_out)


def _refused(action: NoteRefusal, node: NodeView, snapshot: ClusterSnapshot) -> Change:
    report = _report(node, FenceStep.FENCING, action.number)
    after = msgspec.structs.replace(report, attempts=report.attempts + action.attempts, problem=action.reason)
    sentence = f"nothing confirms that {node.name} is off: {action.reason}; nothing is recovered, it is tried again"
    if (human := f"`pvc node confirm-fenced {node.name}`") not in action.reason:
        sentence += f"; {human} if you have made certain that it is off"
    if storage_evidence.backends_of(guests_of(node, snapshot), snapshot):
        why_not = storage_evidence.why_no_proof(node, guests_of(node, snapshot), snapshot)
        sentence += f"; storage that shuts it out is no proof: {why_not}" if why_not else ""
    return _change(node, EventKind.NODE_NOT_FENCED, sentence, fence=after)


def confirm(node: NodeView, number: int, evidence: str, now: str, snapshot: ClusterSnapshot) -> Change:
    """Write down that a node is off. `number` 0: whichever fence it is. Raises `Refused` when it is not lost.

    What storage has shut out may be alive. Backends that have not shut it out yet are told now, while it is off for
    certain: locks that it holds are in the way, and a mistake of who confirmed it does less harm.
    """
    guests = guests_of(node, snapshot)
    if node.is_alive and not storage_evidence.proof(node, guests, snapshot):
        raise Refused(node.name, "its daemon is alive")
    report = _report(node, FenceStep.FENCING, number)
    drain = node.record.value.drain
    if drain is not None and not drain.finished_at:
        drain = msgspec.structs.replace(drain, finished_at=now)
    return _change(
        node,
        EventKind.NODE_FENCED,
        evidence,
        fence=msgspec.structs.replace(
            report, step=FenceStep.RECOVERING, evidence=evidence, problem="", confirmed_at=now
        ),
        fenced=True,
        shut_out=storage_evidence.to_shut_out(node, guests, snapshot),
        mode=NodeMode.FLUSHED,
        drain=drain,
        watchdog_s=0.0,
        reason=evidence,
        changed_at=now,
    )


def _take_back(action: TakeBack, node: NodeView, snapshot: ClusterSnapshot, now: str) -> Change:
    if not (node.is_alive and _comes_back_by_itself(node)):
        raise Refused(node.name, f"it is {node.liveness} and {node.mode}")
    if why_paused(node, snapshot):
        raise Refused(node.name, why_paused(node, snapshot))
    leaves_running = not snapshot.settings.failback
    return take_back(node, snapshot, action.reason, now, leaves_running=leaves_running, by_itself=True)
