# SPDX-License-Identifier: Apache-2.0
"""rbd_guests: a Ceph cluster that the hosts of a lab reach, and what their guests have written to its images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvc_lab.ceph_cluster import CephCluster
    from pvc_lab.lab import Lab

POOL, MIB = "vms", 2**20


@contextmanager
def ceph_for_guests(lab: Lab, folder: Path) -> Iterator[CephCluster]:
    """On the address of the outside, which the hosts reach; with a pool, and a user for QEMU."""
    from pvc_lab.ceph_cluster import CephCluster
    from pvc_lab.network import OUTSIDE_ADDRESS

    with CephCluster(folder / "ceph", host=lab.network.address(OUTSIDE_ADDRESS)) as cluster:
        cluster.create_pool(POOL)
        cluster.create_user("guests", {"mon": "profile rbd", "osd": "profile rbd"})
        yield cluster
    cluster.remove()


def qemu_writes(domain: Any, device: str, letter: str) -> None:
    """The QEMU of a guest writes a block of this letter to one of its disks, and thereby has the image's lock."""
    import libvirt_qemu

    def command(words: str) -> str:
        said: str = libvirt_qemu.qemuMonitorCommand(domain, words, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
        return said

    blocks = command("info block")
    found = re.search(rf"Attached to:\s+(\S*/ua-pvc-{device}-\S+)", blocks)
    assert found, blocks
    for words in (f"write -P {ord(letter)} 0 4096", "flush"):
        said = command(f'qemu-io -d {found[1]} "{words}"')
        assert not re.search("conflict|error|fail", said, re.IGNORECASE), said


def content(backend: Any, volume: str) -> str:
    """The first letter in an image."""
    with backend.image(POOL, volume) as image:
        return str(image.read(0, 1).decode())
