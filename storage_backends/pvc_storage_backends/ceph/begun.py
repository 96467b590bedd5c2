# SPDX-License-Identifier: Apache-2.0
"""begun: what calls write down before they change more than one thing, so that what a call that died has left is known.

Ceph changes an image's name in several objects and rolls back an image piece by piece, and nothing in the pool says
that somebody has only begun. So one object of the pool has a note for each such call until it is through; and whoever
makes, renames or removes images holds a lock on it that others hold as well, and that mending has for itself alone.
The lock runs out by itself, by the clock of Ceph: that of a process that died holds nobody up for longer.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import msgspec

from pvc_core.errors import AlreadyExists, NotFound, PvcError, Refused
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.failures import Subject, errno_of, explained

OBJECT = "pvc_begun"
"""Where a pool has them."""
LOCK = "pvc"
CALL_TIMEOUTS = 12
"""So many answers of Ceph, each within its time, a call may wait for before its lock runs out."""
DIRECTORY, TRASH = "rbd_directory", "rbd_trash"
"""RBD's own: the names of a pool's images, and those on their way out."""
MAKING = ".pvc-new-"
"""Begins the name of an image that is being made, as no volume's does."""
PATIENCE_S, LOOK_S = 20.0, 0.1
_TAKEN = frozenset({errno.EBUSY, errno.EEXIST})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MANY = 2**31 - 1


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is under way, or was. snapshot: what a volume goes back to, or what a clone is made from."""

    call: Literal["rename", "clone", "roll-back"]
    volume: str
    image_id: str
    new_name: str = ""
    snapshot: str = ""


@contextmanager
def working(ioctx: Any, pool: str, lasts_s: float, *, if_there_is_room: bool = False) -> Iterator[None]:
    """Nobody mends the pool meanwhile, for so long at most. Raises `Refused` when somebody does all the time.

    if_there_is_room: without the lock in a pool so full that it cannot be had.
    """
    cookie = uuid4().hex
    has_it = _locked(ioctx, pool, cookie, lasts_s, if_there_is_room)
    try:
        yield
    finally:
        if has_it:
            _unlock(ioctx, cookie)


def _locked(ioctx: Any, pool: str, cookie: str, lasts_s: float, if_there_is_room: bool) -> bool:
    """Whether it could be had; waits for somebody who mends."""
    ends_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            with explained(Subject("pool", pool)):
                ioctx.lock_shared(OBJECT, LOCK, cookie, LOCK, duration=max(1, round(lasts_s)))
        except (Refused, AlreadyExists) as error:
            number = errno_of(error.__cause__) if error.__cause__ else 0
            if if_there_is_room and number in _FULL:
                return False
            if number not in _TAKEN:
                raise
            if time.monotonic() > ends_at:
                raise Refused(f"pool {pool}", "is being repaired; try again later") from error
            time.sleep(LOOK_S)
        else:
            return True


@contextmanager
def mending(ioctx: Any, pool: str, lasts_s: float) -> Iterator[None]:
    """Nobody makes, renames or removes images of the pool meanwhile. Raises `Refused` while somebody does."""
    cookie, rados = uuid4().hex, bindings.load().rados
    try:
        ioctx.lock_exclusive(OBJECT, LOCK, cookie, duration=max(1, round(lasts_s)))
    except (rados.ObjectBusy, rados.ObjectExists) as error:
        reason = f"something is being done in it, or was by a process that died within the last {lasts_s:.0f} s"
        raise Refused(f"pool {pool}", reason) from error
    try:
        yield
    finally:
        _unlock(ioctx, cookie)


def _unlock(ioctx: Any, cookie: str) -> None:
    try:
        ioctx.unlock(OBJECT, LOCK, cookie)
    except bindings.load().rados.ObjectNotFound:
        return  # it has run out


# ------------------------------------------------------------------------------------------------- notes


@contextmanager
def noted(ioctx: Any, begun: Begun, *unchanged: type[PvcError]) -> Iterator[None]:
    """A note says so until this is through, or raises an error that means that all is `unchanged`."""
    key = uuid4().hex
    rados = bindings.load().rados
    with rados.WriteOpCtx() as writing:
        ioctx.set_omap(writing, (key,), (msgspec.json.encode(begun),))
        ioctx.operate_write_op(writing, OBJECT)
    try:
        yield
    except unchanged:
        forget(ioctx, key)
        raise
    forget(ioctx, key)


def forget(ioctx: Any, key: str) -> None:
    """The call is through, or mended."""
    rados = bindings.load().rados
    with rados.WriteOpCtx() as writing:
        ioctx.remove_omap_keys(writing, (key,))
        ioctx.operate_write_op(writing, OBJECT)


def notes(ioctx: Any) -> dict[str, Begun]:
    """What is under way, or has been left, by key."""
    return {key: msgspec.json.decode(value, type=Begun) for key, value in _omap(ioctx, OBJECT).items()}


def forget_roll_backs(ioctx: Any, image_id: str) -> None:
    """Whatever an image was on its way back to, it is as one snapshot has it now."""
    for key, begun in notes(ioctx).items():
        if begun.call == "roll-back" and begun.image_id == image_id:
            forget(ioctx, key)


def check_whole(ioctx: Any, name: str, image_id: str) -> None:
    """Raises `Refused` for a volume that is neither what it held nor what it is to hold."""
    for begun in notes(ioctx).values():
        if begun.call == "roll-back" and begun.image_id == image_id:
            reason = f"is on its way back to snapshot {begun.snapshot}; if nobody does that any more, {REPAIR} ends it"
            raise Refused(f"volume {name}", reason)


REPAIR = "`pvc storage ceph repair`"


# --------------------------------------------------------------------------------------- RBD's own objects


def name_of(ioctx: Any, image_id: str) -> str:
    """What the pool's directory calls an image; "" for one that it has not, or that is on its way out of it.

    Image and name are found by two objects, which a rename or a removal changes one after the other: this one counts.
    """
    asked = packed(image_id)
    answers: dict[str, bytes] = {}

    def into(key: str) -> Any:
        return lambda _, data: answers.__setitem__(key, data)

    questions = {
        "name": ioctx.aio_execute(DIRECTORY, "rbd", "dir_get_name", asked, 4096, into("name")),
        "trash": ioctx.aio_execute(TRASH, "rbd", "trash_get", asked, 4096, into("trash")),
    }
    codes = {}
    for key, question in questions.items():
        question.wait_for_complete_and_cb()
        codes[key] = min(0, question.get_return_value())
    for code in codes.values():
        if code not in (0, -errno.ENOENT):
            raise bindings.load().rados.OSError(f"asking for the name of image {image_id}", errno=-code)
    return unpacked(answers["name"]) if codes["name"] == 0 and codes["trash"] else ""


class OnItsWayOut(NamedTuple):
    """What RBD's trash says of an image. removed: somebody removes it, and it is not to be kept for a while."""

    name: str
    removed: bool


def on_their_way_out(ioctx: Any) -> dict[str, OnItsWayOut]:
    """The images in the trash, by ID: those whose removal has begun, and those that people have put there."""
    found = {}
    for key, value in _omap(ioctx, TRASH).items():
        if key.startswith("id_"):
            # A version, its compatible one, the length; the source; then the name.
            found[key.removeprefix("id_")] = OnItsWayOut(unpacked(value[7:]), value[6] == _REMOVING)
    return found


_REMOVING = 3


def named_image(ioctx: Any, name: str) -> str:
    """The ID that an image is found by under this name; "" for none."""
    try:
        return unpacked(ioctx.read(id_object(name)))
    except bindings.load().rados.ObjectNotFound:
        return ""


def id_of(ioctx: Any, name: str) -> str:
    """The ID that the pool's directory has for a name, also of what is no image yet or no more; "" for none."""
    try:
        _, answer = ioctx.execute(DIRECTORY, "rbd", "dir_get_id", packed(name), 4096)
    except bindings.load().rados.ObjectNotFound:
        return ""
    return unpacked(answer)


def id_object(name: str) -> str:
    """The object by which an image is found by its name."""
    return f"rbd_id.{name}"


def packed(text: str) -> bytes:
    """A text as Ceph has it among others."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def unpacked(data: bytes) -> str:
    """The text that data begins with."""
    (length,) = struct.unpack_from("<I", data)
    return data[4 : 4 + length].decode()


def _omap(ioctx: Any, name: str) -> dict[str, bytes]:
    rados = bindings.load().rados
    try:
        with rados.ReadOpCtx() as reading:
            found, _ = ioctx.get_omap_vals(reading, "", "", _MANY)
            ioctx.operate_read_op(reading, name)
            return dict(found)
    except rados.ObjectNotFound:
        return {}


def check_named(ioctx: Any, name: str, image_id: str) -> None:
    """Raises `NotFound` for an image that is found by this name though it has another one, or none any more."""
    if image_id and name_of(ioctx, image_id) != name:
        raise NotFound("volume", name)
