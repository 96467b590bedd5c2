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
from pvc_core.vm_volumes import MARK, VmVolume


def marked_disk(xml: str, volume: VmVolume) -> str:
    """A backend's `<disk>` element under the volume's mark. Raises `InvalidInput` for what is none for its device."""
    disk = read_document(xml, "disk")
    if disk.tag != "disk":
        raise InvalidInput("disk", "is not one: its root element must be <disk>", str(disk.tag)[:80])
    target = disk.find("target")
    device = "" if target is None else target.get("dev", "")
    if device != volume.device:
        raise InvalidInput("disk", f"is for device {device or '(none)'} and not for {volume.device}")
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
    for xml in disks:
        disk = read_document(xml, "disk")
        refuse_taken(_targets(devices.findall("disk")), [device_of(xml)])
        devices.append(disk)
    return etree.tostring(domain.getroottree(), encoding="unicode")


def device_of(disk: str) -> str:
    """The guest's device that a `<disk>` element is."""
    return next(iter(_targets([read_document(disk, "disk")])), "")


def refuse_taken(of_definition: Iterable[str], devices: Iterable[str]) -> None:
    """Raise `InvalidInput` when a volume is to be a device that the definition has itself."""
    for device in sorted(set(of_definition).intersection(devices)):
        raise InvalidInput("device", f"the definition has a disk {device} of its own", device)


def marks_in(domain: str) -> dict[str, str]:
    """Marks of the volumes among the disks of a domain as its hypervisor describes it, with their devices."""
    found = {}
    for disk in read_domain(domain).findall("devices/disk"):
        alias, target = disk.find("alias"), disk.find("target")
        mark = "" if alias is None else alias.get("name", "")
        if mark.startswith(MARK):
            found[mark] = "" if target is None else target.get("dev", "")
    return found


def _targets(disks: Iterable[etree._Element]) -> list[str]:
    targets = [disk.find("target") for disk in disks]
    return [target.get("dev", "") for target in targets if target is not None]
