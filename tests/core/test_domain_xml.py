# SPDX-License-Identifier: Apache-2.0
"""domain_xml: what is read from a definition, what is refused, and what a rename leaves alone."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pvc_core.domain_xml import (
    MAX_DEFINITION_BYTES,
    DiskDefinition,
    DomainDefinition,
    InterfaceDefinition,
    canonical_uuid,
    check_vm_name,
    parse_domain,
    with_identity,
)
from pvc_core.errors import InvalidInput

UUID = "6f1c2f8e-0d1b-4c3a-9a55-2d1f0a7be111"
OTHER_UUID = "00000000-1111-2222-3333-444444444444"

FULL = f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- written by hand -->
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web1</name>
  <uuid>{UUID.upper()}</uuid>
  <metadata><a:b xmlns:a='urn:x'><name>web1</name><uuid>{UUID}</uuid></a:b></metadata>
  <memory unit='MiB'>512</memory>
  <currentMemory unit='MiB'>256</currentMemory>
  <vcpu placement='static' current='1'>4</vcpu>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
  <devices>
    <!-- two disks -->
    <disk type='file' device='disk'>
      <source file='/var/lib/vms/web1/web1.qcow2'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='vms/web1_data'><host name='mon1'/></source><target dev='vdb'/>
    </disk>
    <disk type='volume'><source pool='default' volume='web1'/><target dev='vdc'/></disk>
    <disk type='block' device='lun'><source dev='/dev/sdb'/><target dev='sda'/></disk>
    <disk device='cdrom'><target dev='hda'/></disk>
    <interface type='bridge'><mac address='52:54:00:AA:bb:cc'/><source bridge='br0'/><model type='virtio'/></interface>
    <interface type='network'><source network='default' portgroup='p'/></interface>
    <interface type='user'/>
  </devices>
  <?keep this?>
</domain>
"""


unhurried = settings(deadline=None)  # a time per example would only measure the machine


def definition(**replaced: str) -> str:
    """A small definition; a keyword replaces that whole element."""
    parts = {"name": "<name>web1</name>", "uuid": "", "memory": "<memory>1024</memory>", "vcpu": "<vcpu>1</vcpu>"}
    return f"<domain type='qemu'>{''.join((parts | replaced).values())}</domain>"


def _canonical(xml: str) -> bytes:
    return etree.tostring(etree.fromstring(xml.encode()).getroottree(), method="c14n", with_comments=True)


def refusal(xml: str) -> str:
    """The sentence with which a definition is refused."""
    with pytest.raises(InvalidInput) as caught:
        parse_domain(xml)
    assert caught.value.field == "definition"
    return caught.value.sentence()


def test_everything_pvc_needs_is_read() -> None:
    assert parse_domain(FULL) == DomainDefinition(
        uuid=UUID,
        name="web1",
        memory_mib=512,
        vcpus=4,
        disks=(
            DiskDefinition("vda", "/var/lib/vms/web1/web1.qcow2", "file", "disk"),
            DiskDefinition("vdb", "rbd:vms/web1_data", "network", "disk"),
            DiskDefinition("vdc", "default/web1", "volume", "disk"),
            DiskDefinition("sda", "/dev/sdb", "block", "lun"),
            DiskDefinition("hda", "", "file", "cdrom"),
        ),
        interfaces=(
            InterfaceDefinition("52:54:00:aa:bb:cc", "br0", "bridge", "virtio"),
            InterfaceDefinition("", "default", "network", ""),
            InterfaceDefinition("", "", "user", ""),
        ),
        has_storage=True,
    )


def test_uuid_and_vcpus_may_be_missing() -> None:
    read = parse_domain("<domain><name>web1</name><uuid/><memory>1</memory></domain>")
    assert (read.uuid, read.vcpus, read.memory_mib) == (None, 1, 1)


@pytest.mark.parametrize(
    ("text", "unit", "memory_mib"),
    [
        ("1048576", "b", 1),
        ("1048577", "bytes", 2),
        ("1", "byte", 1),
        ("1000", "KB", 1),
        ("1049", "KB", 2),
        ("2048", "k", 2),
        ("2049", "KiB", 3),
        ("2048", None, 2),
        ("1", "MB", 1),
        ("100", "MB", 96),
        ("7", "M", 7),
        ("7", "MiB", 7),
        ("1", "GB", 954),
        ("1", "G", 1024),
        ("2", "GiB", 2048),
        ("1", "TB", 953675),
        ("1", "T", 1024**2),
        ("1", "tib", 1024**2),
        ("1", "PiB", 1024**3),
        ("1", "EiB", 1024**4),
        (" +0016\n", "mib", 16),
    ],
)
def test_memory_in_every_unit_of_libvirt_is_rounded_up(text: str, unit: str | None, memory_mib: int) -> None:
    attribute = "" if unit is None else f" unit='{unit}'"
    assert parse_domain(definition(memory=f"<memory{attribute}>{text}</memory>")).memory_mib == memory_mib


@unhurried
@given(st.integers(1, 2**50))
def test_rounding_up_never_loses_a_byte_nor_adds_a_mib(size_bytes: int) -> None:
    read = parse_domain(definition(memory=f"<memory unit='b'>{size_bytes}</memory>"))
    assert read.memory_mib == math.ceil(size_bytes / 1024**2)


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("", "not well-formed XML: Document is empty, line 1"),
        ("no xml at all", "line 1"),
        ("<domain>\n<name>web1\n</domain>", "line 3"),
        ("<domain><name>\x00</name></domain>", "not well-formed"),
        ("<domain><name>\ud800</name></domain>", "not text"),
        ("<domain>" + "<d>" * 500 + "</d>" * 500 + "</domain>", "not well-formed"),
        ("<network><name>web1</name></network>", "root element must be <domain>"),
        ("<domain xmlns='urn:x'><name>web1</name></domain>", "root element must be <domain>"),
        (definition(name=""), "no <name>"),
        (definition(name="<name>  </name>"), "no <name>"),
        (definition(name="<os><name>web1</name></os>"), "no <name>"),
        (definition(name="<name>a</name><name>b</name>"), "more than one <name>"),
        (definition(name="<name><b>a</b></name>"), "elements inside <name>"),
        (definition(name="<name>two words</name>"), "not acceptable as the name of a VM (allowed: 1 to 64"),
        (definition(name="<name>../etc</name>"), "not acceptable"),
        (definition(name="<name>-x</name>"), "not acceptable"),
        (definition(name=f"<name>{'x' * 65}</name>"), "not acceptable"),
        (definition(name=f"<name>{UUID}</name>"), "looks like a UUID"),
        (definition(uuid="<uuid>12345</uuid>"), "'12345': is not a UUID"),
        (definition(uuid=f"<uuid>{{{UUID}}}</uuid>"), "is not a UUID"),
        (definition(uuid=f"<uuid>{UUID}</uuid><uuid>{UUID}</uuid>"), "more than one <uuid>"),
        (definition(memory=""), "no <memory>"),
        (definition(memory="<memory/>"), "no <memory>"),
        (definition(memory="<memory>0</memory>"), "memory of 0"),
        (definition(memory="<memory>-1</memory>"), "memory that is not a whole number"),
        (definition(memory="<memory>1.5</memory>"), "memory that is not a whole number"),
        (definition(memory="<memory>1 2</memory>"), "memory that is not a whole number"),
        (definition(memory="<memory>\u0663</memory>"), "memory that is not a whole number"),
        (definition(memory=f"<memory>{'9' * 5000}</memory>"), "beyond all bounds"),
        (definition(memory="<memory unit='EiB'>8</memory>"), "beyond all bounds"),
        (
            definition(memory="<memory unit='furlong'>1</memory>"),
            "'furlong': has an unknown unit of memory (allowed: b,",
        ),
        (definition(memory="<memory unit='ki'>1</memory>"), "unknown unit"),
        (definition(vcpu="<vcpu>0</vcpu>"), "number of vCPUs of 0"),
        (definition(vcpu="<vcpu>-2</vcpu>"), "number of vCPUs that is not a whole number"),
        (definition(vcpu="<vcpu>two</vcpu>"), "number of vCPUs that is not a whole number"),
        (definition(vcpu="<vcpu>70000</vcpu>"), "beyond all bounds"),
    ],
)
def test_a_bad_definition_is_refused_with_what_is_wrong(xml: str, said: str) -> None:
    assert said in refusal(xml)


@pytest.mark.parametrize(
    "dtd",
    [
        "<!DOCTYPE domain [<!ENTITY n 'web1'>]>",
        "<!DOCTYPE domain SYSTEM 'http://example.org/x.dtd'>",
        "\n<!-- hi --><?pi?><!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
        "<!DOCTYPE d [<!ENTITY a '" + "x" * 1000 + "'><!ENTITY b '" + "&a;" * 1000 + "'>]>",
    ],
)
def test_a_document_type_declaration_is_refused_before_anything_is_expanded(dtd: str) -> None:
    assert "document type declaration" in refusal(f"{dtd}<domain><name>&n;&b;</name></domain>")


def test_the_words_of_a_dtd_inside_the_document_are_just_text() -> None:
    assert parse_domain(definition(uuid="<!-- <!DOCTYPE x> --><description><![CDATA[<!DOCTYPE x>]]></description>"))


def test_an_undefined_entity_is_refused() -> None:
    assert "Entity 'lol' not defined" in refusal(definition(name="<name>&lol;</name>"))


def test_a_definition_over_the_limit_is_refused_by_its_size_in_bytes() -> None:
    padding = "é" * (MAX_DEFINITION_BYTES // 2)
    assert "too large" in refusal(definition(uuid=f"<!--{padding}-->"))
    small = definition(uuid="<!---->")
    exactly = definition(uuid=f"<!--{'x' * (MAX_DEFINITION_BYTES - len(small))}-->")
    assert parse_domain(exactly).name == "web1"


def test_a_rename_that_makes_the_definition_too_large_is_refused() -> None:
    small = definition(uuid=f"<uuid>{UUID}</uuid><!---->")
    full = small.replace("<!---->", f"<!--{'x' * (MAX_DEFINITION_BYTES - len(small))}-->")
    with pytest.raises(InvalidInput, match="too large"):
        with_identity(full, UUID, "a-longer-name")


def test_name_and_uuid_are_replaced_and_nothing_else() -> None:
    renamed = with_identity(FULL, OTHER_UUID, "db1")
    expected = FULL.replace("<name>web1</name>\n", "<name>db1</name>\n").replace(UUID.upper(), OTHER_UUID)
    assert _canonical(renamed) == _canonical(expected)


@pytest.mark.parametrize("name", ["os", "name", "uuid", "domain", "devices", "kvm", "a", "memory"])
def test_a_vm_called_like_an_element_survives_a_rename(name: str) -> None:
    before = with_identity(FULL, UUID, name)
    after = with_identity(before, UUID, "web1")
    assert parse_domain(before).name == name
    assert after == with_identity(FULL, UUID, "web1")


def test_missing_identity_is_added_in_front() -> None:
    added = with_identity("<domain>\n  <memory>1</memory>\n  <os><name>x</name></os>\n</domain>", UUID, "web1")
    assert added == (
        f"<domain>\n  <name>web1</name>\n  <uuid>{UUID}</uuid>\n"
        "  <memory>1</memory>\n  <os><name>x</name></os>\n</domain>"
    )


def test_comments_and_character_data_inside_the_name_do_not_confuse() -> None:
    xml = definition(name="<name>we<!-- here -->b<![CDATA[1]]></name>")
    assert parse_domain(xml).name == "web1"
    renamed = with_identity(xml, UUID, "db1")
    assert "<name>db1<!-- here --></name>" in renamed
    assert parse_domain(renamed).name == "db1"


@pytest.mark.parametrize("name", ["", "a b", "<x>", "\x01", UUID, UUID.replace("-", "")])
def test_an_unacceptable_name_is_never_written(name: str) -> None:
    with pytest.raises(InvalidInput):
        with_identity(FULL, UUID, name)


def test_an_unacceptable_uuid_is_never_written() -> None:
    with pytest.raises(InvalidInput):
        with_identity(FULL, "not-a-uuid", "web1")


DISK = "<disk type='file'><source file='/x'/><target dev='vda'/>{}</disk>"


@pytest.mark.parametrize(
    ("device", "is_storage"),
    [
        ("", False),
        (DISK.format(""), True),
        (DISK.format("<readonly/>"), False),
        ("<disk type='file' device='cdrom'><target dev='sda'/></disk>", False),
        ("<disk type='file' device='floppy'><target dev='fda'/></disk>", True),
        ("<filesystem><source dir='/srv'/><target dir='x'/></filesystem>", True),
        ("<filesystem><source dir='/srv'/><target dir='x'/><readonly/></filesystem>", False),
        ("<hostdev mode='subsystem' type='scsi'/>", True),
        ("<interface type='bridge'/><console type='pty'/>", False),
    ],
)
def test_what_a_guest_can_write_to_counts_as_storage_of_the_definition(device: str, is_storage: bool) -> None:
    text = f"<domain><name>a</name><memory>1024</memory><devices>{device}</devices></domain>"
    assert parse_domain(text).has_storage is is_storage


def test_words_for_qemu_may_mean_any_storage() -> None:
    words = "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-hda'/></q:commandline>"
    assert parse_domain(f"<domain><name>a</name><memory>1024</memory>{words}</domain>").has_storage


def test_a_uuid_has_one_spelling() -> None:
    assert canonical_uuid(UUID.replace("-", "").upper()) == UUID
    with pytest.raises(InvalidInput):
        canonical_uuid(UUID[:-1])
    with pytest.raises(InvalidInput):
        canonical_uuid(UUID + "\n")


def test_the_field_of_a_refused_name_is_the_callers() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_vm_name("?", "new_name")
    assert caught.value.field == "new_name"


# ------------------------------------------------------------------------------------------------ properties

names = st.from_regex(re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"), fullmatch=True).filter(
    lambda name: not re.fullmatch(r"[0-9a-fA-F-]{32,36}", name)
)
plain_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))
tags = st.sampled_from(["name", "uuid", "os", "description", "x"])


def _element(tag: str, text: str, children: list[etree._Element]) -> etree._Element:
    element = etree.Element(tag)
    element.text = text
    element.extend(children)
    return element


trees = st.recursive(
    st.builds(_element, tags, plain_text, st.just([])),
    lambda inner: st.builds(_element, tags, plain_text, st.lists(inner, max_size=3)),
    max_leaves=8,
)


def _without_identity(xml: str) -> bytes:
    domain = etree.fromstring(xml)
    for tag in ("name", "uuid"):
        for child in domain.findall(tag):
            domain.remove(child)
    return etree.tostring(domain, method="c14n")


@unhurried
@given(st.lists(trees, max_size=4), names, st.uuids())
def test_whatever_else_a_definition_holds_survives_a_new_identity(
    others: list[etree._Element], name: str, uuid: object
) -> None:
    domain = etree.Element("domain", type="kvm")
    for number, other in enumerate(others):
        wrapper = etree.SubElement(domain, f"other{number}")
        wrapper.append(other)
    xml = etree.tostring(domain, encoding="unicode")
    once = with_identity(xml, str(uuid), name)
    assert _without_identity(once) == _without_identity(xml)
    assert etree.fromstring(once).findtext("name") == name
    assert etree.fromstring(once).findtext("uuid") == str(uuid)
    assert with_identity(once, str(uuid), name) == once


def _is_read_or_refused(xml: str) -> bool:
    try:
        parse_domain(xml)
    except InvalidInput as refused:
        return refused.field == "definition"
    return True


@unhurried
@given(st.text())
def test_any_text_is_refused_or_read_but_never_anything_else(text: str) -> None:
    for xml in (text, f"<domain>{text}</domain>", definition(name=f"<name>{text}</name>")):
        assert _is_read_or_refused(xml)


@unhurried
@given(st.integers(0, len(FULL)), st.integers(0, 40), st.text(alphabet="<>&;!-?[]'\"/ aA0\x00é", max_size=8))
def test_a_damaged_definition_is_refused_or_read_but_never_anything_else(start: int, cut: int, put: str) -> None:
    damaged = FULL[:start] + put + FULL[start + cut :]
    assert _is_read_or_refused(damaged)
