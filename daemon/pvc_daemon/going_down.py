# SPDX-License-Identifier: Apache-2.0
"""going_down: whether this host goes down, and what its daemon does for the guests then, as `host_shutdown` decides."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import structlog

from pvc_core import host_shutdown
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import PvcError, Refused, StoreUnavailable
from pvc_core.host_shutdown import Drain, Hold, Leave, Policy, TakeOut
from pvc_core.journal import Journal
from pvc_core.ports import Clock, ClusterStore, Threads
from pvc_core.snapshot import ClusterSnapshot

log = structlog.get_logger(__name__)
ASK_TIMEOUT_S = 10.0
LOOK_AGAIN_S = 1.0


def host_goes_down() -> bool:
    """Whether systemd is shutting this host down, rather than only restarting the service; False if nobody can say."""
    command = ["systemctl", "is-system-running"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("host_state_unknown", problem=str(error))
        return False
    return answer.stdout.strip() == "stopping"


class GoingDown:
    """Of one node, whose agent and, where it leads, leader are still at work."""

    def __init__(
        self, node: str, session: str, store: ClusterStore, clock: Clock, journal: Journal, threads: Threads
    ) -> None:
        self._node = node
        self._session = session
        self._store = store
        self._clock = clock
        self._journal = journal
        self._threads = threads

    def run(self, policy: Policy, within_s: float, is_hurried: Callable[[], bool]) -> str:
        """Carry the policy out until it is done, the time is over, or somebody is in a hurry; how it ended."""
        deadline_s = self._clock.monotonic_s() + within_s
        view = ClusterView(self._store, self._clock, self._journal, self._threads)
        try:
            view.start()
            return self._carry_out(policy, view, deadline_s, is_hurried)
        except StoreUnavailable as error:
            return f"the store is away: {error.problem}"
        finally:
            view.close()

    def _carry_out(self, policy: Policy, view: ClusterView, deadline_s: float, is_hurried: Callable[[], bool]) -> str:
        seen = -1
        while not is_hurried():
            snapshot = view.snapshot()
            now_s = self._clock.monotonic_s()
            for action in host_shutdown.decide(policy, snapshot.node(self._node), snapshot, now_s, deadline_s):
                if isinstance(action, Leave):
                    return action.reason
                self._write(action, view)
            seen = view.wait_news(seen, LOOK_AGAIN_S)
        return "it was told to stop once more"

    def _write(self, action: Drain | TakeOut | Hold, view: ClusterView) -> None:
        def change_for(snapshot: ClusterSnapshot) -> Change:
            return host_shutdown.change_for(action, self._node, self._session, snapshot, self._clock.utc_iso())

        try:
            view.commit(change_for)
        except Refused as refused:
            log.info("decision_outdated", do=type(action).__name__, problem=refused.sentence())
        except StoreUnavailable:
            raise
        except PvcError as error:
            log.warning("going_down_failed", do=type(action).__name__, problem=error.sentence())
        else:
            log.info("going_down", do=type(action).__name__, node=self._node, reason=action.reason)
