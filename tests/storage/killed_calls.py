# SPDX-License-Identifier: Apache-2.0
"""killed_calls: a call of the backend `directory` is killed (SIGKILL) before each change that it makes, in turn.

    python -m storage.killed_calls FOLDER CALL

prints a line of JSON for each time: what the pool held before, what it held after the kill and after it was mended,
and what is left over then. The last line is of a call that was left to end. A change is whatever Python tells its
audit hooks: files opened in the pool, renamed, linked, removed, and programs started. Each call runs in a fork of this
process, which has one thread.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from storage.directory_storage import POOL, open_backend

MIB = 2**20
NAMED = ("os.rename", "os.link", "os.remove", "subprocess.Popen")
CALLS: dict[str, Callable[[Any], object]] = {
    "create": lambda backend: backend.create_volume(POOL, "new", MIB),
    "rename": lambda backend: backend.rename_volume(POOL, "disk", "new"),
    "remove": lambda backend: backend.remove_volume(POOL, "bare"),
    "resize": lambda backend: backend.resize_volume(POOL, "disk", 3 * MIB),
    "clone": lambda backend: backend.clone_volume(POOL, "disk", "new"),
    "upload": lambda backend: backend.upload_volume(POOL, "disk", BytesIO(b"other" * 1000), lambda _: None),
    "snapshot": lambda backend: backend.create_snapshot(POOL, "disk", "third"),
    "snapshot-rename": lambda backend: backend.rename_snapshot(POOL, "disk", "first", "renamed"),
    "snapshot-protect": lambda backend: backend.protect_snapshot(POOL, "disk", "first", True),
    "snapshot-remove": lambda backend: backend.remove_snapshot(POOL, "disk", "first"),
    "snapshot-remove-last": lambda backend: backend.remove_snapshot(POOL, "disk", "second"),
    "roll-back": lambda backend: backend.roll_back(POOL, "disk", "second"),
}


def prepare(backend: Any) -> None:
    """A volume that has two snapshots and other contents in each, and one without."""
    backend.create_volume(POOL, "disk", 2 * MIB)
    for name in ("first", "second"):
        backend.upload_volume(POOL, "disk", BytesIO(name.encode() * 10_000), lambda _: None)
        backend.create_snapshot(POOL, "disk", name)
    backend.upload_volume(POOL, "disk", BytesIO(b"now"), lambda _: None)
    backend.create_volume(POOL, "bare", MIB)


def state(backend: Any) -> dict[str, Any]:
    """All that the pool holds, as its users see it."""
    return {volume.name: _volume(backend, volume) for volume in backend.volumes(POOL)}


def _volume(backend: Any, volume: Any) -> list[Any]:
    snapshots = [[each.name, each.size_bytes, each.protected] for each in backend.snapshots(POOL, volume.name)]
    held = BytesIO()
    backend.download_volume(POOL, volume.name, held, lambda _: None)
    return [volume.size_bytes, snapshots, sha256(held.getvalue()).hexdigest()]


def is_killed(folder: Path, call: str, at: int) -> bool:
    """Run the call in a process of its own that is killed before change `at`; False when it came to its end."""
    child = os.fork()
    if child == 0:
        seen = itertools.count(1)

        def kill(event: str, arguments: tuple[Any, ...]) -> None:
            in_pool = event == "open" and str(arguments[0]).startswith(str(folder))
            if (in_pool or event in NAMED) and next(seen) == at:
                os.kill(os.getpid(), signal.SIGKILL)

        backend = open_backend(folder)
        sys.addaudithook(kill)
        CALLS[call](backend)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{call} failed")
    return False


def main(root: Path, call: str) -> None:
    """Kill it before the first change, then before the second ..."""
    prepared = root / "prepared"
    prepared.mkdir()
    prepare(open_backend(prepared))
    for at in itertools.count(1):
        folder = root / f"at-{at}"
        shutil.copytree(prepared, folder)
        backend: Any = open_backend(folder)
        before = state(backend)
        killed = is_killed(folder, call, at)
        after = state(backend)
        backend.mend(POOL)
        left = [each.what for each in backend.leftovers(POOL)]
        print(json.dumps({"killed": killed, "before": before, "after": after, "mended": state(backend), "left": left}))
        if not killed:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
