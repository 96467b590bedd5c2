# SPDX-License-Identifier: Apache-2.0
"""pools: which pools of the cluster are for volumes, how much room they have, and how an image in one is opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pvc_core.errors import NotFound, Refused, StorageUnavailable
from pvc_core.storage import PoolUsage
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.begun import CALL_TIMEOUTS, check_named, check_whole
from pvc_storage_backends.ceph.connection import NO_QUORUM, Connection
from pvc_storage_backends.ceph.failures import Subject, explained

APPLICATION = "rbd"
FIRST_FIGURES_S = 30.0
"""How long a new pool may be without figures, until its placement groups have reported."""
LOOK_S = 0.1
PATIENCE_S = 60.0
"""How long a call waits for another one of this process that works on the same volume."""


class CephPools:
    """The pools, and what all parts of the backend need of them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.call_s = CALL_TIMEOUTS * connection.timeout_s
        """How long a call that makes, renames or removes images keeps others from mending its pool at most."""
        self._locks = _VolumeLocks()

    def pools(self) -> tuple[str, ...]:
        """See `StorageBackend`: those that Ceph's operator has given to RBD."""
        self.check_quorum()
        listed = self.connection.command("osd pool ls", detail="detail")
        return tuple(sorted(pool["pool_name"] for pool in listed if APPLICATION in pool["application_metadata"]))

    def is_shared(self, pool: str) -> bool:
        """See `StorageBackend`: every pool is."""
        with self.opened(pool):
            return True

    def usage(self, pool: str) -> PoolUsage:
        """See `StorageBackend`: what can still be stored, copies and the pool's quota taken into account."""
        ends_at = time.monotonic() + FIRST_FIGURES_S
        with self.opened(pool):
            while True:
                self.check_quorum()
                figures = {
                    each["name"]: each["stats"] for each in self.connection.command("df", detail="detail")["pools"]
                }
                if pool in figures:
                    return usage_of(figures[pool])
                if time.monotonic() > ends_at:
                    raise StorageUnavailable("ceph", f"there are no figures of the pool {pool}: does a manager run?")
                time.sleep(LOOK_S)

    def check_quorum(self) -> None:
        """Raises `StorageUnavailable` without quorum: a connection from before would go on telling what was then."""
        if not self.connection.command("status")["quorum"]:
            raise StorageUnavailable("ceph", NO_QUORUM)

    def check_room(self, pool: str, more_bytes: int) -> None:
        """Raises `Refused` when the pool has less than that."""
        free_bytes = self.usage(pool).free_bytes
        if more_bytes > free_bytes:
            raise Refused(f"pool {pool}", f"{more_bytes} bytes are wanted, {free_bytes} are free")

    # ------------------------------------------------------------------------------------------------- opened

    @contextmanager
    def opened(self, pool: str) -> Iterator[Any]:
        """The pool for input and output. Raises `NotFound`, also for a pool of another application."""
        with ExitStack() as stack:
            rados = stack.enter_context(self.connection.using())
            with explained(Subject("pool", pool)):
                ioctx = stack.enter_context(rados.open_ioctx(pool))
                if APPLICATION not in ioctx.application_list():
                    raise NotFound("pool", pool)
                # In a full pool, what takes room fails instead of waiting, and what frees some is done.
                ioctx.set_osdmap_full_try()
            yield ioctx

    @contextmanager
    def image(self, pool: str, name: str, *, writing: bool = False, whole: bool = False) -> Iterator[Any]:
        """A volume's image. writing: others see that it is in use meanwhile. Raises `NotFound`.

        whole: raises `Refused` when what it holds is neither what it held nor what it is to hold.
        """
        subject = Subject("volume", name)
        with self.opened(pool) as ioctx, explained(subject):
            opened = bindings.load().rbd.Image(ioctx, name, read_only=not writing)
            try:
                if image_id := opened.id():
                    check_named(ioctx, name, image_id)
                if whole:
                    check_whole(ioctx, name, image_id)
                yield opened
            finally:
                opened.close()

    @contextmanager
    def alone(self, pool: str, *names: str) -> Iterator[None]:
        """No other call of this process that changes one of these volumes runs meanwhile.

        Others would see this one's watch of the image and take the volume for one that is in use.
        """
        with self._locks.held(*((pool, name) for name in sorted(set(names)))):
            yield


class _VolumeLocks:
    """A lock for each volume that somebody works on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[tuple[str, str]] = set()

    @contextmanager
    def held(self, *volumes: tuple[str, str]) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(lambda: self._taken.isdisjoint(volumes), PATIENCE_S):
                raise Refused(f"volume {volumes[0][1]}", f"another call has been working on it for {PATIENCE_S:.0f} s")
            self._taken.update(volumes)
        try:
            yield
        finally:
            with self._changed:
                self._taken.difference_update(volumes)
                self._changed.notify_all()


def usage_of(figures: dict[str, Any]) -> PoolUsage:
    """Of what `ceph df detail` says of a pool. `max_avail` and `stored` are without copies already."""
    stored_bytes, free_bytes = int(figures["stored"]), int(figures["max_avail"])
    if quota_bytes := int(figures.get("quota_bytes", 0)):
        free_bytes = min(free_bytes, max(0, quota_bytes - stored_bytes))
    return PoolUsage(stored_bytes + free_bytes, free_bytes)
