# SPDX-License-Identifier: Apache-2.0
"""shut_out_runner: the leader's part that has storage shut nodes out and let them in again, and writes the answers.

Each node and backend is asked on a thread of its own, since storage may take its time; the answer wakes the leader.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from pvc_core import leader_shut_out
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import PvcError
from pvc_core.fencing import FenceRequest
from pvc_core.leader_shut_out import Answer, AskStorage, NoteAnswer, ShutOutMemory
from pvc_core.ports import Clock, Threads
from pvc_core.storage_fencing import StorageFencing

log = structlog.get_logger(__name__)

Write = Callable[[NoteAnswer, ClusterView], bool]
"""Writes an answer; False when it did not apply any more, or something else was faster."""


class ShutOutRunner:
    """Of one leader, while its epoch lasts."""

    def __init__(self, storage: StorageFencing, clock: Clock, write: Write, threads: Threads) -> None:
        """`storage`: the backends as seen from the leader's host."""
        self._storage = storage
        self._clock = clock
        self._write = write
        self._threads = threads
        self._lock = threads.lock()
        self._memory = ShutOutMemory()

    def run(self, view: ClusterView, is_stopping: Callable[[], bool]) -> float | None:
        """One round; after how many seconds there is something to do again, if nothing happens. None: never."""
        snapshot = view.snapshot()
        self._learn(partial(leader_shut_out.look, snapshot=snapshot))
        decision = leader_shut_out.decide(snapshot, self._memory, self._clock.monotonic_s())
        for action in decision.actions:
            if is_stopping():
                break
            if isinstance(action, AskStorage):
                self._begin(action, view)
            elif self._write(action, view):
                self._learn(partial(leader_shut_out.noted, action=action))
            else:
                return 0.0
        return None if decision.wake_at_s is None else max(0.0, decision.wake_at_s - self._clock.monotonic_s())

    def _begin(self, action: AskStorage, view: ClusterView) -> None:
        self._learn(partial(leader_shut_out.asked, action=action))
        self._threads.start(f"{action.purpose}-{action.node}-{action.backend}", partial(self._carry_out, action, view))

    def _carry_out(self, action: AskStorage, view: ClusterView) -> None:
        try:
            answer = self._answer(action, view)
        except PvcError as error:
            answer = Answer(False, error.sentence())
        except Exception as error:  # without an answer this backend would never be asked again
            log.exception("storage_broke", node=action.node, backend=action.backend, purpose=action.purpose)
            answer = Answer(False, f"{type(error).__name__}: {error}")
        log.info(
            "storage_answered",
            node=action.node,
            backend=action.backend,
            purpose=action.purpose,
            done=answer.done,
            detail=answer.detail,
        )
        now_s = self._clock.monotonic_s()
        self._learn(partial(leader_shut_out.answered, action=action, answer=answer, now_s=now_s))
        view.wake()

    def _answer(self, action: AskStorage, view: ClusterView) -> Answer:
        request = FenceRequest(action.node, view.snapshot().node(action.node).record.value.address)
        if action.purpose == "shut-out":
            verdict = self._storage.shut_out(action.backend, request)
            return Answer(verdict.confirmed, verdict.detail)
        self._storage.admit(action.backend, request)
        return Answer(True, "")

    def _learn(self, change: Callable[[ShutOutMemory], ShutOutMemory]) -> None:
        with self._lock:
            self._memory = change(self._memory)
