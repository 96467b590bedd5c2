# SPDX-License-Identifier: Apache-2.0
"""domain_xml: what a libvirt definition says of a VM, and the same definition under the record's name and UUID.

A definition comes from outside, so it is read without entities, DTDs or network, and within a size. The record's
name and UUID always win: exactly those two elements are rewritten, everything else is libvirt's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from lxml import etree

from pvc_core.errors import InvalidInput

MAX_DEFINITION_BYTES = 512 * 1024
MAX_MEMORY_MIB = 2**43 - 1
"""The most whose size in bytes fits the signed 64 bits that libvirt counts in."""
MAX_VCPUS = 65535

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_NAME_RULE = "1 to 64 of the letters a-z and A-Z, digits, '.', '_', '-', '+', beginning with a letter or digit"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")
_UUID_RULE = "32 hexadecimal digits, as 8-4-4-4-12 or without hyphens"
# What may stand before the root element, then a DTD. Possessive, so that it is linear in the size of the input.
_DTD_IN_PROLOG = re.compile(r"\ufeff?(?:\s|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)

_POWERS_OF_UNIT = {letter: power for power, letter in enumerate("kmgtpe", start=1)}
_BYTE_UNITS = ("b", "byte", "bytes")
_UNIT_RULE = "b, bytes, KB, k or KiB, MB, M or MiB, GB, G or GiB, and so on with T, P and E"
_MAX_DIGITS = 20  # of a number in a definition: more than 64 bits need, and below Python's own limit for int()


@dataclass(frozen=True, slots=True)
class DiskDefinition:
    """A disk: where the guest sees it (`vda`), what it is stored on (empty: no medium), and as what kind of thing."""

    target: str
    source: str
    type: str
    device: str


@dataclass(frozen=True, slots=True)
class InterfaceDefinition:
    """A network interface: its address (empty: libvirt picks one), what it is connected to, and its model."""

    mac: str
    source: str
    type: str
    model: str


@dataclass(frozen=True, slots=True)
class DomainDefinition:
    """What PVC needs to know of a definition. `memory_mib` is rounded up; `uuid` None: the definition has none.

    has_storage: with it the guest can write to something that other hosts may reach as well.
    """

    uuid: str | None
    name: str
    memory_mib: int
    vcpus: int
    disks: tuple[DiskDefinition, ...] = ()
    interfaces: tuple[InterfaceDefinition, ...] = ()
    has_storage: bool = False


def check_vm_name(name: str, field: str = "name") -> None:
    """Raise `InvalidInput` for a name that no VM may have; one that reads as a UUID would be ambiguous."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(field, "is not acceptable as the name of a VM", name[:80], (_NAME_RULE,))
    if _UUID.fullmatch(name):
        raise InvalidInput(field, "looks like a UUID, so it cannot be the name of a VM", name)


def canonical_uuid(text: str, field: str = "uuid") -> str:
    """The UUID in lower case with hyphens; `InvalidInput` when it is none."""
    if not _UUID.fullmatch(text):
        raise InvalidInput(field, "is not a UUID", text[:80], (_UUID_RULE,))
    digits = text.replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def read_domain(xml: str) -> etree._Element:
    """The <domain> element of a document that holds nothing dangerous; `InvalidInput` as from `parse_domain`."""
    root = read_document(xml, "definition")
    if root.tag != "domain":
        _refuse("is not of a VM: its root element must be <domain>", str(root.tag)[:80])
    return root


def read_document(xml: str, field: str) -> etree._Element:
    """The root element of a document that holds nothing dangerous. Raises `InvalidInput` for `field`."""
    _check_size(xml, field)
    if _DTD_IN_PROLOG.match(xml):
        raise InvalidInput(field, "has a document type declaration; DTDs and entities are not accepted")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, strip_cdata=False
    )
    try:
        return etree.fromstring(xml.encode(), parser)
    except etree.XMLSyntaxError as error:
        problem = " ".join((error.msg or "unreadable").split())  # ends with line and column
        raise InvalidInput(field, f"is not well-formed XML: {problem}") from error


def parse_domain(xml: str) -> DomainDefinition:
    """Read a definition; `InvalidInput("definition", ...)` says what is wrong with it."""
    domain = read_domain(xml)
    name = _text(_only_child(domain, "name"))
    if not name:
        _refuse("has no <name>")
    check_vm_name(name, "definition")
    uuid = _text(_only_child(domain, "uuid"))
    return DomainDefinition(
        uuid=canonical_uuid(uuid, "definition") if uuid else None,
        name=name,
        memory_mib=_memory_mib(domain),
        vcpus=_vcpus(domain),
        disks=tuple(_disk(element) for element in domain.findall("devices/disk")),
        interfaces=tuple(_interface(element) for element in domain.findall("devices/interface")),
        has_storage=_has_storage(domain),
    )


def with_identity(xml: str, uuid: str, name: str) -> str:
    """The same definition with this UUID and name, added where missing. Only direct children of <domain> change."""
    check_vm_name(name)
    uuid = canonical_uuid(uuid)
    domain = read_domain(xml)
    name_element = _only_child(domain, "name")
    if name_element is None:
        name_element = _insert(domain, 0, "name")
    uuid_element = _only_child(domain, "uuid")
    if uuid_element is None:
        uuid_element = _insert(domain, domain.index(name_element) + 1, "uuid")
    _set_text(name_element, name)
    _set_text(uuid_element, uuid)
    rewritten = etree.tostring(domain.getroottree(), encoding="unicode")
    _check_size(rewritten)
    return rewritten


def _check_size(xml: str, field: str = "definition") -> None:
    try:
        size_bytes = len(xml.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(field, f"is not text: {error.reason} at character {error.start}") from error
    if size_bytes > MAX_DEFINITION_BYTES:
        raise InvalidInput(field, f"is too large: {size_bytes} bytes, the limit is {MAX_DEFINITION_BYTES}")


def _refuse(problem: str, value: str = "", allowed: tuple[str, ...] = ()) -> NoReturn:
    raise InvalidInput("definition", problem, value, allowed)


def _only_child(domain: etree._Element, tag: str) -> etree._Element | None:
    """The child of that name; two would leave open which of them libvirt and PVC mean."""
    found = domain.findall(tag)
    if len(found) > 1:
        _refuse(f"has more than one <{tag}>")
    return found[0] if found else None


def _text(element: etree._Element | None) -> str:
    """The element's text without surrounding blanks and comments; empty also when the element is missing."""
    if element is None:
        return ""
    if element.find("*") is not None:
        _refuse(f"has elements inside <{element.tag}>, where only text belongs")
    return ((element.text or "") + "".join(inner.tail or "" for inner in element)).strip()


def _set_text(element: etree._Element, text: str) -> None:
    """Replace the text; comments inside the element stay."""
    _text(element)
    for inner in element:
        inner.tail = None
    element.text = text


def _insert(domain: etree._Element, position: int, tag: str) -> etree._Element:
    """A new child on a line of its own, indented like its neighbours."""
    element = etree.Element(tag)
    element.tail = domain.text if not (domain.text or "").strip() else None
    domain.insert(position, element)
    return element


def _number(text: str, what: str, at_most: int) -> int:
    if not re.fullmatch(r"\+?[0-9]+", text, re.ASCII):
        _refuse(f"has a {what} that is not a whole number above 0", text[:80])
    digits = text.lstrip("+0")
    number = int(digits or "0") if len(digits) <= _MAX_DIGITS else at_most + 1
    if number == 0:
        _refuse(f"has a {what} of 0")
    if number > at_most:
        _refuse(f"has a {what} beyond all bounds", text[:80], (f"at most {at_most}",))
    return number


def _memory_mib(domain: etree._Element) -> int:
    memory = _only_child(domain, "memory")
    text = _text(memory)
    if memory is None or not text:
        _refuse("has no <memory>")
    number = _number(text, "memory", MAX_MEMORY_MIB * 1024**2)
    size_bytes = number * _bytes_of_unit(memory.get("unit", "KiB"))
    mib = -(-size_bytes // 1024**2)
    if mib > MAX_MEMORY_MIB:
        _refuse("has a memory beyond all bounds", text[:80], (f"at most {MAX_MEMORY_MIB} MiB",))
    return mib


def _bytes_of_unit(unit: str) -> int:
    """libvirt's units, in any case: K and KiB are 1024, KB is 1000; none at all is KiB."""
    lower = unit.strip().lower() or "kib"
    if lower in _BYTE_UNITS:
        return 1
    power = _POWERS_OF_UNIT.get(lower[0])
    if power is None or lower[1:] not in ("", "b", "ib"):
        _refuse("has an unknown unit of memory", unit[:80], (_UNIT_RULE,))
    return int((1000 if lower[1:] == "b" else 1024) ** power)


def _vcpus(domain: etree._Element) -> int:
    text = _text(_only_child(domain, "vcpu"))
    return _number(text, "number of vCPUs", MAX_VCPUS) if text else 1


def _disk(element: etree._Element) -> DiskDefinition:
    kind = element.get("type", "file")
    return DiskDefinition(
        target=_attribute(element, "target", "dev"),
        source=_disk_source(element.find("source"), kind),
        type=kind,
        device=element.get("device", "disk"),
    )


def _disk_source(source: etree._Element | None, kind: str) -> str:
    """The path, or `protocol:name` of a network disk, or `pool/volume`."""
    if source is None:
        return ""
    if kind == "network":
        return f"{source.get('protocol', '')}:{source.get('name', '')}"
    if kind == "volume":
        return f"{source.get('pool', '')}/{source.get('volume', '')}"
    return _first_attribute(source, ("file", "dev", "dir", "path"))


def _has_storage(domain: etree._Element) -> bool:
    """A disk or file system that is not read-only, a device of the host, or words for QEMU, which may mean anything."""
    writable = (
        element
        for element in (*domain.findall("devices/disk"), *domain.findall("devices/filesystem"))
        if element.find("readonly") is None and element.get("device") != "cdrom"
    )
    foreign = (child for child in domain if isinstance(child.tag, str) and child.tag.startswith("{"))
    return any(True for _ in (*writable, *domain.findall("devices/hostdev"), *foreign))


def _interface(element: etree._Element) -> InterfaceDefinition:
    source = element.find("source")
    return InterfaceDefinition(
        mac=_attribute(element, "mac", "address").lower(),
        source="" if source is None else _first_attribute(source, ("network", "bridge", "dev", "path")),
        type=element.get("type", ""),
        model=_attribute(element, "model", "type"),
    )


def _attribute(element: etree._Element, child: str, attribute: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(attribute, "")


def _first_attribute(element: etree._Element, names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := element.get(name))), "")
