# SPDX-License-Identifier: Apache-2.0
"""fencing: a lost node's clients are put on the cluster's blocklist, and the locks that they hold are broken.

All that has one of the node's IP addresses is shut out, so that it also holds for what starts there later. Clients
that had an image open are shut out one by one besides, and for good: one that was frozen all the while must not write
when the node is admitted again and it goes on. Whoever opens an image after that has a map in which they are shut out,
and so has every OSD before it serves him.

Nothing is confirmed of a node that has never said by which addresses it reaches Ceph, or whose address another one
has too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from pvc_core.errors import PvcError
from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.pools import CephPools
from pvc_storage_backends.ceph.users import NodeClients, address_of, known_nodes, plain, watchers, write_node

FOR_GOOD_S = 10.0 * 365 * 24 * 3600
"""How long an entry lasts by itself: Ceph has none without an end, and only `admit_clients` is to end one."""
LOOKERS = 8
"""How many images are looked at at once."""


class CephFencing(CephPools):
    """`FencesClients`."""

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        """See `FencesClients`."""
        try:
            self.check_quorum()
            with self.connection.using() as rados:
                nodes = known_nodes(rados)
                if problem := _why_not(request.node, nodes, address_of(rados.get_addrs())):
                    return FenceVerdict(False, problem)
                clients = msgspec.structs.replace(nodes[request.node], fenced=True)
                write_node(rados, request.node, clients)
                self._block((*clients.addresses, *clients.instances))
                rados.wait_for_latest_osdmap()
                opened, broken = self._shut_images(rados, clients.addresses)
                self._block(opened)
                rados.wait_for_latest_osdmap()
                return self._verdict(request.node, clients, opened, broken)
        except PvcError as error:
            return FenceVerdict(False, f"nothing is certain of {request.node}: {error.sentence()}")

    def admit_clients(self, request: FenceRequest) -> None:
        """See `FencesClients`. What was open when the node was shut out stays out."""
        self.check_quorum()
        with self.connection.using() as rados:
            clients = known_nodes(rados).get(request.node)
            if clients is None:
                return
            blocked = self.blocklist()
            for address in clients.addresses:
                if whole(address) in blocked:
                    self.connection.command("osd blocklist", blocklistop="rm", addr=address)
            write_node(rados, request.node, msgspec.structs.replace(clients, fenced=False))

    def blocklist(self) -> set[str]:
        """Who is shut out of the cluster: `10.0.0.1:0/0` is an address with all its clients."""
        listed = self.connection.command("osd blocklist ls")
        return {plain(each["addr"]) for each in listed or ()}

    def _block(self, clients: Collection[str]) -> None:
        missing = set(clients) - {plain_or_address for each in self.blocklist() for plain_or_address in _names(each)}
        for client in sorted(missing):
            self.connection.command("osd blocklist", blocklistop="add", addr=client, expire=FOR_GOOD_S)

    def _verdict(self, node: str, clients: NodeClients, opened: Collection[str], broken: int) -> FenceVerdict:
        wanted = {whole(address) for address in clients.addresses} | set(opened)
        if missing := sorted(wanted - self.blocklist()):
            return FenceVerdict(False, f"{', '.join(missing)} of {node} is not on Ceph's blocklist")
        shut = ", ".join(clients.addresses)
        return FenceVerdict(True, f"Ceph serves no client of {node} ({shut}) any more; {broken} locks were broken")

    def _shut_images(self, rados: Any, addresses: Collection[str]) -> tuple[set[str], int]:
        """Break the locks that clients with these addresses hold. Who had an image open, and how many locks it were."""
        opened: set[str] = set()
        broken = 0
        with ThreadPoolExecutor(LOOKERS) as lookers:
            for pool in self.pools():
                with rados.open_ioctx(pool) as ioctx:
                    names = bindings.load().rbd.RBD().list(ioctx)
                    for instances, locks in lookers.map(lambda name: _shut_image(ioctx, name, addresses), names):
                        opened |= instances
                        broken += locks
        return opened, broken


def _shut_image(ioctx: Any, name: str, addresses: Collection[str]) -> tuple[set[str], int]:
    rbd = bindings.load().rbd
    try:
        with rbd.Image(ioctx, name, read_only=True) as image:
            instances = {plain(client.instance) for client in watchers(image) if client.address in addresses}
            held = list(_locks(image, addresses))
        if held:
            with rbd.Image(ioctx, name) as image:
                for owner, cookie, instance in held:
                    instances.add(plain(instance))
                    image.break_lock(owner, cookie)
    except rbd.ImageNotFound:  # removed meanwhile, or broken off halfway
        return set(), 0
    return instances, len(held)


def _locks(image: Any, addresses: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Owner, cookie and instance of each lock that a client with one of these addresses holds."""
    lockers = image.list_lockers()
    for owner, cookie, instance in lockers["lockers"] if lockers else ():
        if address_of(instance) in addresses:
            yield owner, cookie, instance


def _why_not(node: str, nodes: Mapping[str, NodeClients], own_address: str) -> str:
    """Why this node's clients cannot be told from others; "" when they can."""
    clients = nodes.get(node)
    if clients is None or not clients.addresses:
        return f"{node} has never said by which addresses its clients reach Ceph"
    for other, its in nodes.items():
        if other != node and (common := set(its.addresses) & set(clients.addresses)):
            return f"{', '.join(sorted(common))} is an address of {other} as well as of {node}"
    if own_address in clients.addresses:
        return f"{own_address} is an address of this host as well as of {node}"
    return ""


def whole(address: str) -> str:
    """How the blocklist shows an address with all its clients."""
    return f"[{address}]:0/0" if ":" in address else f"{address}:0/0"


def _names(entry: str) -> tuple[str, ...]:
    """How an entry may be asked for."""
    return (entry, address_of(entry)) if entry.endswith(":0/0") else (entry,)
