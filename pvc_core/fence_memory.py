# SPDX-License-Identifier: Apache-2.0
"""fence_memory: what the leader can decide about lost nodes, and what it remembers of them: patience, never a fact.

All of it is lost with the leader, and costs the next one nothing but the waiting. Times are in the leader's own
monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import TypeVar

from pvc_core.fencing import FenceVerdict
from pvc_core.model import Settings
from pvc_core.snapshot import ClusterSnapshot, NodeView

T = TypeVar("T")
_Sign = tuple[str, int]
"""A session and the version of a report."""


# ------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class NoteGone:
    """Note that `node` is gone without a word, and that there is nothing to fence it for."""

    node: str
    reason: str


@dataclass(frozen=True)
class BeginFence:
    """Note that `node` is lost and is to be switched off."""

    node: str
    reason: str


@dataclass(frozen=True)
class AskAgents:
    """Have the fence agents of `node` switch it off: this is not written, it is done; the answer is remembered.

    lost_for_s: how long its session has been gone.
    """

    node: str
    number: int
    reason: str
    lost_for_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class BeginShutOut:
    """Note that these storage backends are to shut the clients of `node` out, which is to prove that it does no harm.

    It is written before they are told (`leader_shut_out`): from then on a daemon that comes back waits.
    """

    node: str
    number: int
    backends: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class NoteRefusal:
    """Note that nothing confirmed that `node` is off. `reason`: what its agents said, attempts: since the last note."""

    node: str
    number: int
    attempts: int
    reason: str


@dataclass(frozen=True)
class ConfirmFence:
    """`node` is off, by this evidence: its VMs may be recovered."""

    node: str
    number: int
    reason: str


@dataclass(frozen=True)
class EndFence:
    """`node` need not be switched off any more."""

    node: str
    reason: str


@dataclass(frozen=True)
class TakeBack:
    """Take a node that was fenced while ready back into service."""

    node: str
    reason: str


FenceAction = NoteGone | BeginFence | AskAgents | BeginShutOut | NoteRefusal | ConfirmFence | EndFence | TakeBack


# -------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class FenceMemory:
    """What one leader has seen of the nodes, in its own monotonic seconds.

    connected_s: since when this leader has had its connection to the store. signs: the nodes' sessions and reports at
    the first look; heard: the nodes that have joined or reported since. is_starting: soon after connecting, fewer than
    half of the nodes were there, so that others may be on their way.

    gone_since_s: the nodes without a session. gone_in: which session that is, by their records. back_since_s: those
    with one, with the session. asking: the fences, by number, for which agents are being asked now. answers: what they
    said last. refusals: how often since that was written. refused_at_s: when last.
    """

    connected_s: float = -inf
    signs: Mapping[str, _Sign] | None = None
    heard: frozenset[str] = frozenset()
    is_starting: bool = False
    gone_since_s: Mapping[str, float] = field(default_factory=dict)
    gone_in: Mapping[str, str] = field(default_factory=dict)
    back_since_s: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    asking: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, tuple[int, FenceVerdict]] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    refused_at_s: Mapping[str, float] = field(default_factory=dict)


def newly_gone(memory: FenceMemory, snapshot: ClusterSnapshot) -> tuple[str, ...]:
    """The nodes without a life sign for which that is news, or which have been there since it was."""
    return tuple(
        name
        for name, node in sorted(snapshot.nodes.items())
        if node.member is None and memory.gone_in.get(name) != node.record.value.session
    )


def look(memory: FenceMemory, snapshot: ClusterSnapshot, now_s: float, there: Collection[str] = ()) -> FenceMemory:
    """The memory after a look at the cluster.

    there: nodes whose life sign is in the store, though the snapshot does not show it yet. Since a snapshot's parts are
    a moment apart, the absence of a session is counted only from when the store itself, asked after the record had
    named the session, has said that it is gone; otherwise a watchdog would be believed too soon. In a
    maintenance nobody counts as gone.
    """
    gone, back = dict[str, float](), dict[str, tuple[str, float]]()
    sessions = dict[str, str]()
    for name, node in snapshot.nodes.items():
        session = node.record.value.session
        if node.member is None:
            if name not in there and snapshot.pause is None and not node.record.value.maintenance:
                is_known = memory.gone_in.get(name) == session
                gone[name] = memory.gone_since_s.get(name, now_s) if is_known else now_s
                sessions[name] = session
        else:
            session = node.member.value.session
            known = memory.back_since_s.get(name)
            back[name] = known if known and known[0] == session else (session, now_s)
    return replace(_listened(memory, snapshot, now_s), gone_since_s=gone, gone_in=sessions, back_since_s=back)


def _listened(memory: FenceMemory, snapshot: ClusterSnapshot, now_s: float) -> FenceMemory:
    """Who has been heard of, and whether the cluster is still starting.

    A session that is in the store need not be alive: after an outage of the store it lasts a while longer.
    """
    if now_s >= memory.connected_s + snapshot.settings.fence_startup_s:
        return memory  # it has had its time, and nothing is asked of this any more
    now = {name: _sign_of(node) for name, node in snapshot.nodes.items()}
    signs = now if memory.signs is None else memory.signs
    heard = memory.heard.union(
        name for name, node in snapshot.nodes.items() if node.is_alive and now[name] != signs.get(name)
    )
    expected = [node for node in snapshot.nodes.values() if _is_expected(node)]
    few = 2 * sum(node.is_alive for node in expected) < len(expected)
    return replace(memory, signs=signs, heard=heard, is_starting=memory.is_starting or few)


def _sign_of(node: NodeView) -> _Sign:
    return (node.member.value.session if node.member else "", node.report.version if node.report else -1)


def _is_expected(node: NodeView) -> bool:
    record = node.record.value
    return not (record.left or record.fenced or record.maintenance)


def grace_ends_s(memory: FenceMemory, node: str, settings: Settings) -> float:
    """Until when a node whose session is gone may come back before anything is done about it.

    After an outage of the whole cluster, hosts that have not been heard of may still be booting: to switch them off
    then would turn a power cut into a longer one.
    """
    ends_s = memory.gone_since_s[node] + settings.fence_grace_s
    if memory.is_starting and node not in memory.heard:
        return max(ends_s, memory.connected_s + settings.fence_startup_s)
    return ends_s


def asked(memory: FenceMemory, action: AskAgents) -> FenceMemory:
    """The agents are being asked; what they said before does not count any more."""
    return replace(
        memory, asking={**memory.asking, action.node: action.number}, answers=_but(memory.answers, action.node)
    )


def answered(memory: FenceMemory, action: AskAgents, verdict: FenceVerdict, now_s: float) -> FenceMemory:
    """The agents have answered; too late, if the fence has ended or another one has begun."""
    if memory.asking.get(action.node) != action.number:
        return memory
    memory = replace(
        memory,
        asking=_but(memory.asking, action.node),
        answers={**memory.answers, action.node: (action.number, verdict)},
    )
    if verdict.confirmed:
        return memory
    refusals = memory.refusals.get(action.node, 0) + 1
    return replace(
        memory,
        refusals={**memory.refusals, action.node: refusals},
        refused_at_s={**memory.refused_at_s, action.node: now_s},
    )


def written(memory: FenceMemory, action: FenceAction) -> FenceMemory:
    """The action is in the store now."""
    match action:
        case NoteRefusal():
            return replace(memory, refusals=_but(memory.refusals, action.node))
        case BeginFence() | ConfirmFence() | EndFence():
            return replace(
                memory,
                asking=_but(memory.asking, action.node),
                answers=_but(memory.answers, action.node),
                refusals=_but(memory.refusals, action.node),
                refused_at_s=_but(memory.refused_at_s, action.node),
            )
        case NoteGone() | AskAgents() | BeginShutOut() | TakeBack():
            return memory


def _but(mapping: Mapping[str, T], node: str) -> dict[str, T]:
    return {name: value for name, value in mapping.items() if name != node}
