# SPDX-License-Identifier: Apache-2.0
"""disk_xml: a definition and the disks of a VM's volumes become the domain that is started.

The definition stays as its author wrote it; what a storage backend says of a volume is looked at before it gets
anywhere near a hypervisor, and gets a mark by which the disk of a running guest is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lxml import etree

from pvc_core.domain_xml import read_document, read_domain
from pvc_core.errors import InvalidInput
from pvc_core.ports import Disk
from pvc_core.vm_volumes import MARK, VmVolume


def marked_disk(xml: str, volume: VmVolume) -> str:
    """A backend's `<disk>` element under the volume's mark. Raises `InvalidInput` for what is none for its device."""
    disk = _read_disk(xml)
    device = _disk(disk).device
    if device != volume.device:
        raise InvalidInput("disk", f"is for device {device} and not for {volume.device}")
    for alias in disk.findall("alias"):
        disk.remove(alias)
    etree.SubElement(disk, "alias", name=volume.mark)
    return etree.tostring(disk, encoding="unicode", with_tail=False)


def with_disks(definition: str, disks: Sequence[str]) -> str:
    """The definition with these disks after its own. Raises `InvalidInput` when two would be the same device."""
    if not disks:
        return definition
    domain = read_domain(definition)
    devices = domain.find("devices")
    if devices is None:
        devices = etree.SubElement(domain, "devices")
    for disk in map(_read_disk, disks):
        refuse_taken([_disk(own).device for own in devices.findall("disk")], [_disk(disk).device])
        devices.append(disk)
    return etree.tostring(domain.getroottree(), encoding="unicode")


def device_of(disk: str) -> str:
    """The guest's device that a `<disk>` element is."""
    return _disk(_read_disk(disk)).device


def refuse_taken(of_definition: Iterable[str], devices: Iterable[str]) -> None:
    """Raise `InvalidInput` when a volume is to be a device that the definition has itself."""
    for device in sorted(set(of_definition).intersection(devices)):
        raise InvalidInput("device", f"the definition has a disk {device} of its own", device)


def disks_in(domain: str) -> tuple[Disk, ...]:
    """The disks of a domain as its hypervisor describes it."""
    return tuple(_disk(element) for element in read_domain(domain).findall("devices/disk"))


def without_disk(domain: str, device: str) -> str:
    """The domain without the disks that are this device."""
    root = read_domain(domain)
    for devices in root.findall("devices"):
        for element in devices.findall("disk"):
            if _disk(element).device == device:
                devices.remove(element)
    return etree.tostring(root.getroottree(), encoding="unicode")


def marks_of(disks: Iterable[Disk]) -> dict[str, str]:
    """Marks of the volumes among the disks of a domain, with their devices."""
    return {disk.alias: disk.device for disk in disks if disk.alias.startswith(MARK)}


def _disk(element: etree._Element) -> Disk:
    alias, target = element.find("alias"), element.find("target")
    return Disk(
        device="" if target is None else target.get("dev", ""), alias="" if alias is None else alias.get("name", "")
    )


def _read_disk(xml: str) -> etree._Element:
    disk = read_document(xml, "disk")
    if disk.tag != "disk":
        raise InvalidInput("disk", "is not one: its root element must be <disk>", str(disk.tag)[:80])
    if not _disk(disk).device:
        raise InvalidInput("disk", "has no target device")
    return disk
