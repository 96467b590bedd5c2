# SPDX-License-Identifier: Apache-2.0
"""users: who has an image open, and by which addresses each node's clients reach Ceph.

Each node's backend writes its own addresses to the monitors whenever it connects, before any guest of that node can
have a disk: so that a client can be named by its node, and a lost node's clients are known. The addresses of one boot
are all kept, because a guest keeps the one that it has connected with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pvc_core.errors import Refused
from pvc_storage_backends.ceph.connection import ask
from pvc_storage_backends.ceph.failures import CLUSTER, meaning

PREFIX = "pvc/clients/"
INSTANCES_KEPT = 32
"""Of how many connections of a node's daemon it is remembered that they may still have something to write."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_INSTANCE = re.compile(r"(?:v[12]:)?(\[[0-9a-fA-F:.]+\]|[0-9.]+):(\d+/\d+)")


class NodeClients(msgspec.Struct, frozen=True):
    """By which IP addresses a node's clients reach Ceph, and its daemon's connections, such as `10.0.0.1:0/42`.

    boot: the start of the host that these are of. fenced: it is shut out, with every address that it takes.
    """

    boot: str = ""
    addresses: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    fenced: bool = False


@dataclass(frozen=True)
class Client:
    """Somebody who has an image open: `client.4116` at an instance's address."""

    number: int
    instance: str

    @property
    def address(self) -> str:
        """Its IP address."""
        return address_of(self.instance)


def address_of(instance: str) -> str:
    """The IP address of `10.0.0.1:0/42` or `v1:[fd00::1]:0/42`."""
    found = _INSTANCE.search(instance)
    return found[1].strip("[]") if found else ""


def watchers(image: Any) -> list[Client]:
    """Who has the image open for writing, this process too if it has."""
    return [Client(each["id"], each["addr"]) for each in image.watchers_list()]


def check_unused(name: str, image: Any, nodes: Mapping[str, NodeClients]) -> None:
    """Raises `Refused` that names everybody who has the volume open. The image is opened for reading only."""
    if users := watchers(image):
        named = ", ".join(sorted({described(user, nodes) for user in users}))
        raise Refused(f"volume {name}", f"is in use by {named}")


def described(client: Client, nodes: Mapping[str, NodeClients]) -> str:
    """A client in words: by its node where that is known."""
    owners = sorted(node for node, clients in nodes.items() if client.address in clients.addresses)
    where = f"{' or '.join(owners)} ({client.address})" if owners else client.address
    return f"client.{client.number} at {where}"


def known_nodes(rados: Any) -> dict[str, NodeClients]:
    """What each node has written of itself. Raises a `PvcError`."""
    code, dump, said = ask(rados, "config-key dump", "mon", {"key": PREFIX})
    if code:
        raise meaning(code, CLUSTER, said)
    return {
        key.removeprefix(PREFIX): msgspec.json.decode(value.encode(), type=NodeClients)
        for key, value in (dump or {}).items()
    }


def write_node(rados: Any, node: str, clients: NodeClients) -> None:
    """Replace what is written of a node. Raises a `PvcError`."""
    text = json.dumps(msgspec.to_builtins(clients))
    code, _, said = ask(rados, "config-key set", "mon", {"key": f"{PREFIX}{node}", "val": text})
    if code:
        raise meaning(code, CLUSTER, said)


def with_connection(before: NodeClients, boot: str, instance: str) -> NodeClients:
    """What is written of a node once it has this connection as well."""
    kept = before if before.boot == boot else NodeClients(boot, fenced=before.fenced)
    return replace_clients(
        kept, (*kept.addresses, address_of(instance)), (*kept.instances, plain(instance))[-INSTANCES_KEPT:]
    )


def replace_clients(clients: NodeClients, addresses: Iterable[str], instances: Iterable[str]) -> NodeClients:
    """The same with these, each once."""
    return msgspec.structs.replace(
        clients, addresses=tuple(dict.fromkeys(addresses)), instances=tuple(dict.fromkeys(instances))
    )


def plain(instance: str) -> str:
    """An instance as the blocklist names it, without the version of the protocol."""
    found = _INSTANCE.search(instance)
    return f"{found[1]}:{found[2]}" if found else instance


def boot_id() -> str:
    """What identifies this start of the host."""
    return _BOOT_ID.read_text().strip()
