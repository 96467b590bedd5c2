# SPDX-License-Identifier: Apache-2.0
"""maintenance: how a planned pause begins, what is left of it, when it is spoken of, and when it ends by itself.

A pause has a deadline that outlives leaders. No two hosts' clocks are compared for it: the record holds what is left,
the leader counts that down on its own monotonic clock and writes it every minute, and the next leader goes on from
what was written. So a pause may last a minute longer for each change of the leader, and never ends too early.
What a pause holds back is said where that is decided: `leader_fence.why_paused`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.codec import encode
from pvc_core.errors import InvalidInput, Refused
from pvc_core.events import EventKind, Happening, of_node
from pvc_core.model import NodeRecord
from pvc_core.pause_record import MaintenanceRecord, Pause
from pvc_core.ports import Create, Op, Set
from pvc_core.snapshot import ClusterSnapshot, NodeView

DEFAULT_FOR_S = 4 * 3600
"""How long a maintenance of the cluster lasts unless it is said."""
MAX_FOR_S = 7 * 86_400
COUNT_EVERY_S = 60.0
CLUSTER = ""
"""Stands for the whole cluster where a node's name may stand."""


# ------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class CountDown:
    """Write what is left of the maintenance of `node`, for a leader to come."""

    node: str
    left_s: float


@dataclass(frozen=True)
class Remind:
    """Tell that the maintenance of `node` goes on. left_s: None for one without a deadline."""

    node: str
    left_s: float | None


@dataclass(frozen=True)
class EndMaintenance:
    """The time of the maintenance of `node` is over."""

    node: str


MaintenanceAction = CountDown | Remind | EndMaintenance


# -------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class _Count:
    """What was left of a pause when it was seen so, in the leader's monotonic seconds; and when it was spoken of."""

    pause: Pause
    seen_at_s: float
    told_at_s: float


@dataclass(frozen=True)
class MaintenanceMemory:
    """What one leader counts, by node, or `CLUSTER`."""

    counts: Mapping[str, _Count] = field(default_factory=dict)


def look(memory: MaintenanceMemory, snapshot: ClusterSnapshot, now_s: float) -> MaintenanceMemory:
    """The memory after a look at the cluster: a record that says something else is counted from now."""
    counts = {}
    for subject, pause in pauses(snapshot):
        known = memory.counts.get(subject)
        is_same = known is not None and known.pause.began_at == pause.began_at
        told_at_s = known.told_at_s if known and is_same else now_s
        counts[subject] = known if known and known.pause == pause else _Count(pause, now_s, told_at_s)
    return MaintenanceMemory(counts)


def told(memory: MaintenanceMemory, action: MaintenanceAction, now_s: float) -> MaintenanceMemory:
    """The action is in the store now."""
    count = memory.counts.get(action.node)
    if count is None or not isinstance(action, Remind):
        return memory
    return MaintenanceMemory({**memory.counts, action.node: replace(count, told_at_s=now_s)})


# ------------------------------------------------------------------------------------------------ deciding


def pauses(snapshot: ClusterSnapshot) -> Iterator[tuple[str, Pause]]:
    """Every maintenance that is on: of the cluster, and of nodes by name."""
    if snapshot.pause is not None:
        yield CLUSTER, snapshot.pause
    for name in sorted(snapshot.nodes):
        record = snapshot.nodes[name].record.value
        if record.maintenance and record.pause is not None:
            yield name, record.pause


def decide(
    snapshot: ClusterSnapshot, memory: MaintenanceMemory, now_s: float
) -> tuple[tuple[MaintenanceAction, ...], float | None]:
    """What to do now, and the monotonic time at which to decide again (None: never). `memory`: after a `look`."""
    actions, wakes = list[MaintenanceAction](), list[float]()
    for subject, count in memory.counts.items():
        left_s = count.pause.left_s
        remind_at_s = count.told_at_s + snapshot.settings.maintenance_reminder_s
        ends_at_s = math.inf if left_s is None else count.seen_at_s + left_s
        write_at_s = math.inf if left_s is None else count.seen_at_s + COUNT_EVERY_S
        left_now_s = None if left_s is None else max(0.0, ends_at_s - now_s)
        if now_s >= ends_at_s:
            actions.append(EndMaintenance(subject))
        elif now_s >= remind_at_s:
            actions.append(Remind(subject, left_now_s))
        elif left_now_s is not None and now_s >= write_at_s:
            actions.append(CountDown(subject, left_now_s))
        else:
            wakes.append(min(remind_at_s, ends_at_s, write_at_s))
    return tuple(actions), min(wakes, default=None)


# ------------------------------------------------------------------------------------- as people read of it


def sentence_on(pause: Pause, subject: str = CLUSTER) -> str:
    """That the cluster, or a node, is in maintenance, until when and why."""
    until = f" until {pause.ends_at}" if pause.ends_at else " until it is ended"
    why = f" ({pause.reason})" if pause.reason else ""
    if subject:
        return f"{subject} is in maintenance{until}{why}: it is not fenced and takes no VMs"
    return f"the cluster is in maintenance{until}{why}: no node is fenced and no VM recovered"


def _ended_sentence(why: str, subject: str, snapshot: ClusterSnapshot) -> str:
    """Who is dealt with then."""
    names = [subject] if subject else sorted(snapshot.nodes)
    lost = [name for name in names if name in snapshot.nodes and snapshot.nodes[name].liveness == "lost"]
    if not lost:
        return why
    are = "is" if len(lost) == 1 else "are"
    return f"{why}; {', '.join(lost)} {are} lost, and what is to run there is dealt with from now on"


# ----------------------------------------------------------------------------------------- as transactions


def checked_terms(for_s: float | None, reason: str, now: str) -> Pause:
    """The terms of a maintenance that begins now. Raises `InvalidInput`. for_s None: until somebody ends it."""
    if for_s is None:
        return Pause(reason=reason, began_at=now)
    if not 0 < for_s <= MAX_FOR_S:
        raise InvalidInput(
            "for_s", f"must be more than 0 and at most {MAX_FOR_S} seconds, which is 7 days", f"{for_s:g}"
        )
    ends = datetime.fromisoformat(now) + timedelta(seconds=for_s)
    return Pause(reason=reason, began_at=now, ends_at=ends.strftime("%Y-%m-%dT%H:%M:%SZ"), left_s=float(for_s))


def begin(subject: str, pause: Pause, snapshot: ClusterSnapshot) -> Change:
    """Begin a maintenance, or go on with one by other terms. Raises `NotFound` or `BrokenRecord`."""
    if subject == CLUSTER:
        return _cluster_change(EventKind.MAINTENANCE_BEGAN, pause, sentence_on(pause), snapshot)
    node, sentence = snapshot.node(subject), sentence_on(pause, subject)
    return _node_change(EventKind.NODE_MAINTENANCE_BEGAN, node, pause, sentence)


def end(subject: str, why: str, snapshot: ClusterSnapshot) -> Change:
    """End a maintenance. Raises `NotFound`, and `Refused` when there is none."""
    sentence = _ended_sentence(why, subject, snapshot)
    if subject == CLUSTER:
        if snapshot.pause is None:
            raise Refused("the cluster", "it is not in maintenance")
        return _cluster_change(EventKind.MAINTENANCE_ENDED, None, sentence, snapshot)
    node = snapshot.node(subject)
    if not node.record.value.maintenance:
        raise Refused(subject, "it is not in maintenance")
    return _node_change(EventKind.NODE_MAINTENANCE_ENDED, node, None, sentence)


def change_for(action: MaintenanceAction, snapshot: ClusterSnapshot) -> Change:
    """The transaction of an action. Raises `Refused` or `NotFound` when it does not make sense any more."""
    if isinstance(action, EndMaintenance):
        return end(action.node, "its time is over", snapshot)
    pause = dict(pauses(snapshot)).get(action.node)
    if pause is None:
        raise Refused(action.node or "the cluster", "it is not in maintenance any more")
    after = msgspec.structs.replace(pause, left_s=action.left_s)
    sentence = sentence_on(after, action.node)
    is_news = isinstance(action, Remind)
    if action.node == CLUSTER:
        return _cluster_change(EventKind.MAINTENANCE_GOES_ON, after, sentence, snapshot, is_news=is_news)
    node = snapshot.node(action.node)
    return _node_change(EventKind.NODE_MAINTENANCE_GOES_ON, node, after, sentence, is_news=is_news)


def _cluster_change(
    kind: EventKind, pause: Pause | None, sentence: str, snapshot: ClusterSnapshot, *, is_news: bool = True
) -> Change:
    """is_news: False for what is merely counted down, of which nobody needs an event."""
    if layout.MAINTENANCE in snapshot.broken:
        raise snapshot.broken[layout.MAINTENANCE]
    stored = snapshot.maintenance
    if stored is None:
        op: Op = Create(layout.MAINTENANCE, encode(MaintenanceRecord(pause=pause)))
    else:
        after = msgspec.structs.replace(stored.value, pause=pause)
        op = Set(stored.key, encode(after, stored.data), stored.version)
    return Change((op,), sentence, happenings=(Happening(kind, sentence),) if is_news else ())


def _node_change(
    kind: EventKind, node: NodeView, pause: Pause | None, sentence: str, *, is_news: bool = True
) -> Change:
    before = node.record.value
    after: NodeRecord = msgspec.structs.replace(before, maintenance=pause is not None, pause=pause)
    happening = of_node(kind, before, after, sentence)
    return Change((changes.write_node(node.record, after),), sentence, happenings=(happening,) if is_news else ())
