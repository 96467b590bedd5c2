# SPDX-License-Identifier: Apache-2.0
"""lab_ceph: the lab's Ceph cluster: daemons on the machine of the services, a pool, users for PVC and for guests."""

from __future__ import annotations

import shutil
from pathlib import Path

from pvc_lab.ceph_cluster import CephCluster
from pvc_lab.ceph_keys import EVERYTHING
from pvc_lab.host import Host

POOL = "vms"
_MONITOR_PORT = 3300
_PVC, _GUESTS = "pvc", "guests"


class LabCeph:
    """One monitor, one manager and three OSDs. Their disks and logs stay in `folder` until the next start."""

    def __init__(self, folder: Path, machine: Host) -> None:
        self._folder = folder
        self._machine = machine
        self._cluster: CephCluster | None = None

    def start(self) -> None:
        """Start a cluster that holds nothing but an empty pool; on a machine that is on."""
        shutil.rmtree(self._folder, ignore_errors=True)
        cluster = CephCluster(self._folder, host=self._machine.address, port=_MONITOR_PORT, spawn=self._machine.spawn)
        cluster.start()
        self._cluster = cluster
        cluster.create_pool(POOL)
        cluster.create_user(_PVC, dict.fromkeys(("mon", "osd", "mgr"), EVERYTHING))
        cluster.create_user(_GUESTS, dict.fromkeys(("mon", "osd"), "profile rbd"))
        cluster.admin.stop()  # a program that leaves the lab running must not end with a connection

    def stop(self) -> None:
        """End the daemons that this program has started; those of another program end with the machine."""
        if self._cluster is not None:
            self._cluster.stop()
            self._cluster = None

    @property
    def cluster(self) -> CephCluster:
        """Raises `RuntimeError` if this program has not started one."""
        if self._cluster is None:
            raise RuntimeError("no Ceph cluster was started by this program")
        return self._cluster

    @property
    def configuration(self) -> str:
        """The section of a machine that uses it, in PVC's configuration file."""
        return (
            f'[plugin.ceph]\nconf = "{self._folder / "ceph.conf"}"\n'
            f'user = "{_PVC}"\nkeyring = "{self._folder / f"client.{_PVC}.keyring"}"\nguest_user = "{_GUESTS}"\n'
        )

    def fill(self, volume: str, source: Path) -> None:
        """Write a file to the beginning of a volume, as an installer does."""
        import rbd

        with self.cluster.admin.rados.open_ioctx(POOL) as ioctx, rbd.Image(ioctx, volume) as image:
            image.write(source.read_bytes(), 0)
