# SPDX-License-Identifier: Apache-2.0
"""users: which processes of this host have an image open, in words for the person who is refused."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

_GUEST = re.compile(r"(?:^|,)guest=([^,]+)")
PROCESSES = Path("/proc")


def users_of(image: Path, processes: Path = PROCESSES) -> str:
    """Such as "VM web1" or "qemu-nbd (process 4711)"; "" when nobody of this host has it, as far as may be seen."""
    try:
        wanted = os.stat(image)
    except FileNotFoundError:
        return ""
    found = {
        _called(process)
        for process in processes.glob("[0-9]*")
        if process.name != str(os.getpid())
        and any((each.st_dev, each.st_ino) == (wanted.st_dev, wanted.st_ino) for each in _opened_by(process))
    }
    return " and ".join(sorted(found))


def _opened_by(process: Path) -> list[os.stat_result]:
    found = []
    try:
        descriptors = os.listdir(process / "fd")
    except OSError:
        return []  # it has ended, or belongs to another user
    for descriptor in descriptors:
        with suppress(OSError):  # closed meanwhile
            found.append(os.stat(process / "fd" / descriptor))
    return found


def _called(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return f"process {process.name}"
    for option, value in pairwise(words):
        if option == "-name":
            guest = _GUEST.search(value)
            return f"VM {guest[1] if guest else value.partition(',')[0]}"
    return f"{os.path.basename(words[0])} (process {process.name})"
