# SPDX-License-Identifier: Apache-2.0
"""watcher: turns what happens to one simulated host, whoever caused it, into its hypervisor's events.

Looks at the file's change counter every few hundredths of a second, which costs microseconds, and into the file
only when something has changed or has become due.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainEvent, DomainEventKind
from pvc_plugins.hypervisors.simulated.rows import Happening
from pvc_plugins.hypervisors.simulated.world import World

_POLL_INTERVAL_S = 0.03
log = structlog.get_logger(__name__)

_KINDS = {
    Happening.CREATED: DomainEventKind.OTHER,
    Happening.BOOTED: DomainEventKind.STARTED,
    Happening.ARRIVED: DomainEventKind.STARTED,
    Happening.POWERED_OFF: DomainEventKind.POWERED_OFF,
    Happening.DESTROYED: DomainEventKind.STOPPED,
    Happening.CRASHED: DomainEventKind.CRASHED,
    Happening.POWER_LOST: DomainEventKind.CRASHED,
    Happening.DISK_ATTACHED: DomainEventKind.DISKS,
    Happening.DISK_DETACHED: DomainEventKind.DISKS,
    Happening.SUSPENDED: DomainEventKind.OTHER,
    Happening.RESUMED: DomainEventKind.OTHER,
    Happening.LEFT: DomainEventKind.OTHER,
    Happening.MIGRATION_BEGAN: DomainEventKind.OTHER,
    Happening.MIGRATION_FAILED: DomainEventKind.OTHER,
}


class WorldWatcher:
    """Posts the events of host `node`, and None whenever its hypervisor can be reached (again)."""

    def __init__(self, world: World, node: str, post: Callable[[DomainEvent | None], None]) -> None:
        self._world = world
        self._node = node
        self._post = post
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"simulated-watcher-{node}", daemon=True)
        self._connected = False
        self._seen_number = 0
        self._seen_changes = -1
        self._due_at: float | None = None

    @property
    def is_connected(self) -> bool:
        return self._connected

    def start(self) -> None:
        self._world.open()
        self._look()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._world.close()
        self._connected = False

    def _run(self) -> None:
        while not self._closing.wait(_POLL_INTERVAL_S):
            try:
                self._look()
            except HypervisorError as error:
                self._connected = False
                self._seen_changes = -1
                log.warning("simulated_world_not_available", node=self._node, problem=error.reason)

    def _look(self) -> None:
        changes = self._world.change_count()
        nothing_due = self._due_at is None or self._world.now() < self._due_at
        if changes == self._seen_changes and nothing_due:
            return
        with self._world.looking() as moment:
            away = moment.is_away(self._node)
            entries = moment.history(after=self._seen_number, node=self._node) if self._connected else []
            last_number = moment.last_history_number()
            due_at = moment.next_due_at()
        self._seen_changes, self._seen_number, self._due_at = changes, last_number, due_at
        if away:
            self._connected = False
        elif not self._connected or any(entry.kind is Happening.HOST_BACK for entry in entries):
            self._connected = True
            self._post(None)
        else:
            for entry in entries:
                if entry.kind in _KINDS:
                    self._post(DomainEvent(entry.uuid, _KINDS[entry.kind], f"{entry.kind} {entry.detail}".strip()))
