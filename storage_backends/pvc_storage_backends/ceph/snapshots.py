# SPDX-License-Identifier: Apache-2.0
"""snapshots: what an image held at one moment; of those that Ceph keeps for clones nobody is told."""

from __future__ import annotations

from typing import Any

from pvc_core.errors import AlreadyExists, NotFound, Refused
from pvc_core.storage import Snapshot, Volume, check_volume_name
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.begun import Begun, forget_roll_backs, noted
from pvc_storage_backends.ceph.failures import Subject, explained
from pvc_storage_backends.ceph.pools import CephPools
from pvc_storage_backends.ceph.users import check_unused, known_nodes

HIDDEN = ".pvc-clone-"
"""How the snapshot of a clone that is being made is called: as no volume or snapshot can be."""


class CephSnapshots(CephPools):
    """`SnapshotsVolumes`."""

    def snapshots(self, pool: str, volume: str) -> tuple[Snapshot, ...]:
        """See `SnapshotsVolumes`."""
        with self.image(pool, volume) as image:
            return tuple(_shown(image, each) for each in own_snapshots(image))

    def create_snapshot(self, pool: str, volume: str, name: str) -> Snapshot:
        """See `SnapshotsVolumes`. Of a volume in use, it is what a power cut at that moment would have left."""
        check_volume_name(name)
        with self.alone(pool, volume), self.image(pool, volume, writing=True, whole=True) as image:
            _check_free(image, name)
            with explained(Subject("snapshot", name)):
                image.create_snap(name)
            return _shown(image, _found(image, name))

    def rename_snapshot(self, pool: str, volume: str, name: str, new_name: str) -> Snapshot:
        """See `SnapshotsVolumes`."""
        check_volume_name(new_name, "new_name")
        with self.alone(pool, volume):
            with self.image(pool, volume) as image:
                _found(image, name)
                _check_free(image, new_name)
            with self.image(pool, volume, writing=True) as image:
                with explained(Subject("snapshot", name, new_name)):
                    image.rename_snap(name, new_name)
                return _shown(image, _found(image, new_name))

    def protect_snapshot(self, pool: str, volume: str, name: str, protected: bool) -> Snapshot:
        """See `SnapshotsVolumes`."""
        with self.alone(pool, volume):
            with self.image(pool, volume) as image:
                shown = _shown(image, _found(image, name))
            if shown.protected == protected:
                return shown
            with self.image(pool, volume, writing=True) as image, explained(Subject("snapshot", name)):
                if protected:
                    image.protect_snap(name)
                else:
                    image.unprotect_snap(name)
                return _shown(image, _found(image, name))

    def roll_back(self, pool: str, volume: str, name: str) -> Volume:
        """See `SnapshotsVolumes`."""
        with self.alone(pool, volume), self.connection.using() as rados:
            with self.image(pool, volume) as image:
                snapshot, size_bytes = _found(image, name), image.size()
                check_unused(volume, image, known_nodes(rados))
            self.check_room(pool, snapshot["size"] - size_bytes)
            with self.image(pool, volume, writing=True) as image, self.opened(pool) as ioctx:
                begun = Begun(call="roll-back", volume=volume, image_id=image.id(), snapshot=name)
                with noted(ioctx, begun), explained(Subject("snapshot", name)):
                    image.rollback_to_snap(name)
                forget_roll_backs(ioctx, begun.image_id)
                return Volume(pool, volume, image.size())

    def remove_snapshot(self, pool: str, volume: str, name: str) -> None:
        """See `SnapshotsVolumes`."""
        with self.alone(pool, volume):
            with self.image(pool, volume) as image:
                if _shown(image, _found(image, name)).protected:
                    raise Refused(f"snapshot {name} of {volume}", "is protected")
            with self.image(pool, volume, writing=True) as image, explained(Subject("snapshot", name)):
                image.remove_snap(name)


def own_snapshots(image: Any) -> list[dict[str, Any]]:
    """The snapshots that somebody has asked for, oldest first."""
    made_by_users = bindings.load().rbd.RBD_SNAP_NAMESPACE_TYPE_USER
    found = [each for each in image.list_snaps() if each["namespace"] == made_by_users and not is_hidden(each)]
    return sorted(found, key=lambda each: int(each["id"]))


def is_hidden(snapshot: dict[str, Any]) -> bool:
    """Whether it was made for a clone whose making was broken off, or still goes on."""
    return str(snapshot["name"]).startswith(HIDDEN)


def _found(image: Any, name: str) -> dict[str, Any]:
    for snapshot in own_snapshots(image):
        if snapshot["name"] == name:
            return snapshot
    raise NotFound("snapshot", name)


def _shown(image: Any, snapshot: dict[str, Any]) -> Snapshot:
    return Snapshot(snapshot["name"], snapshot["size"], bool(image.is_protected_snap(snapshot["name"])))


def _check_free(image: Any, name: str) -> None:
    if any(snapshot["name"] == name for snapshot in own_snapshots(image)):
        raise AlreadyExists("snapshot", name)
