# SPDX-License-Identifier: Apache-2.0
"""With two of three monitors gone every call of the backend `ceph` ends in time, and works again once one is back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pvc_core.errors import PvcError, StorageUnavailable
from pvc_lab.waiting import wait_for
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.options import Options

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster

pytestmark = pytest.mark.ceph

MIB = 2**20
TIMEOUT_S = 1.0
BOUND_S = 12 * TIMEOUT_S
"""What a call that asks several things may take."""
POOL = "vms"
NEEDS_MONITORS: dict[str, Callable[[Any], object]] = {
    "pools": lambda backend: backend.pools(),
    "usage": lambda backend: backend.usage(POOL),
    "create": lambda backend: backend.create_volume(POOL, "new", MIB),
    "clone": lambda backend: backend.clone_volume(POOL, "disk", "new"),
    "resize": lambda backend: backend.resize_volume(POOL, "disk", 2 * MIB),
    "snapshot": lambda backend: backend.create_snapshot(POOL, "disk", "new"),
    "disk-xml": lambda backend: backend.disk_xml(POOL, "disk", "vda"),
    "secrets": lambda backend: backend.host_secrets(),
    "remove": lambda backend: backend.remove_volume(POOL, "disk"),
    "roll-back": lambda backend: backend.roll_back(POOL, "disk", "then"),
    "upload": lambda backend: backend.upload_volume(POOL, "disk", BytesIO(b"new"), lambda _: None),
}
"""Calls that cannot be done without a quorum, or are not begun because it could not be told who uses what."""
NEEDS_OSDS: dict[str, Callable[[Any], object]] = {
    "volumes": lambda backend: backend.volumes(POOL),
    "volume": lambda backend: backend.volume(POOL, "disk"),
    "snapshots": lambda backend: backend.snapshots(POOL, "disk"),
    "download": lambda backend: backend.download_volume(POOL, "disk", BytesIO(), lambda _: None),
    "leftovers": lambda backend: backend.leftovers(POOL),
}
"""What the OSDs alone can do for a client that is connected; they do it, or it is told that the storage is away."""


@pytest.fixture
def cluster(tmp_path: Path, require: Callable[[str], None]) -> Iterator[CephCluster]:
    require("ceph")
    from pvc_lab.ceph_cluster import CephCluster

    with CephCluster(tmp_path / "ceph", osds=1, mons=3) as made:
        made.create_pool(POOL)
        yield made
    made.remove()


def opened(cluster: CephCluster) -> CephBackend:
    return CephBackend("", Options(conf=str(cluster.conf_path), timeout_s=TIMEOUT_S))


def quorum_of(cluster: CephCluster) -> list[int]:
    """As the first monitor has it, which for ten seconds answers as if nothing had happened."""
    socket = cluster.folder / f"{cluster.monitor_names[0]}.asok"
    said = subprocess.run(
        ["ceph", "--admin-daemon", str(socket), "mon_status"], capture_output=True, text=True, check=True
    ).stdout
    found: list[int] = json.loads(said)["quorum"]
    return found


def outcome(call: Callable[[Any], object], backend: CephBackend) -> tuple[PvcError | None, float]:
    """How a call ended, and after how many seconds."""
    began_s = time.monotonic()
    try:
        call(backend)
    except PvcError as error:
        return error, time.monotonic() - began_s
    return None, time.monotonic() - began_s


def test_without_quorum_every_call_ends_in_time_on_an_old_connection_and_a_new_one(cluster: CephCluster) -> None:
    old = opened(cluster)
    old.create_volume(POOL, "disk", MIB)
    old.create_snapshot(POOL, "disk", "then")
    assert old.health().usable
    for monitor in cluster.monitor_names[1:]:
        cluster.kill(monitor)
    wait_for(lambda: not quorum_of(cluster), "the monitor that is left has noticed", deadline_s=60)
    for backend in (old, opened(cluster)):
        for name, call in NEEDS_MONITORS.items():
            error, lasted_s = outcome(call, backend)
            assert isinstance(error, StorageUnavailable), f"{name}: {error!r}"
            assert lasted_s < BOUND_S, f"{name} took {lasted_s} s"
        for name, call in NEEDS_OSDS.items():
            error, lasted_s = outcome(call, backend)
            assert error is None or isinstance(error, StorageUnavailable), f"{name}: {error!r}"
            assert lasted_s < BOUND_S, f"{name} took {lasted_s} s"
        health = backend.health()
        assert not health.usable
        assert health.detail
        if backend is not old:
            backend.close()

    cluster.launch(cluster.monitor_names[1])
    wait_for(lambda: old.health().usable, "the quorum is there again", deadline_s=60)
    old.call_s = 1.0
    wait_for(lambda: outcome(lambda backend: backend.mend(POOL), old)[0] is None, "the pool is mended", deadline_s=60)
    assert old.leftovers(POOL) == ()
    assert [(volume.name, volume.size_bytes) for volume in old.volumes(POOL)] == [("disk", MIB)]
    old.clone_volume(POOL, "disk", "new")
    old.close()
