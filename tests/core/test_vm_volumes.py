# SPDX-License-Identifier: Apache-2.0
"""vm_volumes and disk_xml: what a record says of a VM's volumes, and the domain that they and a definition make."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pvc_core import layout
from pvc_core.codec import decode, encode
from pvc_core.disk_xml import disks_in, marked_disk, marks_of, with_disks
from pvc_core.errors import InvalidInput
from pvc_core.model import VmRecord
from pvc_core.ports import Entry
from pvc_core.store_keys import check_key
from pvc_core.testing.builders import a_vm
from pvc_core.vm_volumes import VmVolume, check_device, claim_key, free_device

DEFINITION = """<domain>
  <name>web1</name><memory unit='MiB'>64</memory>
  <devices><disk type='file' device='disk'><source file='/a'/><target dev='vda'/></disk><serial type='pty'/></devices>
</domain>"""


def volume(device: str = "vdb", name: str = "data", **more: str) -> VmVolume:
    return VmVolume(device=device, backend="memory", pool="vms", name=name, **{"id": "1234", **more})


def disk(device: str = "vdb", inside: str = "") -> str:
    return f"<disk type='network'><source protocol='rbd' name='vms/data'/><target dev='{device}'/>{inside}</disk>"


# ------------------------------------------------------------------------------------------------ the record


def test_a_record_without_volumes_is_one_of_an_older_version() -> None:
    older = {name: value for name, value in msgspec.to_builtins(a_vm()).items() if name != "volumes"}
    assert decode(Entry("/vms/x", msgspec.json.encode(older), 0), VmRecord).value.volumes == ()


def test_what_a_newer_version_says_of_a_volume_is_kept_while_others_come_and_go() -> None:
    plain = msgspec.to_builtins(a_vm(volumes=(volume("vdb"), volume("vdc", "logs"))))
    plain["volumes"][1]["cache"] = "none"
    stored = decode(Entry("/vms/x", msgspec.json.encode(plain), 0), VmRecord)
    kept = (volume("vdd", "more"), stored.value.volumes[1])
    again = msgspec.json.decode(encode(msgspec.structs.replace(stored.value, volumes=kept), stored.data))
    assert again["volumes"] == [msgspec.to_builtins(volume("vdd", "more")), plain["volumes"][1]]


NAMES = st.text(min_size=1, max_size=20)


@given(NAMES, NAMES, NAMES, NAMES)
def test_every_volume_has_a_key_of_its_own_that_any_store_takes(pool: str, name: str, other: str, node: str) -> None:
    key = claim_key(VmVolume(device="vda", backend="b", pool=pool, name=name))
    check_key(key)
    assert key.rpartition("/")[0] == layout.VOLUMES
    for differing in ({"pool": pool + other}, {"name": name + other}, {"node": node}, {"backend": "b" + other}):
        fields = {"device": "vda", "backend": "b", "pool": pool, "name": name, **differing}
        assert claim_key(VmVolume(**fields)) != key


@pytest.mark.parametrize("device", ["vda", "vdz", "vdaa", "vdzz"])
def test_disks_are_called_as_the_guest_calls_them(device: str) -> None:
    check_device(device)


@pytest.mark.parametrize("device", ["", "vd", "sda", "vdA", "vd1", "vdaaa", "vda\n", " vda", "../vda"])
def test_another_name_of_a_disk_is_refused_with_those_that_are(device: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_device(device)
    assert (caught.value.field, caught.value.allowed) == ("device", ("vda to vdz, then vdaa to vdzz",))


def test_the_first_free_device_fills_a_gap_and_goes_on_with_two_letters() -> None:
    assert free_device([]) == "vda"
    assert free_device(["vda", "vdc"]) == "vdb"
    assert free_device([f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]) == "vdaa"


# ------------------------------------------------------------------------------------------- the domain


def test_disks_come_after_those_of_the_definition_and_nothing_else_changes() -> None:
    composed = with_disks(DEFINITION, [marked_disk(disk("vdb"), volume()), marked_disk(disk("vdc"), volume("vdc"))])
    devices = etree.fromstring(composed).find("devices")
    assert devices is not None
    assert [target.get("dev") for target in devices.findall("disk/target")] == ["vda", "vdb", "vdc"]
    for added in devices.findall("disk")[1:]:
        devices.remove(added)
    original = etree.fromstring(DEFINITION).find("devices")
    assert original is not None
    assert etree.tostring(devices) == etree.tostring(original)


def test_a_definition_without_volumes_stays_as_it_was_written() -> None:
    assert with_disks(DEFINITION, []) is DEFINITION


def test_a_definition_without_devices_gets_them() -> None:
    composed = with_disks("<domain><name>x</name></domain>", [marked_disk(disk(), volume())])
    assert etree.fromstring(composed).find("devices/disk/target[@dev='vdb']") is not None


@pytest.mark.parametrize("devices", [["vda"], ["vdb", "vdb"]])
def test_two_disks_are_never_the_same_device(devices: list[str]) -> None:
    with pytest.raises(InvalidInput, match=f"has a disk {devices[-1]} of its own"):
        with_disks(DEFINITION, [marked_disk(disk(device), volume(device)) for device in devices])


def test_a_volume_is_known_by_its_mark_among_the_disks_of_a_domain() -> None:
    added = marked_disk(disk("vdb", "<alias name='virtio-disk7'/>"), volume())
    assert marks_of(disks_in(with_disks(DEFINITION, [added]))) == {"ua-pvc-vdb-1234": "vdb"}


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        ("", "well-formed"),
        ("<disk>", "well-formed"),
        ("<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><disk>&y;</disk>", "document type"),
        ("<interface><target dev='vdb'/></interface>", "its root element must be <disk>"),
        ("<disk/>", "has no target device"),
        (disk("vdc"), "for device vdc and not for vdb"),
    ],
)
def test_what_a_backend_says_is_refused_when_it_is_no_disk_for_the_device(xml: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        marked_disk(xml, volume())
