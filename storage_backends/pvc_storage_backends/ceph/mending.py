# SPDX-License-Identifier: Apache-2.0
"""mending: what calls that died have left in a pool, and how it comes to be as before such a call, or as after it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pvc_core.errors import PvcError, Refused
from pvc_core.storage import Leftover
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.begun import (
    DIRECTORY,
    MAKING,
    TRASH,
    Begun,
    forget,
    forget_roll_backs,
    id_object,
    mending,
    name_of,
    named_image,
    notes,
    on_their_way_out,
    packed,
)
from pvc_storage_backends.ceph.failures import Subject, errno_of, explained
from pvc_storage_backends.ceph.pools import CephPools
from pvc_storage_backends.ceph.users import Client, watchers


@dataclass(frozen=True)
class _Found:
    leftover: Leftover
    mend: Callable[[], None]


class CephMending(CephPools):
    """`MendsLeftovers`."""

    def leftovers(self, pool: str) -> tuple[Leftover, ...]:
        """See `MendsLeftovers`."""
        with self.opened(pool) as ioctx, explained(Subject("pool", pool)), mending(ioctx, pool, self.call_s):
            return tuple(found.leftover for found in _found(ioctx, pool))

    def mend(self, pool: str) -> tuple[Leftover, ...]:
        """See `MendsLeftovers`. What a client that died still has open stays until Ceph has noticed: half a minute."""
        with self.opened(pool) as ioctx, explained(Subject("pool", pool)), mending(ioctx, pool, self.call_s):
            return tuple(filter(None, (_mended(found) for found in _found(ioctx, pool))))


def _mended(found: _Found) -> Leftover | None:
    """What stays, with the reason."""
    try:
        with explained(Subject("leftover", found.leftover.what)):
            found.mend()
    except PvcError as error:
        return replace(found.leftover, problem=error.sentence())
    return None


def _found(ioctx: Any, pool: str) -> Iterator[_Found]:
    """All that there is, in the order in which it is to be mended: what one removes another one need not."""
    for key, begun in sorted(
        notes(ioctx).items(), key=lambda note: ("roll-back", "rename", "clone").index(note[1].call)
    ):
        what, remedy, mend = _KINDS[begun.call]
        leftover = Leftover(pool, what.format(begun=begun), remedy.format(begun=begun))
        yield _Found(leftover, _noted(mend, ioctx, key, begun))
    leaving = on_their_way_out(ioctx)
    for image_id, image in leaving.items():
        if image.removed:
            what = f"volume {image.name} is half removed"
            yield _Found(Leftover(pool, what, "the rest of it is removed"), _removing(ioctx, image_id, image.name))
    for each in bindings.load().rbd.RBD().list2(ioctx):
        name, image_id = each["name"], each["id"]
        if not image_id or image_id in leaving:
            continue
        if name.startswith(MAKING):
            yield _Found(Leftover(pool, "a clone is half made", "it is removed"), _removing(ioctx, image_id, name))
        elif not _has(ioctx, f"rbd_header.{image_id}"):
            what = f"volume {name} is half made, or all but removed"
            yield _Found(Leftover(pool, what, "the rest of it is removed"), _removing(ioctx, image_id, name))


def _noted(mend: Callable[[Any, Begun], None], ioctx: Any, key: str, begun: Begun) -> Callable[[], None]:
    def mended() -> None:
        mend(ioctx, begun)
        forget(ioctx, key)

    return mended


def _removing(ioctx: Any, image_id: str, name: str) -> Callable[[], None]:
    return lambda: _remove(ioctx, image_id, name)


# ------------------------------------------------------------------------------------- what each call left


def _after_rename(ioctx: Any, begun: Begun) -> None:
    """The name that the pool's directory does not have is none."""
    has = name_of(ioctx, begun.image_id)
    for name in (begun.volume, begun.new_name):
        if name != has and named_image(ioctx, name) == begun.image_id:
            ioctx.remove_object(id_object(name))


def _after_clone(ioctx: Any, begun: Begun) -> None:
    """What was made goes, unless it has its name already; and then the snapshot that it was to stand on."""
    for each in bindings.load().rbd.RBD().list2(ioctx):
        if each["name"] == begun.new_name:
            _remove(ioctx, each["id"], begun.new_name)
    if not name_of(ioctx, begun.image_id):
        return
    _check_unwatched(ioctx, begun.image_id)
    with bindings.load().rbd.Image(ioctx, image_id=begun.image_id) as image:
        if any(each["name"] == begun.snapshot for each in image.list_snaps()):
            image.remove_snap(begun.snapshot)


def _after_roll_back(ioctx: Any, begun: Begun) -> None:
    """To go back again ends at the same, wherever it was broken off."""
    if not name_of(ioctx, begun.image_id):
        return
    _check_unwatched(ioctx, begun.image_id)
    with bindings.load().rbd.Image(ioctx, image_id=begun.image_id) as image:
        image.rollback_to_snap(begun.snapshot)
    forget_roll_backs(ioctx, begun.image_id)


_KINDS: dict[str, tuple[str, str, Callable[[Any, Begun], None]]] = {
    "rename": (
        "volume {begun.volume} has also half the name {begun.new_name}",
        "it keeps the one that volumes are listed by",
        _after_rename,
    ),
    "clone": ("a clone of volume {begun.volume} is half made", "it is removed", _after_clone),
    "roll-back": (
        "volume {begun.volume} has gone half the way back to snapshot {begun.snapshot}",
        "it goes all the way",
        _after_roll_back,
    ),
}


# ---------------------------------------------------------------------------------------------- removing


def _remove(ioctx: Any, image_id: str, name: str) -> None:
    """All that is left of an image, whichever parts those are."""
    rbd = bindings.load().rbd
    if _has(ioctx, f"rbd_header.{image_id}"):
        _check_unwatched(ioctx, image_id)
        if not _directory_has(ioctx, image_id):
            try:
                rbd.RBD().trash_remove(ioctx, image_id, force=True)
            except rbd.Error as error:
                if errno_of(error) != errno.EUCLEAN:
                    raise
                # It is on its way into the trash, and goes on under its name.
                ioctx.execute(DIRECTORY, "rbd", "dir_add_image", packed(name) + packed(image_id))
            else:
                return
        if not named_image(ioctx, name):
            ioctx.write_full(id_object(name), packed(image_id))  # by which alone Ceph finds the rest
        rbd.RBD().remove(ioctx, name)
        return
    if named_image(ioctx, name) == image_id:
        ioctx.remove_object(id_object(name))
    if _has(ioctx, object_map := f"rbd_object_map.{image_id}"):
        ioctx.remove_object(object_map)
    if _directory_has(ioctx, image_id):
        ioctx.execute(DIRECTORY, "rbd", "dir_remove_image", packed(name) + packed(image_id))
    if image_id in on_their_way_out(ioctx):
        ioctx.execute(TRASH, "rbd", "trash_remove", packed(image_id))


def _check_unwatched(ioctx: Any, image_id: str) -> None:
    """Raises `Refused` while somebody has an image open, or has died so lately that Ceph has not noticed."""
    rbd = bindings.load().rbd
    try:
        with rbd.Image(ioctx, image_id=image_id, read_only=True) as image:
            users: Sequence[Client] = watchers(image)
    except rbd.ImageNotFound:
        return  # half of a clone, which knows its parent no more: to remove it, Ceph looks for itself who has it open
    if users:
        raise Refused("it", f"client.{users[0].number} has it open, or has just died: try again in half a minute")


def _directory_has(ioctx: Any, image_id: str) -> bool:
    try:
        ioctx.execute(DIRECTORY, "rbd", "dir_get_name", packed(image_id), 4096)
    except bindings.load().rados.ObjectNotFound:
        return False
    return True


def _has(ioctx: Any, name: str) -> bool:
    try:
        ioctx.stat(name)
    except bindings.load().rados.ObjectNotFound:
        return False
    return True
