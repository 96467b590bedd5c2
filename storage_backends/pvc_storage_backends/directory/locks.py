# SPDX-License-Identifier: Apache-2.0
"""locks: who may work on a volume now, among all threads, processes and hosts that have the pool's folder.

One file of the pool is locked byte by byte: a byte for each volume's name, and one that repairing a pool takes for
itself alone. Locks of an open file (not of a process) end with it, however it ends, and NFS has them as well.
The images themselves are left to QEMU, which locks them in its own way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from pvc_core.errors import Refused

PATIENCE_S = 20.0
"""How long a call waits for another one that works on the same volume."""
FIRST_LOOK_S, LONGEST_LOOK_S = 0.002, 0.1
REPAIR_BYTE = 0
NAME_BYTES = 2**40
_BUSY = (errno.EAGAIN, errno.EACCES)


@contextmanager
def locked(file: Path, *names: str, reading: Collection[str] = (), patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Nobody else has these volumes meanwhile, nor repairs the pool. reading: those that others may read as well.

    Raises `Refused` when somebody else has had one of them all the time.
    """
    wanted = {byte_of(name): (name, fcntl.F_RDLCK) for name in reading}
    wanted |= {byte_of(name): (name, fcntl.F_WRLCK) for name in names}
    with _opened(file) as descriptor:
        end_s = time.monotonic() + patience_s
        _take(descriptor, REPAIR_BYTE, fcntl.F_RDLCK, end_s, f"the pool of {file.parent}")
        for byte in sorted(wanted):  # in one order everywhere, so that two never wait for one another
            name, kind = wanted[byte]
            _take(descriptor, byte, kind, end_s, f"volume {name}")
        yield


@contextmanager
def repairing(file: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Nobody works on any volume of the pool meanwhile. Raises `Refused` when somebody does all the time."""
    with _opened(file) as descriptor:
        _take(descriptor, REPAIR_BYTE, fcntl.F_WRLCK, time.monotonic() + patience_s, f"the pool of {file.parent}")
        yield


def byte_of(name: str) -> int:
    """The byte that is locked for a volume. That two names may share one costs nothing but waiting."""
    return 1 + int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) % NAME_BYTES


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, byte: int, kind: int, end_s: float, what: str) -> None:
    pause_s = FIRST_LOOK_S
    while True:
        try:
            # struct flock: type, whence, start, length, process
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("@hhqqi4x", kind, os.SEEK_SET, byte, 1, 0))
        except OSError as error:
            if error.errno not in _BUSY:
                raise
        else:
            return
        if time.monotonic() + pause_s > end_s:
            raise Refused(what, "something else is being done with it; try again later")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_LOOK_S)
