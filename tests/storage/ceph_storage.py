# SPDX-License-Identifier: Apache-2.0
"""A Ceph cluster on an address that another network namespace reaches, which so is a host of its own to Ceph."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

from pvc_core import PluginOptions, StorageBackend
from pvc_lab.ceph_cluster import CephCluster
from pvc_storage_backends.ceph.options import Options

T = TypeVar("T")

HERE_ADDRESS, THERE_ADDRESS = "10.78.13.1", "10.78.13.2"
"""Of this host, where the cluster is, and of the namespace."""


class Elsewhere:
    """A network namespace with a cable to this one."""

    def __init__(self) -> None:
        self.name = f"pvc-ceph-{uuid4().hex[:6]}"
        self._link = f"pvc{uuid4().hex[:8]}"

    def start(self) -> None:
        """Make it."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("address", "add", f"{HERE_ADDRESS}/24", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self.name, "address", "add", f"{THERE_ADDRESS}/24", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")

    def stop(self) -> None:
        """Take it away, with its cable."""
        subprocess.run(["ip", "link", "delete", self._link], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def run(self, call: Callable[[], T]) -> T:
        """Call it there: whatever connections it makes come from there."""
        from pyroute2 import netns

        def called() -> T:
            netns.setns(self.name)
            return call()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(called).result()

    def seen(self, backend: StorageBackend) -> StorageBackend:
        """The backend, as if the process that has it ran there."""
        return cast(StorageBackend, _Seen(self, backend))


class _Seen:
    def __init__(self, elsewhere: Elsewhere, backend: object) -> None:
        self._elsewhere, self._backend = elsewhere, backend

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if not callable(found):
            return found
        return lambda *arguments: self._elsewhere.run(lambda: found(*arguments))


@contextmanager
def cluster_and_elsewhere(folder: Path) -> Iterator[tuple[CephCluster, Elsewhere]]:
    """Both, for a while."""
    elsewhere = Elsewhere()
    try:
        elsewhere.start()
        with CephCluster(folder, host=HERE_ADDRESS) as cluster:
            yield cluster, elsewhere
        cluster.remove()
    finally:
        elsewhere.stop()


def options(cluster: CephCluster, **more: Any) -> PluginOptions:
    """What is configured for a machine that uses this cluster."""
    return PluginOptions(machine=Options(conf=str(cluster.conf_path), **more))


@contextmanager
def opened_by_a_guest(cluster: CephCluster, pool: str, volume: str) -> Iterator[Any]:
    """As long as this lasts, somebody has the image open as QEMU has: for writing, with its lock."""
    import rbd

    with cluster.admin.rados.open_ioctx(pool) as ioctx, rbd.Image(ioctx, volume) as image:
        yield image


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
