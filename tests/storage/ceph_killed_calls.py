# SPDX-License-Identifier: Apache-2.0
"""ceph_killed_calls: a call of the backend `ceph` is killed (SIGKILL) before each of its calls of Ceph's libraries.

    python -m storage.ceph_killed_calls CONF POOL CALL

and at random moments within; then what is left is mended. Prints a line of JSON for each time: when it was killed, what
the pool held before, after the kill and after the mending; and at last what is left over then. Each time has volumes of
its own. This process never speaks to Ceph: its children would have its random numbers, by which Ceph tells clients
apart.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from io import BytesIO
from types import SimpleNamespace
from typing import Any, ClassVar

from pvc_core.errors import NotFound, Refused
from pvc_lab.waiting import wait_for
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.options import Options

MIB = 2**20
LIBRARIES = ("rados", "rbd")
AT_RANDOM = int(os.environ.get("PVC_LAB_KILLS_AT_RANDOM", "4"))
"""Kills within calls. Whoever changes what a call does tries some dozens."""
CALL_S = 1.0
"""After which the lock of a call that was killed runs out."""
CALLS: dict[str, Callable[[Any, str, int], object]] = {
    "create": lambda backend, pool, of: backend.create_volume(pool, f"new-{of}", MIB),
    "rename": lambda backend, pool, of: backend.rename_volume(pool, f"disk-{of}", f"new-{of}"),
    "clone": lambda backend, pool, of: backend.clone_volume(pool, f"disk-{of}", f"new-{of}"),
    "remove": lambda backend, pool, of: backend.remove_volume(pool, f"bare-{of}"),
    "remove-clone": lambda backend, pool, of: backend.remove_volume(pool, f"copy-{of}"),
    "resize": lambda backend, pool, of: backend.resize_volume(pool, f"disk-{of}", 24 * MIB),
    "snapshot": lambda backend, pool, of: backend.create_snapshot(pool, f"disk-{of}", "third"),
    "snapshot-rename": lambda backend, pool, of: backend.rename_snapshot(pool, f"disk-{of}", "first", "renamed"),
    "snapshot-protect": lambda backend, pool, of: backend.protect_snapshot(pool, f"disk-{of}", "first", True),
    "snapshot-remove": lambda backend, pool, of: backend.remove_snapshot(pool, f"disk-{of}", "first"),
    "roll-back": lambda backend, pool, of: backend.roll_back(pool, f"disk-{of}", "first"),
}


def opened(conf: str) -> Any:
    backend = CephBackend("", Options(conf=conf))
    backend.call_s = CALL_S
    return backend


def prepare(backend: Any, pool: str, call: str, of: int) -> None:
    """What the call needs: a volume with two snapshots and other contents in each, a clone of it, a bare one."""
    name = f"disk-{of}"
    if call == "create":
        backend.usage(pool)  # so that it need not wait for the pool's first figures
        return
    if call == "remove":
        backend.create_volume(pool, f"bare-{of}", MIB)
        return
    backend.create_volume(pool, name, 12 * MIB)
    times = MIB + 512 if call == "roll-back" else 512  # over three objects, or in one
    for snapshot in ("first", "second"):
        backend.upload_volume(pool, name, BytesIO(f"{snapshot:8}".encode() * times), lambda _: None)
        backend.create_snapshot(pool, name, snapshot)
    if call == "remove-clone":
        backend.clone_volume(pool, name, f"copy-{of}")


def prepare_all(backend: Any, pool: str, call: str, times: Iterable[int]) -> None:
    for of in times:
        prepare(backend, pool, call, of)


def states(backend: Any, pool: str, count: int) -> list[dict[str, Any]]:
    """All that there is of each time, as the users of the pool see it."""
    listed = {volume.name: volume for volume in backend.volumes(pool)}
    return [
        {kind: _volume(backend, pool, f"{kind}-{of}", listed) for kind in ("disk", "copy", "bare", "new")}
        for of in range(count)
    ]


def _volume(backend: Any, pool: str, name: str, listed: dict[str, Any]) -> Any:
    try:
        found = backend.volume(pool, name)
    except NotFound:
        return "half: it is listed and not there" if name in listed else None
    if listed.get(name) != found:
        return f"half: it is there and listed as {listed.get(name)}"
    snapshots = [[each.name, each.size_bytes, each.protected] for each in backend.snapshots(pool, name)]
    held = BytesIO()
    try:
        backend.download_volume(pool, name, held, lambda _: None)
    except Refused as error:
        return [found.size_bytes, snapshots, f"refused: {error.reason}"]
    return [found.size_bytes, snapshots, sha256(held.getvalue()).hexdigest()]


def child(work: Callable[[], object]) -> Any:
    """What a process of its own has worked out, None when it was killed."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(work()))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return None
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError("a child has failed")
    return json.loads(said)


class Counted:
    """Something of Ceph's libraries, whose calls are counted."""

    lasted_s: ClassVar[list[float]] = []
    kill_at = 0
    kill_after_s = 0.0

    def __init__(self, counted: Any) -> None:
        self.counted = counted

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.counted, name)
        is_called = callable(found) and not (isinstance(found, type) and issubclass(found, BaseException))
        return partial(self._called, found) if is_called else found

    def __enter__(self) -> Any:
        return _counted(self.counted.__enter__())

    def __exit__(self, *raised: object) -> Any:
        return self._called(self.counted.__exit__, *raised)

    def __iter__(self) -> Any:
        return iter(self.counted)

    @staticmethod
    def _called(found: Any, *arguments: Any, **named: Any) -> Any:
        Counted.lasted_s.append(0.0)
        if len(Counted.lasted_s) == Counted.kill_at:
            if not Counted.kill_after_s:
                _kill()
            threading.Timer(Counted.kill_after_s, _kill).start()
        plain = [each.counted if isinstance(each, Counted) else each for each in arguments]
        at, began_s = len(Counted.lasted_s) - 1, time.monotonic()
        try:
            return _counted(found(*plain, **named))
        finally:
            Counted.lasted_s[at] = time.monotonic() - began_s


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _counted(answer: Any) -> Any:
    if isinstance(answer, tuple):
        return tuple(map(_counted, answer))
    return Counted(answer) if type(answer).__module__ in LIBRARIES else answer


def calling(conf: str, pool: str, call: str, of: int, kill_at: int = 0, kill_after_s: float = 0.0) -> list[float]:
    """How long each call of Ceph's libraries takes; killed before one of them, or so long after it has begun."""
    backend, libraries = opened(conf), bindings.load()
    counted = SimpleNamespace(rados=Counted(libraries.rados), rbd=Counted(libraries.rbd))
    bindings.load = lambda: counted  # type: ignore[assignment, return-value]
    backend.pools()  # connected
    Counted.lasted_s, Counted.kill_at, Counted.kill_after_s = [], kill_at, kill_after_s
    CALLS[call](backend, pool, of)
    return Counted.lasted_s


def main(conf: str, pool: str, call: str) -> None:
    """Once to its end, then killed before the first call of a library, before the second ..."""
    child(lambda: prepare(opened(conf), pool, call, 0))
    child(lambda: prepare(opened(conf), pool, call, 1))
    lasted_s = child(lambda: calling(conf, pool, call, 0))
    child(lambda: calling(conf, pool, call, 1))
    steps = len(lasted_s)
    count = 2 + steps + AT_RANDOM
    child(lambda: prepare_all(opened(conf), pool, call, range(2, count)))
    killed: dict[int, str] = {}
    before = child(lambda: states(opened(conf), pool, count))
    for of in range(2, 2 + steps):
        if child(lambda of=of: calling(conf, pool, call, of, of - 1)) is None:  # type: ignore[misc]
            killed[of] = f"before call {of - 1}"
    for of in range(2 + steps, count):
        at = random.choices(range(steps), lasted_s)[0]
        after_s = random.uniform(0, lasted_s[at])
        if child(lambda of=of, at=at, after_s=after_s: calling(conf, pool, call, of, at + 1, after_s)) is None:  # type: ignore[misc]
            killed[of] = "at random"
    after = child(lambda: states(opened(conf), pool, count))
    left = child(lambda: mended(opened(conf), pool))
    last = child(lambda: states(opened(conf), pool, count))
    for of in range(count):
        print(json.dumps({"killed": killed.get(of, ""), "before": before[of], "after": after[of], "mended": last[of]}))
    print(json.dumps({"left": left}))


def mended(backend: Any, pool: str) -> list[list[str]]:
    """What is left over once Ceph has noticed who has died."""
    left: list[Any] = []

    def all_mended() -> bool:
        try:
            left[:] = backend.mend(pool)
        except Refused as error:
            left[:] = [error]
        return not left

    try:
        wait_for(all_mended, "the pool is mended", deadline_s=40)
    except TimeoutError:
        return [[str(each)] for each in left]
    return [[str(each)] for each in backend.leftovers(pool)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
