# SPDX-License-Identifier: Apache-2.0
"""A Ceph cluster on an address that another network namespace reaches, which so is a host of its own to Ceph.

The network is a lab's, on a subnet that nobody else has: two runs of the tests may meet on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar, cast

from pvc_core import PluginOptions, StorageBackend
from pvc_lab.ceph_cluster import CephCluster
from pvc_lab.leftovers import ANY_LAB
from pvc_lab.network import OUTSIDE_ADDRESS, Network
from pvc_storage_backends.ceph.options import Options

T = TypeVar("T")


class Elsewhere:
    """The inside of another host on a lab's network, which is plugged in."""

    NAME, _NUMBER = "hv2", 2

    def __init__(self, network: Network) -> None:
        self._namespace = network.namespace(self.NAME)
        self.here_address = network.address(OUTSIDE_ADDRESS)
        """Of this host, where the cluster is."""
        self.address = network.address(self._NUMBER)
        """Of the other one."""
        network.plug_in(self.NAME, self._NUMBER)

    def run(self, call: Callable[[], T]) -> T:
        """Call it there: whatever connections it makes come from there."""
        from pyroute2 import netns

        def called() -> T:
            netns.setns(self._namespace)
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
    network = Network(f"{ANY_LAB}{token_hex(3)}", folder)
    try:
        network.up()
        elsewhere = Elsewhere(network)
        with CephCluster(folder, host=elsewhere.here_address) as cluster:
            yield cluster, elsewhere
        cluster.remove()
    finally:
        network.down()


def options(cluster: CephCluster, **more: Any) -> PluginOptions:
    """What is configured for a machine that uses this cluster."""
    return PluginOptions(machine=Options(conf=str(cluster.conf_path), **more))


@contextmanager
def opened_by_a_guest(cluster: CephCluster, pool: str, volume: str) -> Iterator[Any]:
    """As long as this lasts, somebody has the image open as QEMU has: for writing, with its lock."""
    import rbd

    with cluster.admin.rados.open_ioctx(pool) as ioctx, rbd.Image(ioctx, volume) as image:
        yield image
