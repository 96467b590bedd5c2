# SPDX-License-Identifier: Apache-2.0
"""volumes: images are listed, made, resized, renamed, cloned and removed; one that somebody has open is not removed.

Listing asks the images' headers all at once instead of opening one image after the other.
"""

from __future__ import annotations

import errno
import struct
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from pvc_core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from pvc_core.storage import Volume, check_volume_name, check_volume_size
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.begun import (
    MAKING,
    REPAIR,
    TRASH,
    Begun,
    id_object,
    id_of,
    noted,
    on_their_way_out,
    working,
)
from pvc_storage_backends.ceph.failures import Subject, explained, meaning
from pvc_storage_backends.ceph.pools import CephPools
from pvc_storage_backends.ceph.snapshots import HIDDEN, is_hidden, own_snapshots
from pvc_storage_backends.ceph.users import check_unused, known_nodes

_NOT_A_SNAPSHOT = struct.pack("<Q", 2**64 - 2)
_SIZE_ANSWER = struct.Struct("<BQ")  # the binary logarithm of an object's size, and the image's size


class CephVolumes(CephPools):
    """`StorageBackend`'s volumes, `ResizesVolumes` and `ClonesVolumes`."""

    def volumes(self, pool: str) -> tuple[Volume, ...]:
        """See `StorageBackend`. An image whose making or removal was broken off, and cannot be opened, is none."""
        with self.opened(pool) as ioctx:
            leaving = on_their_way_out(ioctx)
            listed = {each["name"]: each["id"] for each in bindings.load().rbd.RBD().list2(ioctx)}
            images = {
                name: image_id
                for name, image_id in listed.items()
                if image_id not in leaving and not name.startswith(MAKING)
            }
            sizes = _sizes(ioctx, images)
        return tuple(Volume(pool, name, sizes[name]) for name in sorted(sizes))

    def volume(self, pool: str, name: str) -> Volume:
        """See `StorageBackend`."""
        with self.image(pool, name) as image:
            return Volume(pool, name, image.size())

    def create_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """See `StorageBackend`."""
        check_volume_name(name)
        check_volume_size(size_bytes)
        with self.alone(pool, name), self.opened(pool) as ioctx, working(ioctx, pool, self.call_s):
            self._check_free(ioctx, pool, name)
            self.check_room(pool, size_bytes)
            with explained(Subject("volume", name)):
                _make_trash(ioctx)
                bindings.load().rbd.RBD().create(ioctx, name, size_bytes, old_format=False, features=features())
        return Volume(pool, name, size_bytes)

    def rename_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """See `StorageBackend`. Whoever has it open keeps it."""
        check_volume_name(new_name, "new_name")
        with self.alone(pool, name, new_name), self.opened(pool) as ioctx, working(ioctx, pool, self.call_s):
            with self.image(pool, name) as image:
                image_id = image.id()
            self._check_free(ioctx, pool, new_name)
            _rename(ioctx, name, new_name, image_id)
            return self.volume(pool, new_name)

    def remove_volume(self, pool: str, name: str) -> None:
        """See `StorageBackend`. One that has clones is refused."""
        with ExitStack() as stack:
            stack.enter_context(self.alone(pool, name))
            rados, ioctx = stack.enter_context(self.connection.using()), stack.enter_context(self.opened(pool))
            stack.enter_context(working(ioctx, pool, self.call_s, if_there_is_room=True))
            with self.image(pool, name) as image:
                check_unused(name, image, known_nodes(rados))
                if kept := [snapshot["name"] for snapshot in own_snapshots(image)]:
                    raise Refused(f"volume {name}", f"has snapshots: {', '.join(sorted(kept))}")
                if clones := sorted(f"{each['pool']}/{each['image']}" for each in image.list_children2()):
                    raise Refused(f"volume {name}", f"has clones that need it: {', '.join(clones)}")
                left_over = [each["name"] for each in image.list_snaps() if is_hidden(each)]
            if left_over:
                with self.image(pool, name, writing=True) as image:
                    for snapshot in left_over:
                        image.remove_snap(snapshot)
            try:
                with explained(Subject("volume", name)):
                    bindings.load().rbd.RBD().remove(ioctx, name)
            except NotFound as error:
                if _is_there(ioctx, name):
                    raise Refused(f"pool {pool}", "is so full that Ceph cannot move anything to its trash") from error
                raise

    def resize_volume(self, pool: str, name: str, size_bytes: int) -> Volume:
        """See `ResizesVolumes`."""
        with self.alone(pool, name):
            has_bytes = self.volume(pool, name).size_bytes
            if size_bytes < has_bytes:
                raise InvalidInput("size_bytes", f"the volume has {has_bytes} already", str(size_bytes))
            if size_bytes > has_bytes:
                self.check_room(pool, size_bytes - has_bytes)
                with self.image(pool, name, writing=True) as image:
                    image.resize(size_bytes)
        return Volume(pool, name, size_bytes)

    def clone_volume(self, pool: str, name: str, new_name: str) -> Volume:
        """See `ClonesVolumes`. The snapshot that the clone stands on shows nowhere and goes with the last clone."""
        check_volume_name(new_name, "new_name")
        hidden, made = f"{HIDDEN}{uuid4().hex}", f"{MAKING}{uuid4().hex}"
        with self.alone(pool, name, new_name), self.opened(pool) as ioctx, working(ioctx, pool, self.call_s):
            with self.image(pool, name, whole=True) as image:
                size_bytes, image_id = image.size(), image.id()
            self._check_free(ioctx, pool, new_name)
            self.check_room(pool, size_bytes)
            begun = Begun(call="clone", volume=name, image_id=image_id, new_name=made, snapshot=hidden)
            with self.image(pool, name, writing=True) as image, noted(ioctx, begun):
                image.create_snap(hidden)
                try:
                    with explained(Subject("volume", name, new_name)):
                        rbd = bindings.load().rbd
                        # In the middle of it, it is an image of zeros: nobody is to take that for the clone.
                        rbd.RBD().clone(ioctx, name, hidden, ioctx, made, features=features())
                finally:
                    image.remove_snap(hidden)  # from then on it is in Ceph's trash for as long as the clone needs it
                with rbd.Image(ioctx, made, read_only=True) as clone:
                    clone_id = clone.id()
                _rename(ioctx, made, new_name, clone_id)
        return Volume(pool, new_name, size_bytes)

    def _check_free(self, ioctx: Any, pool: str, name: str) -> None:
        """Raises `AlreadyExists`, or `Refused` for the name of something that is no volume, or none any more."""
        with explained(Subject("volume", name)):
            if not _is_there(ioctx, name):
                return
        try:
            self.volume(pool, name)
        except NotFound as error:
            reason = f"a call that died, or still goes on, has left something under this name: {REPAIR} ends it"
            raise Refused(f"volume {name}", reason) from error
        raise AlreadyExists("volume", name)


def features() -> int:
    """What an image of PVC's can do. Without the exclusive lock, a guest could not be shut out from one."""
    rbd = bindings.load().rbd
    return int(
        rbd.RBD_FEATURE_LAYERING
        | rbd.RBD_FEATURE_EXCLUSIVE_LOCK
        | rbd.RBD_FEATURE_OBJECT_MAP
        | rbd.RBD_FEATURE_FAST_DIFF
        | rbd.RBD_FEATURE_DEEP_FLATTEN
    )


def _is_there(ioctx: Any, name: str) -> bool:
    """Whether an image has this name, without reading all names of the pool: format 2 has an object for each, as 1."""
    missing = bindings.load().rados.ObjectNotFound
    for each in (id_object(name), f"{name}.rbd"):
        try:
            ioctx.stat(each)
        except missing:
            continue
        return True
    return bool(id_of(ioctx, name))  # of one that is half made or half removed


def _rename(ioctx: Any, name: str, new_name: str, image_id: str) -> None:
    begun = Begun(call="rename", volume=name, image_id=image_id, new_name=new_name)
    with noted(ioctx, begun, NotFound, AlreadyExists), explained(Subject("volume", name, new_name)):
        bindings.load().rbd.RBD().rename(ioctx, name, new_name)


def _make_trash(ioctx: Any) -> None:
    """Give the pool the object that lists RBD's trash, by which every removal goes.

    Ceph makes it with the first removal; in a pool that is full by then it cannot, and nothing could be removed.
    """
    rados = bindings.load().rados
    try:
        ioctx.stat(TRASH)
    except rados.ObjectNotFound:
        with rados.WriteOpCtx() as making:
            making.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
            ioctx.operate_write_op(making, TRASH)


def _sizes(ioctx: Any, images: dict[str, str]) -> dict[str, int]:
    """The size of each image that has a header, by name. images: name to ID, "" for the oldest format."""
    answers: dict[str, bytes] = {}
    sizes: dict[str, int] = {}

    def asked(name: str, image_id: str) -> Any:
        def answered(_: Any, data: bytes) -> None:
            answers[name] = data

        length = _SIZE_ANSWER.size
        return ioctx.aio_execute(f"rbd_header.{image_id}", "rbd", "get_size", _NOT_A_SNAPSHOT, length, answered)

    questions = {name: asked(name, image_id) for name, image_id in images.items() if image_id}
    for name, question in questions.items():
        question.wait_for_complete_and_cb()
        code = abs(min(0, question.get_return_value()))
        if code == 0:
            sizes[name] = _SIZE_ANSWER.unpack(answers[name])[1]
        elif code != errno.ENOENT:
            raise meaning(code, Subject("volume", name))
    for name, image_id in images.items():
        if not image_id:
            with bindings.load().rbd.Image(ioctx, name, read_only=True) as image:
                sizes[name] = image.size()
    return sizes
