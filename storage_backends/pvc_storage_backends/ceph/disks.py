# SPDX-License-Identifier: Apache-2.0
"""disks: how a guest's disk is an image: libvirt's element, and the secret with which QEMU reaches the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

_V1, _V2 = "v1", "v2"


def disk_element(pool: str, volume: str, device: str, monitors: Sequence[str], user: str, secret: str) -> str:
    """The `<disk>`. monitors: each `host:port`. secret: the UUID of libvirt's secret with the user's key."""
    from lxml import etree  # not needed where PVC only loads its plugins

    disk = etree.Element("disk", type="network", device="disk")
    etree.SubElement(disk, "driver", name="qemu", type="raw", cache="none", discard="unmap")
    auth = etree.SubElement(disk, "auth", username=user)
    etree.SubElement(auth, "secret", type="ceph", uuid=secret)
    source = etree.SubElement(disk, "source", protocol="rbd", name=f"{pool}/{volume}")
    for monitor in monitors:
        host, _, port = monitor.rpartition(":")
        etree.SubElement(source, "host", name=host.strip("[]"), port=port)
    etree.SubElement(disk, "target", dev=device, bus="virtio")
    return etree.tostring(disk, encoding="unicode")


def secret_uuid(cluster_id: str, user: str) -> str:
    """The same on every host, and another one for each cluster and user."""
    return str(uuid5(UUID(cluster_id), f"client.{user}"))


def monitor_addresses(monmap: Mapping[str, Any]) -> list[str]:
    """`host:port` of each monitor: of the first version of the protocol where it has one, which any QEMU speaks."""
    found = []
    for monitor in monmap["mons"]:
        addresses = {each["type"]: each["addr"] for each in monitor["public_addrs"]["addrvec"]}
        found.append(addresses.get(_V1) or addresses[_V2])
    return found
