# SPDX-License-Identifier: Apache-2.0
"""vm_snapshot_work: what taking and removing a VM's snapshot is in its storage, for whoever does it.

The process of the API does it for a VM that is off, and the node for a guest that runs. What was taken in part is
removed again; where that is not certain to be done, the record stays and says that it is to be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import msgspec

from pvc_core.changes import Change
from pvc_core.errors import NotFound, PluginError, PvcError, Refused, StorageUnavailable
from pvc_core.ports import Clock, ClusterStore
from pvc_core.storage import SnapshotsVolumes, StorageBackend, StorageCapability
from pvc_core.storage_access import StorageAccess
from pvc_core.vm_snapshot_changes import (
    StoredSnapshot,
    StoredVm,
    left_over,
    not_taken,
    read_both,
    read_snapshots,
    removed,
    removing,
    taken,
)
from pvc_core.vm_snapshots import Consistency, SnapshotVolume, VmSnapshotState, too_many
from pvc_core.vm_volumes import VmVolume
from pvc_core.volume_claims import REPAIR

WORK_S = 600.0
"""How long a backend may take to go back to one snapshot, or to remove it."""
TAKE_S = 60.0
"""How long all the snapshots of a VM that is off may take."""
LEAST_S = 0.1

Commit = Callable[[Callable[[], Change | None]], Change | None]
"""Decide and write until the decision was made of the newest records; None: there is nothing to write."""


class SnapshotWork:
    """Snapshots of VMs in their storage, as seen from one host."""

    def __init__(self, store: ClusterStore, storage: StorageAccess, clock: Clock, commit: Commit) -> None:
        self._store = store
        self._storage = storage
        self._clock = clock
        self._commit = commit

    def check(self, volumes: Iterable[VmVolume]) -> None:
        """Raise `Refused` for a volume of which no snapshot is taken with its VM."""
        for volume in volumes:
            if volume.node:
                raise Refused(volume.title, "lies on a host: no snapshot of it is taken together with its VM")
            able = self._storage.ask(volume.backend, lambda opened: opened.capabilities)
            if StorageCapability.SNAPSHOTS not in able:
                raise Refused(volume.title, "its storage takes no snapshots")

    # ------------------------------------------------------------------------------------------------ taking

    def take_volumes(self, volumes: Iterable[SnapshotVolume], within_s: float) -> tuple[SnapshotVolume, ...]:
        """A snapshot of each of them, as they have come out. Raises what a backend raises; some may be there then."""
        ends_s = self._clock.monotonic_s() + within_s
        made = []
        for each in volumes:
            left_s = ends_s - self._clock.monotonic_s()
            if left_s <= 0:
                raise Refused(each.title, f"its snapshot was not begun within {within_s:g} s")
            made.append(msgspec.structs.replace(each, size_bytes=self._take(each, max(left_s, LEAST_S))))
        return tuple(made)

    def _take(self, volume: SnapshotVolume, deadline_s: float) -> int:
        def take(opened: StorageBackend) -> int:
            return keeping(opened).create_snapshot(volume.pool, volume.name, volume.snapshot).size_bytes

        return self._storage.ask(volume.backend, take, deadline_s)

    def finish(
        self, uuid: str, name: str, volumes: tuple[SnapshotVolume, ...], consistency: Consistency, at: str
    ) -> None:
        """It is taken. Raises `Refused` when somebody has called it off meanwhile; then nothing of it stays."""

        def decide() -> Change | None:
            stored, snapshot = read_both(self._store, uuid, name)
            if stored is None or not is_creating(snapshot):
                return None
            fields = {"volumes": volumes, "consistency": consistency, "at": at}
            return taken(stored, cast(StoredSnapshot, snapshot), self._clock.utc_iso(), **fields)

        if self._commit(decide) is None:
            problem, _ = self.remove_volumes(volumes)
            raise Refused(f"snapshot {name}", f"it was called off{f', and is left: {problem}' if problem else ''}")

    def undo(self, uuid: str, name: str, error: PvcError) -> str:
        """It cannot be taken: remove what there is of it. Why it is not there, and what is left."""
        _, snapshot = read_both(self._store, uuid, name)
        if not is_creating(snapshot):
            return error.sentence()
        volumes = cast(StoredSnapshot, snapshot).value.volumes
        problem, _ = self.remove_volumes(volumes)
        if isinstance(error, PluginError | StorageUnavailable):  # what was asked for may still come
            problem = problem or "whether one of its volumes has it still is not known"
        reason = f"{error.sentence()}{f'; what is left is to be removed: {problem}' if problem else ''}"

        def decide() -> Change | None:
            vm, found = read_both(self._store, uuid, name)
            if not is_creating(found):
                return None
            fresh = cast(StoredSnapshot, found)
            return left_over(vm, fresh, self._clock.utc_iso(), reason) if problem else not_taken(vm, fresh, reason)

        self._commit(decide)
        return reason

    # ---------------------------------------------------------------------------------------------- removing

    def remove_volumes(self, volumes: Iterable[SnapshotVolume]) -> tuple[str, int]:
        """Remove these; why one could not be, "" when none is left, and how many are gone. What is gone is removed."""
        gone = 0
        for each in volumes:
            if problem := self._remove(each):
                return f"{each.title}: {problem}", gone
            gone += 1
        return "", gone

    def _remove(self, volume: SnapshotVolume) -> str:
        try:
            self._storage.ask(
                volume.backend,
                lambda opened: keeping(opened).remove_snapshot(volume.pool, volume.name, volume.snapshot),
                WORK_S,
            )
        except NotFound as error:
            return "" if error.kind in ("volume", "snapshot") else error.sentence()
        except PvcError as error:
            return error.sentence()
        return ""

    def remove(self, uuid: str, name: str, why: str = "") -> tuple[str, int]:
        """Remove one that is said to be removed; why it could not be, and of how many volumes it is gone."""
        _, snapshot = read_both(self._store, uuid, name)
        if snapshot is None:
            return "", 0
        problem, gone = self.remove_volumes(snapshot.value.volumes)
        if problem:
            return problem, gone

        def decide() -> Change | None:
            stored, found = read_both(self._store, uuid, name)
            if found is None or found.value.state is not VmSnapshotState.REMOVING:
                return None
            return removed(stored, found, why)

        self._commit(decide)
        return "", gone

    def retire(self, stored: StoredVm, keep: int) -> tuple[str, ...]:
        """Remove the VM's automatic snapshots that are beyond the newest `keep`; what could not be, and why.

        Raises `Conflict` when somebody else removes the same.
        """
        snapshots = read_snapshots(self._store, stored.value)
        doomed = too_many([each.value for each in snapshots], keep)
        problems = []
        for each in snapshots:
            if each.value.name in doomed:
                self._store.transaction([removing(each, self._clock.utc_iso())])
                problem, _ = self.remove(stored.value.uuid, each.value.name, f"the newest {keep} are kept")
                if problem:
                    problems.append(f"{each.value.title} is too old and left: {problem}; {REPAIR} tries again")
        return tuple(problems)


def keeping(opened: StorageBackend) -> SnapshotsVolumes:
    """The backend as one with snapshots. Raises `Refused`."""
    if StorageCapability.SNAPSHOTS not in opened.capabilities:
        raise Refused("its storage", "takes no snapshots")
    return cast(SnapshotsVolumes, opened)


def is_creating(snapshot: StoredSnapshot | None) -> bool:
    """Whether it is still to be taken."""
    return snapshot is not None and snapshot.value.state is VmSnapshotState.CREATING
