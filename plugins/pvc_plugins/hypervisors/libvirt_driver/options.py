# SPDX-License-Identifier: Apache-2.0
"""options: what the URL of a libvirt hypervisor says of its host and of migrations from it.

`qemu:///system`, `libvirt+qemu:///system` (the same) or any other URI of libvirt's, with PVC's own options in the
query; what PVC does not know there (`socket`, `no_verify`, ...) goes on to libvirt.

| option | default | |
| --- | --- | --- |
| `migration_uri` | `qemu+tcp://{address}/system` | where this host's libvirt reaches another host's |
| `migration_data_uri` | `tcp://{address}` | where the guest's memory is sent; empty: the target's libvirt says where |
| `migration_bandwidth_mib_s` | no limit | for each migration |
| `memory_mib`, `cores` | what the host has | for labs, where several hypervisors share one host |

In the first two, `{address}` stands for the target node's address and `{node}` for its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from pvc_core.errors import InvalidInput

_FIELD = "hypervisor"
_PREFIX = "libvirt+"
_MIGRATION_URI = "qemu+tcp://{address}/system"
_MIGRATION_DATA_URI = "tcp://{address}"
_TEMPLATES = ("migration_uri", "migration_data_uri")
_NUMBERS = ("migration_bandwidth_mib_s", "memory_mib", "cores")


@dataclass(frozen=True, slots=True)
class LibvirtOptions:
    """See the module. 0: no limit, or what the host has."""

    uri: str
    migration_uri: str = _MIGRATION_URI
    migration_data_uri: str = _MIGRATION_DATA_URI
    migration_bandwidth_mib_s: int = 0
    memory_mib: int = 0
    cores: int = 0

    @property
    def is_local(self) -> bool:
        """Whether libvirt is reached without a network, so that this machine's /proc is the host's."""
        return not urlsplit(self.uri).hostname


def options_from(url: str) -> LibvirtOptions:
    """Read the URL; `InvalidInput` names what is wrong with it."""
    base, _, query = url.removeprefix(_PREFIX).partition("?")
    if not urlsplit(base).scheme:
        raise InvalidInput(_FIELD, "is not a URI of libvirt", url, ("qemu:///system",))
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for_libvirt: list[str] = []
    for item in filter(None, query.split("&")):
        # Not parse_qsl, which would make a blank of the plus in qemu+tcp.
        name, _, text = item.partition("=")
        if name in _TEMPLATES:
            texts[name] = _template(name, unquote(text))
        elif name in _NUMBERS:
            numbers[name] = _number(name, unquote(text))
        else:
            for_libvirt.append(item)
    return LibvirtOptions(
        uri="?".join(filter(None, (base, "&".join(for_libvirt)))),
        migration_uri=texts.get("migration_uri", _MIGRATION_URI),
        migration_data_uri=texts.get("migration_data_uri", _MIGRATION_DATA_URI),
        migration_bandwidth_mib_s=numbers.get("migration_bandwidth_mib_s", 0),
        memory_mib=numbers.get("memory_mib", 0),
        cores=numbers.get("cores", 0),
    )


def filled(template: str, node: str, address: str) -> str:
    """A template of the options with the target's name and address in it."""
    host = f"[{address}]" if ":" in address else address  # IPv6
    return template.replace("{node}", node).replace("{address}", host)


def _template(name: str, text: str) -> str:
    rest = text.replace("{node}", "").replace("{address}", "")
    if "{" in rest or "}" in rest:
        raise InvalidInput(_FIELD, f"has an option {name} with an unknown placeholder", text, ("{node}", "{address}"))
    return text


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(_FIELD, f"has an option {name} that is not a whole number from 0 up", text)
    return int(text)
