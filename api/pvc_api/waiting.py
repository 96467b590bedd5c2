# SPDX-License-Identifier: Apache-2.0
"""waiting: hold an answer until the cluster has done what was asked, for a bounded time, and say what "done" is.

A VM or node is settled when nothing is under way that will change it by itself. A reader that asks another API
worker than the one that took the command names the version it has seen (`since`): a copy of the cluster that is
still behind it is not taken for the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated

import msgspec

from pvc_core.cluster_view import ClusterView
from pvc_core.model import NodeMode, VmState
from pvc_core.ports import Clock
from pvc_core.snapshot import ClusterSnapshot

MAX_WAIT_S = 60
SLICE_S = 0.25
"""How long a held answer may go on after the server was asked to stop."""

SETTLED_STATES = frozenset({VmState.STOPPED, VmState.RUNNING, VmState.FAILED, VmState.DISABLED})
SETTLED_MODES = frozenset({NodeMode.READY, NodeMode.FLUSHED})

WaitSeconds = Annotated[
    float,
    msgspec.Meta(ge=0, le=MAX_WAIT_S, description="Hold the answer until it is done, at most this many seconds"),
]
SinceVersion = Annotated[
    int, msgspec.Meta(ge=-1, description="The version of the record from which on it counts; from a `watch` URL")
]

Predicate = Callable[[ClusterSnapshot], bool]


class Waiter:
    """Holds answers. A bounded number at a time, so that some threads are always free for everybody else."""

    def __init__(self, view: ClusterView, clock: Clock, slots: int) -> None:
        self._view = view
        self._clock = clock
        self._lock = threading.Lock()
        self.slots = self._free_slots = max(1, slots)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End all waiting now, and from now on. Safe in a signal handler."""
        self._stopping.set()

    def wait(self, done: Predicate, timeout_s: float) -> bool:
        """Whether it is done within the time; asked at once when too many are waiting already.

        Raises `StoreUnavailable` when the store goes away meanwhile.
        """
        if done(self._view.snapshot()):
            return True
        if timeout_s <= 0 or not self.take_slot():
            return False
        try:
            return self._wait(done, self._clock.monotonic_s() + timeout_s)
        finally:
            self.give_back_slot()

    @property
    def free_slots(self) -> int:
        """How many more answers may be held now."""
        return self._free_slots

    @property
    def is_stopping(self) -> bool:
        """Nothing is to be waited for any more."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> None:
        """Let time pass; not once everything is to stop."""
        self._stopping.wait(seconds)

    def take_slot(self) -> bool:
        """Whether one more may hold its thread; who gets True gives it back."""
        with self._lock:
            if self._free_slots == 0:
                return False
            self._free_slots -= 1
            return True

    def give_back_slot(self) -> None:
        """One less holds its thread."""
        with self._lock:
            self._free_slots += 1

    def _wait(self, done: Predicate, deadline_s: float) -> bool:
        while not self._stopping.is_set():
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0:
                return False
            if self._view.wait_for(done, min(left_s, SLICE_S)):
                return True
        return False


def vm_settled(uuid: str, since: int) -> Predicate:
    """The VM has come to rest, or it is gone after it had been there."""
    seen = False

    def done(snapshot: ClusterSnapshot) -> bool:
        nonlocal seen
        stored = snapshot.vms.get(uuid)
        if stored is None:
            return seen
        seen = True
        return is_vm_settled(snapshot, uuid, since)

    return done


def is_vm_settled(snapshot: ClusterSnapshot, uuid: str, since: int) -> bool:
    """Whether the VM is at rest in a version not older than `since`."""
    stored = snapshot.vms.get(uuid)
    return stored is not None and stored.version >= since and stored.value.state in SETTLED_STATES


def plan_settled(since: int) -> Predicate:
    """No plan is being carried out, in a version of its record that is not older than `since`."""

    def done(snapshot: ClusterSnapshot) -> bool:
        plan = snapshot.plan
        return since < 0 if plan is None else plan.version >= since and plan.value.is_finished

    return done


def is_plan_settled(snapshot: ClusterSnapshot, since: int) -> bool:
    """Whether nothing goes on that a plan has begun."""
    return snapshot.plan is None or plan_settled(since)(snapshot)


def node_settled(name: str, since: int) -> Predicate:
    """No flush or ready of the node is under way, in a version not older than `since`."""

    def done(snapshot: ClusterSnapshot) -> bool:
        node = snapshot.nodes.get(name)
        return node is not None and node.record.version >= since and node.mode in SETTLED_MODES

    return done
