# SPDX-License-Identifier: Apache-2.0
"""The lab's network: one switch in a namespace of its own, one cable per host, one to the outside.

Every name begins with the lab's prefix, and the subnet 10.77.X.0/24 is one that the machine does
not use yet, so that several labs, or the rest of one that crashed, do not meet. The outside (the
test process in the root namespace) has the address .253 on the same subnet and talks to the hosts
directly; nothing is routed, so no packet of a lab leaves the machine.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from pvc_lab.processes import ProcessIdentity

SERVICES_ADDRESS = 254
OUTSIDE_ADDRESS = 253
HOST_LINK = "eth0"
FIRST_BMC_ADDRESS = 101
MOST_BMCS = 100
MAX_NAME_LENGTH = 15  # IFNAMSIZ without its final zero

_RANGE = ipaddress.IPv4Network("10.77.0.0/16")
_BRIDGE = "br0"
_UPLINK = "outside"
_NAMESPACES = Path("/run/netns")
_SUBNET_LOCK = Path("/run/lock/pvc-lab-subnets")


class NetworkError(RuntimeError):
    """The lab's network cannot be built as asked."""


class Network:
    """One lab's switch and the cables in it. `subnet_number` is known of a network that is up."""

    def __init__(self, prefix: str, runtime_dir: Path, subnet_number: int | None = None) -> None:
        if len(prefix) > MAX_NAME_LENGTH:
            raise NetworkError(f"prefix {prefix!r} is longer than {MAX_NAME_LENGTH} characters")
        self.prefix = prefix
        self.subnet_number = subnet_number
        self._cut_dir = runtime_dir / "cut-cables"

    @property
    def switch(self) -> str:
        """The namespace of the switch, in which also BMCs live: no cable of a host leads to them."""
        return f"{self.prefix}-switch"

    def namespace(self, host: str) -> str:
        """The name of the network namespace that is the inside of a host."""
        return f"{self.prefix}-{host}"

    def address(self, number: int) -> str:
        """The address of host `number`, 1 to 254, on this lab's subnet."""
        if self.subnet_number is None:
            raise NetworkError("a network has no addresses before it is up")
        return f"10.77.{self.subnet_number}.{number}"

    def add_bmc_address(self, number: int) -> str:
        """Give the BMC of host `number` an address in the switch's namespace; the same every time."""
        if not 1 <= number <= MOST_BMCS:
            raise NetworkError(f"only hosts 1 to {MOST_BMCS} have BMCs, not host {number}")
        address = self.address(FIRST_BMC_ADDRESS - 1 + number)
        with _namespace_routes(self.switch) as switch:
            bridge = _index(switch, _BRIDGE)
            if not any(each.get("address") == address for each in switch.get_addr(index=bridge)):
                _give_address(switch, _BRIDGE, address)
        return address

    def up(self) -> None:
        """Build the switch and plug the outside into it."""
        netns.create(self.switch)
        with _namespace_routes(self.switch) as switch:
            # An address of its own, or it would take another one whenever a host is unplugged, and who had asked for
            # a BMC before would speak to the old one for half a minute.
            bridge = {"address": _hardware_address(0), "br_forward_delay": 0}
            switch.link("add", ifname=_BRIDGE, kind="bridge", state="up", **bridge)
            switch.link("set", index=_index(switch, "lo"), state="up")  # BMCs in here talk to themselves
        with _subnet_lock(), IPRoute() as outside:
            self.subnet_number = free_subnet_number(outside)
            outside.link("add", ifname=self.prefix, kind="veth", peer={"ifname": _UPLINK, "net_ns_fd": self.switch})
            _give_address(outside, self.prefix, self.address(OUTSIDE_ADDRESS))
        self._connect_port(_UPLINK)

    def plug_in(self, host: str, number: int) -> None:
        """Give a host a namespace and a cable; a cable that was cut stays cut."""
        if len(host) > MAX_NAME_LENGTH:
            raise NetworkError(f"host name {host!r} is longer than {MAX_NAME_LENGTH} characters")
        netns.create(self.namespace(host))
        with _namespace_routes(self.switch) as switch:
            peer = {"ifname": HOST_LINK, "net_ns_fd": self.namespace(host), "address": _hardware_address(number)}
            switch.link("add", ifname=host, kind="veth", peer=peer)
        with _namespace_routes(self.namespace(host)) as inside:
            inside.link("set", index=_index(inside, "lo"), state="up")
            _give_address(inside, HOST_LINK, self.address(number))
        self._connect_port(host, up=not self._cut_mark(host).exists())

    def unplug(self, host: str) -> None:
        """Take a host's cable out: from now on not even a connection's end reaches anybody."""
        if self.switch not in netns.listnetns():
            return
        with _namespace_routes(self.switch) as switch:
            _delete_link(switch, host)

    def remove_namespace(self, host: str) -> None:
        """Forget the namespace of a host that is unplugged and off."""
        if self.namespace(host) in netns.listnetns():
            netns.remove(self.namespace(host))

    def cut_cable(self, host: str) -> None:
        """Let nothing in or out of a host, until healed, also across its loss of power."""
        self._cut_dir.mkdir(parents=True, exist_ok=True)
        self._cut_mark(host).touch()
        self._set_port(host, up=False)

    def heal_cable(self, host: str) -> None:
        self._cut_mark(host).unlink(missing_ok=True)
        self._set_port(host, up=True)

    def down(self) -> None:
        """Remove everything, whatever state it is in; every process in it is killed."""
        tear_down(self.prefix)

    def _cut_mark(self, host: str) -> Path:
        return self._cut_dir / host

    def _connect_port(self, port: str, *, up: bool = True) -> None:
        with _namespace_routes(self.switch) as switch:
            bridge = _index(switch, _BRIDGE)
            switch.link("set", index=_index(switch, port), master=bridge, state="up" if up else "down")

    def _set_port(self, port: str, *, up: bool) -> None:
        with _namespace_routes(self.switch) as switch:
            for index in switch.link_lookup(ifname=port):  # none while the host is off
                switch.link("set", index=index, state="up" if up else "down")


def free_subnet_number(routes: IPRoute) -> int:
    """The lowest X whose 10.77.X.0/24 overlaps no route of this machine."""
    destinations = [
        ipaddress.IPv4Network(f"{route.get('dst')}/{route['dst_len']}")
        for route in routes.get_routes(family=socket.AF_INET)
        if route.get("dst") and route["dst_len"] >= _RANGE.prefixlen
    ]
    for number, subnet in enumerate(_RANGE.subnets(new_prefix=24)):
        if not any(subnet.overlaps(destination) for destination in destinations):
            return number
    raise NetworkError(f"no free subnet is left in {_RANGE}")


def namespaces_of(prefix: str) -> list[str]:
    """The network namespaces whose names begin with `prefix`."""
    return sorted(name for name in netns.listnetns() if name.startswith(prefix))


def links_of(prefix: str) -> list[str]:
    """The links of the root namespace whose names begin with `prefix`."""
    with IPRoute() as routes:
        names = [str(link.get("ifname")) for link in routes.get_links()]
    return sorted(name for name in names if name.startswith(prefix))


def tear_down(prefix: str) -> None:
    """Remove every namespace and link of a lab, with all processes in them. Can be repeated."""
    names = namespaces_of(prefix)
    while processes := [process for name in names for process in processes_in(name)]:
        for process in processes:
            process.end(signal.SIGKILL)
    # Links first: the kernel removes those of a namespace that is gone too, but some time later.
    for name in links_of(prefix):
        with IPRoute() as routes:
            _delete_link(routes, name)
    for name in names:
        netns.remove(name)


def processes_in(namespace: str) -> list[ProcessIdentity]:
    """The processes that live in a network namespace, those that have ended excluded; none when there is none."""
    try:
        inode = (_NAMESPACES / namespace).stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns/net").stat().st_ino == inode:
                found.append(ProcessIdentity.of(int(entry.name)))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        except PermissionError:
            continue  # what root may not look at is of a machine around this one, not of a lab
    return [process for process in found if process.is_alive]


@contextmanager
def _namespace_routes(namespace: str) -> Iterator[IPRoute]:
    """Netlink inside a namespace; flags=0, or the library would create a missing one."""
    with IPRoute(netns=namespace, flags=0) as routes:
        yield routes


@contextmanager
def _subnet_lock() -> Iterator[None]:
    """Held while a subnet is chosen and taken, so that two labs never choose the same one."""
    _SUBNET_LOCK.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_SUBNET_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hardware_address(number: int) -> str:
    """The same after every start of a host, as of a real one: its peers remember it."""
    return f"02:70:76:63:00:{number:02x}"


def _give_address(routes: IPRoute, link: str, address: str) -> None:
    index = _index(routes, link)
    routes.addr("add", index=index, address=address, prefixlen=24)
    routes.link("set", index=index, state="up")


def _delete_link(routes: IPRoute, link: str) -> None:
    """Delete a link, and with it the other end of the cable; nothing to do if it is gone."""
    for index in routes.link_lookup(ifname=link):
        try:
            routes.link("del", index=index)
        except NetlinkError as error:
            if error.code != errno.ENODEV:  # the kernel was just removing it, after its other end
                raise


def _index(routes: IPRoute, link: str) -> int:
    return int(routes.link_lookup(ifname=link)[0])
