# SPDX-License-Identifier: Apache-2.0
"""agent_starts: which of the VMs that are due to start on a node begin now: the most important, a few at a time.

After a recovery or a cold start many are due at once. Those of the highest priority begin first, and run before a
lower one is asked; a start that hangs holds up its own slot and, after a while, no other VM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvc_core.agent_actions import Start
from pvc_core.agent_memory import NO_MEMORY, current_memory
from pvc_core.agent_snapshot import AgentSnapshot
from pvc_core.model import VmState

START_PATIENCE_S = 30.0
"""For so long VMs of a lower priority wait for a start that is under way."""


def in_turn(due: Sequence[Start], snapshot: AgentSnapshot, now_s: float) -> tuple[list[Start], float | None]:
    """Those that begin now, and when to look again for the others (None: when something has happened)."""
    if not due:
        return [], None
    settings = snapshot.settings
    under_way = [uuid for uuid, action in snapshot.busy.items() if isinstance(action, Start)]
    since_s = {uuid: snapshot.begun_s.get(uuid, now_s) for uuid in under_way} | dict(_about_to_be_due(snapshot))
    awaited = [uuid for uuid, at in since_s.items() if now_s < at + START_PATIENCE_S]
    highest = max(_priority(uuid, snapshot) for uuid in (*awaited, *(start.uuid for start in due)))
    first = sorted(
        (start for start in due if _priority(start.uuid, snapshot) == highest),
        key=lambda start: snapshot.vms[start.uuid].value.name,
    )
    free = max(0, settings.parallel_starts - len(under_way))
    looks_s = [since_s[uuid] + START_PATIENCE_S for uuid in awaited]
    if settings.start_stagger_s > 0:
        free = min(free, 1)
        next_s = now_s if snapshot.last_start_s is None else snapshot.last_start_s + settings.start_stagger_s
        if now_s < next_s:
            return [], min((next_s, *looks_s))
    begins = first[:free]
    if len(begins) == len(due):
        return begins, None
    if begins:
        looks_s.append(now_s + (settings.start_stagger_s or START_PATIENCE_S))
    return begins, min(looks_s, default=None)


def _about_to_be_due(snapshot: AgentSnapshot) -> Iterator[tuple[str, float]]:
    """The VMs that have ended though they should run and have not been tried since; with since when.

    After a cold start all are; which of them is found out first says nothing about which is to start first.
    """
    for uuid, stored in snapshot.vms.items():
        seen = snapshot.seen.get(uuid)
        if stored.value.node != snapshot.node or uuid in snapshot.domains or seen is None:
            continue
        memory = current_memory(snapshot.memory.get(uuid, NO_MEMORY), stored.value)
        has_ended = stored.value.state is VmState.STARTING and len(memory.failures_s) == 1 and not memory.start_error
        if has_ended or stored.value.state is VmState.RUNNING:
            yield uuid, seen.since_s


def _priority(uuid: str, snapshot: AgentSnapshot) -> int:
    stored = snapshot.vms.get(uuid)
    return stored.value.metadata.priority if stored else 0
