# SPDX-License-Identifier: Apache-2.0
"""leader_loop: while this daemon is the leader: look at the whole cluster, decide, write, again.

Every write carries the epoch of the election: a leader that was deposed without knowing it writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from pvc_core import leader, leader_fence, leader_shut_out, maintenance
from pvc_core.changes import Change, guarded
from pvc_core.cluster_view import ClusterView
from pvc_core.errors import NoCandidate, NotFound, Refused, StoreUnavailable
from pvc_core.events import EventKind, Happening
from pvc_core.fence_devices import read_devices
from pvc_core.fence_memory import AskAgents, FenceAction
from pvc_core.fencing import FenceRequest, FenceVerdict, fence_node
from pvc_core.journal import Journal, Listener, Notes
from pvc_core.leader import LeaderAction
from pvc_core.leader_shut_out import NoteAnswer
from pvc_core.maintenance import MaintenanceAction
from pvc_core.placement import Placer
from pvc_core.ports import Clock, ClusterStore, Threads
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.storage_fencing import StorageFencing
from pvc_daemon.fence_checker import FenceChecker
from pvc_daemon.fence_runner import FenceRunner
from pvc_daemon.housekeeping import Housekeeping
from pvc_daemon.maintenance_runner import MaintenanceRunner
from pvc_daemon.shut_out_runner import ShutOutRunner

log = structlog.get_logger(__name__)
LOOK_AGAIN_S = 2.0
RETRY_S = 0.1


class LeaderLoop:
    """Leads for one epoch, on a thread of its own."""

    def __init__(
        self,
        node: str,
        epoch: int,
        store: ClusterStore,
        registry: Registry,
        clock: Clock,
        threads: Threads,
        connected_s: float,
        storage: StorageFencing,
        on_written: Listener | None = None,
        writer: str = "",
    ) -> None:
        """`on_written`: told of every event that this leader has written. `writer`: as of a `Journal`.

        connected_s: since when this daemon has had its connection to the store, on its monotonic clock. storage: the
        backends of this host.
        """
        self._node = node
        self._epoch = epoch
        self._clock = clock
        self._threads = threads
        self._registry = registry
        self._store = store
        self._journal = Journal(clock, lambda: f"leader:{node}", writer and f"{writer}-leader-{epoch}")
        if on_written is not None:
            self._journal.listen(on_written)
        self._notes = Notes(store, self._journal, clock, threads)
        self._placer = Placer(registry, self._notes.plugin_failed)
        self._housekeeping = Housekeeping(store, epoch, clock)
        self._fence_runner = FenceRunner(store, clock, self._write_fence, self._ask_agents, threads, connected_s)
        self._shut_out_runner = ShutOutRunner(storage, clock, self._write_shut_out, threads)
        self._fence_checker = FenceChecker(store, registry, self._notes, threads)
        self._maintenance_runner = MaintenanceRunner(clock, self._write_maintenance)
        self._stopping = threads.event()

    def start(self) -> None:
        """Begin to lead."""
        self._threads.start(f"leader-{self._epoch}", self._run)

    def close(self) -> None:
        """Lead no more; what is half done stands in the store for the next leader."""
        self._stopping.set()

    def _run(self) -> None:
        """Lead until told to stop: whatever goes wrong, while the epoch is ours nobody else does it."""
        log.info("leading", node=self._node, epoch=self._epoch)
        reason = f"elected, epoch {self._epoch}"
        self._notes.note(Happening(EventKind.LEADER_ELECTED, reason, node=self._node))
        while not self._stopping.is_set():
            view = ClusterView(self._store, self._clock, self._journal, self._threads)
            try:
                view.start()
                self._lead(view)
            except StoreUnavailable as error:
                log.warning("store_away", node=self._node, problem=error.problem)
                self._stopping.wait(RETRY_S)
            except Exception:
                log.exception("leader_broke", node=self._node)
                self._stopping.wait(LOOK_AGAIN_S)
            finally:
                view.close()
        self._notes.close()
        log.info("no_longer_leading", node=self._node, epoch=self._epoch)

    def _lead(self, view: ClusterView) -> None:
        seen, wait_s = -1, LOOK_AGAIN_S
        while not self._stopping.is_set():
            seen = view.wait_news(seen, wait_s)
            # A maintenance that ends now is over before it is looked who is lost.
            dues_s = (
                self._maintenance_runner.run(view),
                self._fence_runner.run(view, self._stopping.is_set),
                self._shut_out_runner.run(view, self._stopping.is_set),
            )
            wait_s = min([LOOK_AGAIN_S, *(due_s for due_s in dues_s if due_s is not None)])
            snapshot = view.snapshot()
            together = self._fence_runner.lost_together(snapshot)
            for action in leader.decide(snapshot, self._placer, self._registry.recovery_policies, together):
                if self._stopping.is_set() or not self._carry_out(action, view):
                    break
            self._fence_checker.look(view, self._stopping.is_set)
            self._housekeeping.trim_events(view.settings.events_kept)
            self._housekeeping.forget_tasks()

    def _carry_out(self, action: LeaderAction, view: ClusterView) -> bool:
        """Write one action; False when the cluster has changed under it, and all is to be decided again."""

        def change_for(snapshot: ClusterSnapshot, now: str) -> Change:
            return leader.change_for(action, snapshot, self._placer, now)

        change = self._write(action, change_for, view)
        if change is None:
            return False
        vm = change.vm.name if change.vm else ""
        log.info("leader_action", do=type(action).__name__, node=action.node, vm=vm, reason=action.reason)
        return True

    def _write(
        self,
        action: LeaderAction | FenceAction | MaintenanceAction | NoteAnswer,
        change_for: Callable[[ClusterSnapshot, str], Change],
        view: ClusterView,
    ) -> Change | None:
        """The change as it was written; None when the action did not apply any more, or something else was faster."""
        snapshot = view.snapshot()
        try:
            change = change_for(snapshot, self._clock.utc_iso())
        except (Refused, NoCandidate, NotFound) as error:
            log.info("decision_outdated", do=type(action).__name__, problem=error.sentence())
            return None
        if change.ops and not view.try_commit(guarded(change, self._epoch), snapshot):
            self._stopping.wait(RETRY_S)
            return None
        return change

    def _write_maintenance(self, action: MaintenanceAction, view: ClusterView) -> bool:
        change = self._write(action, lambda snapshot, _now: maintenance.change_for(action, snapshot), view)
        if change is not None and change.happenings:
            log.warning("leader_action", do=type(action).__name__, node=action.node, reason=change.reason)
        return change is not None

    # ------------------------------------------------------------------------------------------ lost nodes

    def _write_fence(self, action: FenceAction, view: ClusterView) -> bool:
        change = self._write(action, partial(leader_fence.change_for, action), view)
        if change is not None:
            log.warning("leader_action", do=type(action).__name__, node=action.node, reason=change.reason)
        return change is not None

    def _write_shut_out(self, action: NoteAnswer, view: ClusterView) -> bool:
        change = self._write(action, partial(leader_shut_out.change_for, action), view)
        if change is not None:
            log.warning("leader_action", do=type(action).__name__, node=action.node, reason=change.reason)
        return change is not None

    def _ask_agents(self, action: AskAgents, view: ClusterView) -> FenceVerdict:
        """Have the devices of a node switch it off, as they are configured at this moment."""
        node = action.node
        stored = read_devices(self._store, node)
        if stored is None or not stored.value.devices:
            return FenceVerdict(False, f"{node} has no fence device; `pvc node confirm-fenced {node}` if it is off")
        record = view.snapshot().node(node).record.value
        return fence_node(
            FenceRequest(node, record.address, lost_for_s=action.lost_for_s, watchdog_s=record.watchdog_s or None),
            [each.device for each in stored.value.devices],
            self._registry.fence_agents,
            self._registry.calls,
            lambda plugin: self._registry.options(plugin, view.settings),
        )
