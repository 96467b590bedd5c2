# SPDX-License-Identifier: Apache-2.0
"""fence_runner: the leader's part that deals with lost nodes: looks, decides, has fence agents asked, and writes.

Agents are asked on threads of their own, several nodes side by side, because a power switch may take its time to
answer; the answer wakes the leader. What is not confirmed is asked again, for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from pvc_core import fence_memory, layout, leader_fence
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import PvcError
from pvc_core.fence_memory import AskAgents, FenceAction, FenceMemory
from pvc_core.fencing import FenceVerdict
from pvc_core.lost_together import lost_together
from pvc_core.ports import Clock, ClusterStore, Threads
from pvc_core.snapshot import ClusterSnapshot

log = structlog.get_logger(__name__)

Ask = Callable[[AskAgents, ClusterView], FenceVerdict]
"""Asks the fence agents of a node; blocks until they have answered or their deadlines have passed."""
Write = Callable[[FenceAction, ClusterView], bool]
"""Writes an action; False when it did not apply any more, or something else was faster."""


class FenceRunner:
    """Of one leader, while its epoch lasts."""

    def __init__(
        self, store: ClusterStore, clock: Clock, write: Write, ask: Ask, threads: Threads, connected_s: float
    ) -> None:
        """`connected_s`: since when this daemon has had its connection to the store."""
        self._store = store
        self._clock = clock
        self._write = write
        self._ask = ask
        self._threads = threads
        self._lock = threads.lock()
        self._memory = FenceMemory(connected_s=connected_s)

    def run(self, view: ClusterView, is_stopping: Callable[[], bool]) -> float | None:
        """One round; after how many seconds there is something to do again, if nothing happens. None: never."""
        snapshot = view.snapshot()
        there = self._there_after_all(fence_memory.newly_gone(self._memory, snapshot))
        now_s = self._clock.monotonic_s()
        self._learn(lambda memory: fence_memory.look(memory, snapshot, now_s, there))
        decision = leader_fence.decide(snapshot, self._memory, now_s)
        for action in decision.actions:
            if is_stopping():
                break
            if isinstance(action, AskAgents):
                self._begin(action, view)
            elif self._write(action, view):
                self._learn(partial(fence_memory.written, action=action))
            else:
                return 0.0
        return None if decision.wake_at_s is None else max(0.0, decision.wake_at_s - self._clock.monotonic_s())

    def lost_together(self, snapshot: ClusterSnapshot) -> frozenset[str]:
        """The nodes whose VMs are recovered as those of one, by what the last round has seen."""
        return lost_together(snapshot, self._memory, self._clock.monotonic_s())

    def _there_after_all(self, nodes: tuple[str, ...]) -> frozenset[str]:
        """Those of them whose life sign is in the store."""
        keys = {layout.member(node): node for node in nodes}
        entries = self._store.get_many(list(keys)) if keys else {}
        return frozenset(keys[key] for key in entries)

    def _begin(self, action: AskAgents, view: ClusterView) -> None:
        self._learn(lambda memory: fence_memory.asked(memory, action))
        name = f"fence-{action.node}"
        self._threads.start(name, partial(self._carry_out, action, view))

    def _carry_out(self, action: AskAgents, view: ClusterView) -> None:
        try:
            verdict = self._asked(action, view)
        except PvcError as error:
            verdict = FenceVerdict(False, error.sentence())
        except Exception as error:  # without an answer this node would never be asked about again
            log.exception("fence_broke", node=action.node)
            verdict = FenceVerdict(False, f"{type(error).__name__}: {error}")
        log.info("fence_answered", node=action.node, confirmed=verdict.confirmed, detail=verdict.detail)
        now_s = self._clock.monotonic_s()
        self._learn(partial(fence_memory.answered, action=action, verdict=verdict, now_s=now_s))
        view.wake()

    def _asked(self, action: AskAgents, view: ClusterView) -> FenceVerdict:
        """Not of a node whose daemon is there after all, the watched copy being a moment old, nor in a maintenance."""
        snapshot = view.snapshot()
        paused = leader_fence.why_paused(snapshot.node(action.node), snapshot)
        if paused:
            return FenceVerdict(False, paused)
        if self._store.get(layout.member(action.node)) is not None:
            return FenceVerdict(False, "its daemon is there again")
        return self._ask(action, view)

    def _learn(self, change: Callable[[FenceMemory], FenceMemory]) -> None:
        with self._lock:
            self._memory = change(self._memory)
