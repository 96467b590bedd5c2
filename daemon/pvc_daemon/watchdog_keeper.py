# SPDX-License-Identifier: Apache-2.0
"""watchdog_keeper: the thread that arms, feeds and disarms this host's watchdog, as `self_fence` decides.

Before each food it reads this node's record from the store: the answer is the proof that the session lives. Nothing
else happens on this thread, so that neither a slow hypervisor nor a slow plugin can make it late; while no VM is to
run here it asks nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pvc_core import layout, self_fence
from pvc_core.codec import decode
from pvc_core.errors import BrokenRecord, PvcError, StoreUnavailable, WatchdogError
from pvc_core.model import NodeRecord
from pvc_core.ports import Clock, ClusterStore, Thread, Threads, Watchdog
from pvc_core.self_fence import Arm, Disarm, Feed, Promise, SelfFenceAction, Situation, Starve
from pvc_daemon.membership import Membership

log = structlog.get_logger(__name__)
MEALS = 5
"""So many in the watchdog's time."""
JOIN_S = 30.0
AT_ONCE = (Arm, Promise, Disarm)
"""After these it looks again at once."""


@dataclass(frozen=True)
class _Contact:
    """What the store has answered last: to a request sent at `sent_s`, in a session."""

    session: str
    sent_s: float
    promised_s: float | None


class WatchdogKeeper:
    """Of one node, as long as its daemon lives."""

    def __init__(
        self,
        node: str,
        watchdog: Watchdog,
        timeout_s: float,
        store: ClusterStore,
        membership: Membership,
        owns_vms: Callable[[], bool],
        clock: Clock,
        threads: Threads,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """is_paused: whether the cluster or the node is in maintenance."""
        self._node = node
        self._watchdog = watchdog
        self._timeout_s = timeout_s
        self._store = store
        self._membership = membership
        self._owns_vms = owns_vms
        self._is_paused = is_paused
        self._clock = clock
        self._threads = threads
        self._armed_s: float | None = None
        self._contact: _Contact | None = None
        self._problem = ""
        self._starving = ""
        self._stopping = threads.event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin; the node is registered already."""
        self._thread = self._threads.start("watchdog", self._run)

    def close(self, may_disarm: bool) -> None:
        """End. may_disarm: the record says that the node has left; if not, the watchdog ends the host, as promised."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        if self._armed_s == 0:
            return
        if not may_disarm:
            log.error("watchdog_left_armed", node=self._node, problem="the record could not be cleared")
            return
        try:
            self._watchdog.disarm()
        except WatchdogError as error:
            log.error("watchdog_problem", node=self._node, problem=error.problem)

    def look(self) -> None:
        """Decide and act until there is nothing more to do now."""
        while not self._stopping.is_set():
            situation = self._situation()
            if situation.why_unneeded and self._armed_s == 0:
                return
            self._ask_the_store()
            done = [self._carry_out(action) for action in self_fence.decide(self._situation())]
            if True not in done or self._problem:
                return

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:  # a node whose keeper has ended would be reset without a word
                log.exception("watchdog_keeper_broke", node=self._node)
            self._stopping.wait((self._armed_s or self._timeout_s) / MEALS)

    def _situation(self) -> Situation:
        session, contact = self._store.session_id, self._contact
        if contact is not None and contact.session != session:
            contact = None
        return Situation(
            owns_vms=self._owns_vms(),
            is_paused=self._is_paused(),
            is_registered=self._membership.is_registered(),
            silent_s=None if contact is None else self._clock.monotonic_s() - contact.sent_s,
            armed_s=self._armed_s,
            promised_s=None if contact is None else contact.promised_s,
            timeout_s=self._timeout_s,
            problem=self._problem,
        )

    def _ask_the_store(self) -> None:
        """Read the own record. What is answered counts only if the session was this one from beginning to end."""
        session, sent_s = self._store.session_id, self._clock.monotonic_s()
        try:
            entry = self._store.get(layout.node(self._node))
        except StoreUnavailable as error:
            log.debug("store_away", node=self._node, problem=error.problem)
            return
        promised_s: float | None = None
        if entry is not None:
            try:
                promised_s = decode(entry, NodeRecord).value.watchdog_s
            except BrokenRecord as broken:
                log.error("record_broken", key=broken.key, problem=broken.problem)
        if session == self._store.session_id:
            self._contact = _Contact(session, sent_s, promised_s)

    def _carry_out(self, action: SelfFenceAction) -> bool:
        """Whether to look again at once."""
        starving = action.reason if isinstance(action, Starve) else ""
        if starving and not self._starving:
            log.warning("watchdog_starves", node=self._node, reason=starving)
        self._starving = starving
        try:
            self._do(action)
        except WatchdogError as error:
            self._broke(error)
            return False
        except PvcError as error:
            log.warning("watchdog_promise_failed", node=self._node, problem=error.sentence())
            return False
        return isinstance(action, AT_ONCE)

    def _do(self, action: SelfFenceAction) -> None:
        match action:
            case Arm():
                self._armed_s = self._watchdog.arm(self._timeout_s)
                self._problem = ""
                log.info("watchdog_armed", node=self._node, timeout_s=self._armed_s, reason=action.reason)
            case Promise():
                self._membership.promise(action.watchdog_s, action.reason)
            case Feed():
                self._watchdog.feed()
            case Disarm():
                self._watchdog.disarm()
                self._armed_s = 0.0
                log.info("watchdog_disarmed", node=self._node, reason=action.reason)
            case Starve():
                pass

    def _broke(self, error: WatchdogError) -> None:
        self._membership.promise_nothing()
        self._armed_s = None
        if error.problem != self._problem:
            log.error("watchdog_problem", node=self._node, problem=error.problem)
        self._problem = error.problem
