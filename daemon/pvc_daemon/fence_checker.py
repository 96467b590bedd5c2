# SPDX-License-Identifier: Apache-2.0
"""fence_checker: the leader's part that asks the fence devices of a node that has joined whether they would be of use.

The leader asks, and not the node: it is the leader that has to reach them when the node is lost, and so the passwords
go to no host that does not need them. One device after the other, on one thread: a new leader has all nodes to check,
and there is time. Nothing depends on the answer; what is wrong becomes an event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from pvc_core.cluster_view import ClusterView
from pvc_core.errors import PvcError, StoreUnavailable
from pvc_core.events import EventKind, Happening
from pvc_core.fence_checks import check_device, finding, joined
from pvc_core.fence_devices import read_devices
from pvc_core.journal import Notes
from pvc_core.ports import ClusterStore, Threads
from pvc_core.registry import Registry

log = structlog.get_logger(__name__)


class FenceChecker:
    """Of one leader, while its epoch lasts."""

    def __init__(self, store: ClusterStore, registry: Registry, notes: Notes, threads: Threads) -> None:
        self._store = store
        self._registry = registry
        self._notes = notes
        self._threads = threads
        self._lock = threads.lock()
        self._checked: dict[str, str] = {}
        self._waiting: deque[str] = deque()
        self._is_running = False

    def look(self, view: ClusterView, is_stopping: Callable[[], bool]) -> None:
        """Have those checked that have joined; does not wait for it."""
        with self._lock:
            for node, session in joined(view.snapshot(), self._checked).items():
                self._checked[node] = session
                if node not in self._waiting:
                    self._waiting.append(node)
            if not self._waiting or self._is_running:
                return
            self._is_running = True
        self._threads.start("fence-checks", lambda: self._run(view, is_stopping))

    def _run(self, view: ClusterView, is_stopping: Callable[[], bool]) -> None:
        while True:
            with self._lock:
                if not self._waiting or is_stopping():
                    self._is_running = False
                    return
                node = self._waiting.popleft()
            try:
                self._check(node, view)
            except StoreUnavailable as error:
                log.info("fence_check_put_off", node=node, problem=error.problem)
                with self._lock:
                    self._checked.pop(node, None)
            except PvcError as error:
                self._tell(node, f"{node} could not be switched off if it were lost: {error.sentence()}")
            except Exception:  # the next node is to be checked nevertheless
                log.exception("fence_check_broke", node=node)

    def _check(self, node: str, view: ClusterView) -> None:
        snapshot = view.snapshot()
        stored = read_devices(self._store, node)
        if node not in snapshot.nodes or stored is None or not stored.value.devices:
            return
        found = [
            check_device(snapshot.nodes[node], each, self._registry, snapshot.settings) for each in stored.value.devices
        ]
        if problem := finding(node, found):
            self._tell(node, problem)
        else:
            log.info("fence_devices_answer", node=node, devices=len(found))

    def _tell(self, node: str, problem: str) -> None:
        log.warning("fence_device_useless", node=node, problem=problem)
        self._notes.note(Happening(EventKind.FENCE_DEVICE_USELESS, problem, node=node))
