# SPDX-License-Identifier: Apache-2.0
"""leader_shut_out: whom the leader has storage shut out, and when storage is to let a node in again.

What is to be done stands in the node's record (`NodeRecord.shut_out`), so that another leader goes on from there; what
is remembered here is patience. Storage is told when it is to prove that a lost node does no harm, and once a node is
known to be off, before its VMs start elsewhere: then with a bounded number of tries. A node that is back is let in as
soon as no guest runs on it that is not its own; until then it takes no VMs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from pvc_core import changes
from pvc_core.changes import Change
from pvc_core.errors import Refused
from pvc_core.events import EventKind, of_node
from pvc_core.fence_standing import TOLD_EVERY, waits_for_leader
from pvc_core.model import FenceStep
from pvc_core.shut_out_record import ShutOut
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF

ATTEMPTS = 3
"""So often a backend is told to shut out a node that is off for certain; then its VMs start elsewhere all the same."""

Purpose = Literal["shut-out", "admit"]
_Key = tuple[str, str]
"""A node and a backend."""


# ------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class AskStorage:
    """Have `backend` shut `node` out, or let it in again: this is not written, it is done; the answer is remembered."""

    node: str
    backend: str
    purpose: Purpose
    fence: int

    @property
    def key(self) -> _Key:
        return (self.node, self.backend)


@dataclass(frozen=True)
class Answer:
    """What a backend said: whether it did what it was asked for, and a sentence."""

    done: bool
    detail: str


@dataclass(frozen=True)
class NoteAnswer:
    """Note what a backend said when it was `asked`; attempts: since the last note."""

    asked: AskStorage
    answer: Answer
    attempts: int

    @property
    def node(self) -> str:
        return self.asked.node


# -------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class ShutOutMemory:
    """What one leader remembers. asking: what is being asked now. answers: what is to be noted. refusals: how often

    since the last note. refused_at_s: when last, by the leader's own clock.
    """

    asking: Mapping[_Key, AskStorage] = field(default_factory=dict)
    answers: Mapping[_Key, tuple[AskStorage, Answer]] = field(default_factory=dict)
    refusals: Mapping[_Key, int] = field(default_factory=dict)
    refused_at_s: Mapping[_Key, float] = field(default_factory=dict)


def look(memory: ShutOutMemory, snapshot: ClusterSnapshot) -> ShutOutMemory:
    """The memory without what has no meaning any more: of another purpose, another fence, or a backend that is done."""
    due = {asked.key: asked for asked in _wanted(snapshot)}
    answers = {key: told for key, told in memory.answers.items() if due.get(key) == told[0]}
    return replace(
        memory,
        answers=answers,
        refusals={key: count for key, count in memory.refusals.items() if key in answers or key in memory.asking},
        refused_at_s={key: at_s for key, at_s in memory.refused_at_s.items() if key in due},
    )


def asked(memory: ShutOutMemory, action: AskStorage) -> ShutOutMemory:
    """The backend is being asked; nothing else is asked of it for this node meanwhile."""
    return replace(memory, asking={**memory.asking, action.key: action})


def answered(memory: ShutOutMemory, action: AskStorage, answer: Answer, now_s: float) -> ShutOutMemory:
    """The backend has answered, or its time is over."""
    key = action.key
    return replace(
        memory,
        asking={other: asked for other, asked in memory.asking.items() if other != key},
        answers={**memory.answers, key: (action, answer)},
        refusals={**memory.refusals, key: 0 if answer.done else memory.refusals.get(key, 0) + 1},
        refused_at_s={**memory.refused_at_s, key: now_s},
    )


def noted(memory: ShutOutMemory, action: NoteAnswer) -> ShutOutMemory:
    """The answer is in the store now."""
    key = action.asked.key
    return replace(memory, refusals={other: count for other, count in memory.refusals.items() if other != key})


# ------------------------------------------------------------------------------------------------ deciding


@dataclass(frozen=True)
class ShutOutDecision:
    """The actions, and the monotonic time at which to decide again even if nothing happens (None: never)."""

    actions: tuple[AskStorage | NoteAnswer, ...]
    wake_at_s: float | None


def decide(snapshot: ClusterSnapshot, memory: ShutOutMemory, now_s: float) -> ShutOutDecision:
    """What to ask storage now, and what to write of its answers. `memory`: after a `look`."""
    actions, wakes_s = list[AskStorage | NoteAnswer](), list[float]()
    for wanted in _wanted(snapshot):
        key = wanted.key
        note = _note(wanted, snapshot, memory)
        if note is not None:
            actions.append(note)
        elif key not in memory.asking:
            refused_s = memory.refused_at_s.get(key)
            again_s = now_s if refused_s is None else refused_s + snapshot.settings.fence_retry_s
            if now_s >= again_s:
                actions.append(wanted)
            else:
                wakes_s.append(again_s)
    return ShutOutDecision(tuple(actions), min(wakes_s, default=None))


def _note(wanted: AskStorage, snapshot: ClusterSnapshot, memory: ShutOutMemory) -> NoteAnswer | None:
    """What is to be written of the last answer; None when it is written, or not worth it."""
    told = memory.answers.get(wanted.key)
    if told is None or wanted.key in memory.asking:
        return None
    answer, refusals = told[1], memory.refusals.get(wanted.key, 0)
    if answer.done:
        return NoteAnswer(wanted, answer, 0)
    record = snapshot.nodes[wanted.node].record.value
    is_news = answer.detail != record.shut_out[wanted.backend].problem
    is_counted = wanted.purpose == "shut-out" and record.fence is not None and record.fence.step is FenceStep.RECOVERING
    if refusals and (is_news or is_counted or refusals >= TOLD_EVERY):
        return NoteAnswer(wanted, answer, refusals)
    return None


def _wanted(snapshot: ClusterSnapshot) -> Iterator[AskStorage]:
    for name in sorted(snapshot.nodes):
        node = snapshot.nodes[name]
        for backend, entry in sorted(node.record.value.shut_out.items()):
            purpose = _purpose(node, entry, snapshot)
            if purpose is not None:
                yield AskStorage(name, backend, purpose, entry.fence)


def _purpose(node: NodeView, entry: ShutOut, snapshot: ClusterSnapshot) -> Purpose | None:
    record = node.record.value
    report = record.fence
    if report is not None and report.step is not FenceStep.RECOVERED:
        is_open = entry.fence == report.number and entry.state == "asking" and waits_for_leader(record)
        return "shut-out" if is_open else None
    return None if why_not_yet(node, snapshot) else "admit"


def why_not_yet(node: NodeView, snapshot: ClusterSnapshot) -> str:
    """Why a node is not to be let in now; "" when it is: its daemon is there and no guest runs that is not its own.

    A guest that was shut out must have ended before: it could write again.
    """
    if node.member is None or node.report is None:
        return "its daemon is not there"
    report = node.report.value
    if report.session != node.member.value.session or not report.hypervisor_connected:
        return "its daemon has not said what runs there"
    for uuid in sorted(report.domains):
        stored = snapshot.vms.get(uuid)
        if uuid in node.reserved.leftovers:
            return f"the guest of {node.reserved.leftovers[uuid]}, undefined by force, still runs there"
        if stored is not None and (stored.value.node != node.name or stored.value.state in OFF):
            return f"the guest of {stored.value.name} still runs there"
    return ""


# ----------------------------------------------------------------------------------------- as transactions


def change_for(action: NoteAnswer, snapshot: ClusterSnapshot, now: str) -> Change:
    """The transaction of a note, on the version of the node's record. Raises `Refused` when it is outdated."""
    node = snapshot.nodes.get(action.node)
    if node is None or action.asked not in _wanted(snapshot):
        raise Refused(action.node, f"nothing is wanted of the storage {action.asked.backend} for it any more")
    if action.asked.purpose == "admit":
        return _admission(action, node, now)
    return _shutting_out(action, node)


def _shutting_out(action: NoteAnswer, node: NodeView) -> Change:
    backend, said = action.asked.backend, action.answer.detail
    before = node.record.value.shut_out[backend]
    if action.answer.done:
        entry = msgspec.structs.replace(before, state="confirmed", problem="")
        return _with_entry(action, node, entry, EventKind.NODE_SHUT_OUT, f"{backend}: {said}")
    attempts = before.attempts + action.attempts
    entry = msgspec.structs.replace(before, attempts=attempts, problem=said)
    why = f"{backend} does not confirm that it has shut {node.name} out: {said}"
    report = node.record.value.fence
    if report is None or report.step is not FenceStep.RECOVERING:
        why += "; nothing is recovered by that, it is tried again"
    elif attempts >= ATTEMPTS:
        entry = msgspec.structs.replace(entry, state="given-up")
        why += "; since it is known to be off, its VMs start elsewhere all the same"
    else:
        why += f"; attempt {attempts} of {ATTEMPTS}"
    return _with_entry(action, node, entry, EventKind.NODE_NOT_SHUT_OUT, why)


def _admission(action: NoteAnswer, node: NodeView, now: str) -> Change:
    backend, said = action.asked.backend, action.answer.detail
    if action.answer.done:
        why = f"{backend} lets its clients in again"
        return _with_entry(action, node, None, EventKind.NODE_ADMITTED, why, reason=why, changed_at=now)
    before = node.record.value.shut_out[backend]
    entry = msgspec.structs.replace(before, problem=said)
    why = f"{backend} does not let its clients in again: {said}; it takes no VMs, and it is tried again"
    return _with_entry(action, node, entry, EventKind.NODE_NOT_ADMITTED, why, reason=why, changed_at=now)


def _with_entry(
    action: NoteAnswer, node: NodeView, entry: ShutOut | None, kind: EventKind, why: str, **fields: str
) -> Change:
    before = node.record.value
    others = {name: other for name, other in before.shut_out.items() if name != action.asked.backend}
    shut_out = others if entry is None else {**others, action.asked.backend: entry}
    after = msgspec.structs.replace(before, shut_out=shut_out, **fields)
    return Change((changes.write_node(node.record, after),), why, happenings=(of_node(kind, before, after, why),))
