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

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from pvc_core.errors import PvcError
from pvc_core.fencing import FenceRequest, FenceVerdict
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.pools import CephPools
from pvc_storage_backends.ceph.users import NodeClients, address_of, known_nodes, plain, watchers, write_node

FOR_GOOD_S = 10.0 * 365 * 24 * 3600
"""How long an entry lasts by itself: Ceph has none without an end, and only `admit_clients` is to end one."""
VISITORS = 8
"""How many images are visited at once."""

_Visit = Callable[[Any, str, Collection[str]], tuple[set[str], int]]


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
                # Before they are shut out: Ceph forgets at once who of them had an image open.
                opened, _ = self._visit(rados, clients.addresses, _who)
                self._block(clients.addresses)
                rados.wait_for_latest_osdmap()
                owners, broken = self._visit(rados, clients.addresses, _break_locks)
                instances = {*clients.instances, *opened, *owners}
                self._block(instances)
                rados.wait_for_latest_osdmap()
                return self._verdict(request.node, clients, instances, broken)
        except PvcError as error:
            return FenceVerdict(False, f"nothing is certain of {request.node}: {error.sentence()}")

    def admit_clients(self, request: FenceRequest) -> None:
        """See `FencesClients`. What was open when the node was shut out stays out."""
        self.check_quorum()
        with self.connection.using() as rados:
            clients = known_nodes(rados).get(request.node)
            if clients is None:
                return
            shut_out = self.blocklist()
            for address in clients.addresses:
                if whole(address) in shut_out:
                    self.connection.command("osd blocklist", blocklistop="rm", addr=address)
            write_node(rados, request.node, msgspec.structs.replace(clients, fenced=False))

    def blocklist(self) -> set[str]:
        """Who is shut out of the cluster: `10.0.0.1:0/0` is an address with all its clients."""
        return set(self.shut_out_until())

    def shut_out_until(self) -> dict[str, str]:
        """Until when each of these is, as Ceph writes it."""
        listed = self.connection.command("osd blocklist ls")
        return {plain(each["addr"]): each["until"] for each in listed or ()}

    def _block(self, clients: Collection[str]) -> None:
        """Shut these out for good.

        Whoever is out already may be so for an hour only, as by Ceph itself when a lock is broken, and is kept to that
        hour unless let in before. Clients are let in for a moment only when all of their address is out.
        """
        shut_out = self.blocklist()
        for client in sorted(clients):
            if client in shut_out:
                self.connection.command("osd blocklist", blocklistop="rm", addr=client)
            self.connection.command("osd blocklist", blocklistop="add", addr=client, expire=FOR_GOOD_S)

    def _verdict(self, node: str, clients: NodeClients, instances: Collection[str], broken: int) -> FenceVerdict:
        wanted = {whole(address) for address in clients.addresses} | set(instances)
        if missing := sorted(wanted - self.blocklist()):
            return FenceVerdict(False, f"{', '.join(missing)} of {node} is not on Ceph's blocklist")
        shut = ", ".join(clients.addresses)
        return FenceVerdict(True, f"Ceph serves no client of {node} ({shut}) any more; {broken} locks were broken")

    def _visit(self, rados: Any, addresses: Collection[str], visit: _Visit) -> tuple[set[str], int]:
        """Visit every image. All instances that were met, and all locks that were broken."""
        met: set[str] = set()
        broken = 0
        with ThreadPoolExecutor(VISITORS) as visitors:
            for pool in self.pools():
                with rados.open_ioctx(pool) as ioctx:
                    names = bindings.load().rbd.RBD().list(ioctx)
                    for instances, locks in visitors.map(partial(_visited, ioctx, addresses, visit), names):
                        met |= instances
                        broken += locks
        return met, broken


def _visited(ioctx: Any, addresses: Collection[str], visit: _Visit, name: str) -> tuple[set[str], int]:
    try:
        return visit(ioctx, name, addresses)
    except bindings.load().rbd.ImageNotFound:  # removed meanwhile, or its making was broken off
        return set(), 0


def _who(ioctx: Any, name: str, addresses: Collection[str]) -> tuple[set[str], int]:
    """The clients with these addresses that have the image open."""
    with bindings.load().rbd.Image(ioctx, name, read_only=True) as image:
        return {plain(client.instance) for client in watchers(image) if client.address in addresses}, 0


def _break_locks(ioctx: Any, name: str, addresses: Collection[str]) -> tuple[set[str], int]:
    """Break the locks that clients with these addresses hold on the image."""
    rbd = bindings.load().rbd
    with rbd.Image(ioctx, name, read_only=True) as image:
        held = list(_locks(image, addresses))
    if held:
        with rbd.Image(ioctx, name) as image:
            for owner, cookie, _ in held:
                image.break_lock(owner, cookie)
    return {plain(instance) for _, _, instance in held}, len(held)


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
