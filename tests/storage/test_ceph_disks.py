# SPDX-License-Identifier: Apache-2.0
"""A disk of the backend `ceph` opens in QEMU with what its element and the host's secret say, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from io import BytesIO

import pytest
from lxml import etree

from pvc_core.storage import KeepsHostSecrets
from pvc_lab.ceph_cluster import CephCluster
from pvc_lab.waiting import wait_for
from pvc_storage_backends.ceph.backend import CephBackend
from pvc_storage_backends.ceph.disks import disk_element, monitor_addresses, secret_uuid
from pvc_storage_backends.ceph.users import watchers
from storage.ceph_storage import options

MIB = 2**20


@pytest.fixture
def backend(ceph_cluster: CephCluster, ceph_pool: str) -> Iterator[CephBackend]:
    ceph_cluster.create_user("disks", {"mon": "profile rbd", "osd": "profile rbd"})
    backend = CephBackend("hv1", options(ceph_cluster, guest_user="disks").machine)
    backend.create_volume(ceph_pool, "disk", 8 * MIB)
    yield backend
    backend.close()


@pytest.mark.ceph
def test_qemu_opens_the_disk_as_the_guests_user(backend: CephBackend, ceph_pool: str) -> None:
    url = url_of(backend, ceph_pool, "disk")
    assert "virtual size: 8 MiB" in qemu("qemu-img", "info", url)
    qemu("qemu-io", "-f", "raw", "-c", "write -P 7 0 4096", url)
    held = BytesIO()
    backend.download_volume(ceph_pool, "disk", held, lambda _: None)
    assert held.getvalue()[:4097] == b"\x07" * 4096 + b"\0"


@pytest.mark.ceph
def test_a_guest_that_has_the_disk_is_seen(backend: CephBackend, ceph_pool: str) -> None:
    drive = f"file={url_of(backend, ceph_pool, 'disk')},format=raw,if=virtio"
    guest = subprocess.Popen(
        ["qemu-system-x86_64", "-S", "-m", "16", "-display", "none", "-nodefaults", "-drive", drive],
        stderr=subprocess.PIPE,
    )

    def is_seen() -> bool:
        assert guest.poll() is None, guest.stderr and guest.stderr.read()
        with backend.image(ceph_pool, "disk") as image:
            return len(watchers(image)) == 1

    try:
        wait_for(is_seen, "the guest is seen")
    finally:
        guest.kill()
        guest.communicate()


@pytest.mark.ceph
def test_the_secret_that_disks_name_is_the_one_of_the_host(backend: CephBackend, ceph_pool: str) -> None:
    assert isinstance(backend, KeepsHostSecrets)
    (secret,) = backend.host_secrets()
    disk = etree.fromstring(backend.disk_xml(ceph_pool, "disk", "vda"))
    assert disk.xpath("auth/secret/@uuid") == [secret.uuid]
    assert disk.xpath("auth/@username") == ["disks"]
    assert secret.key not in repr(secret), "the key shows in a log"


def test_a_secret_is_another_one_for_each_cluster_and_user() -> None:
    one, other = "0d5cbd89-70f4-4fe0-b882-2ff19059a799", "fbc42aa2-067d-4d61-9d69-19b23d91ad7a"
    assert len({secret_uuid(cluster, user) for cluster in (one, other) for user in ("a", "b")}) == 4
    assert secret_uuid(one, "a") == secret_uuid(one, "a")


def test_every_monitor_is_named_by_the_protocol_that_any_qemu_speaks() -> None:
    both = {"addrvec": [{"type": "v2", "addr": "10.0.0.1:3300"}, {"type": "v1", "addr": "10.0.0.1:6789"}]}
    new = {"addrvec": [{"type": "v2", "addr": "[fd00::2]:3300"}]}
    monitors = monitor_addresses({"mons": [{"public_addrs": both}, {"public_addrs": new}]})
    disk = etree.fromstring(disk_element("vms", "a", "vda", monitors, "vm", "uuid"))
    assert [(host.get("name"), host.get("port")) for host in disk.iter("host")] == [
        ("10.0.0.1", "6789"),
        ("fd00::2", "3300"),
    ]


def url_of(backend: CephBackend, pool: str, volume: str) -> str:
    """QEMU's name of a disk, made of what libvirt would be told and of nothing else."""
    disk = etree.fromstring(backend.disk_xml(pool, volume, "vda"))
    (secret,) = backend.host_secrets()
    (user,) = disk.xpath("auth/@username")
    (name,) = disk.xpath("source/@name")
    hosts = "\\;".join(f"{host.get('name')}\\:{host.get('port')}" for host in disk.iter("host"))
    return f"rbd:{name}:id={user}:key={secret.key}:auth_supported=cephx:mon_host={hosts}:conf=/dev/null"


def qemu(*command: str) -> str:
    """What a program of QEMU's prints; it must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout
