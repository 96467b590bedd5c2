# SPDX-License-Identifier: Apache-2.0
"""memory_networks: bridges in memory on any number of hosts: what a test needs instead of links and VLANs.

    networks = MemoryNetworks()
    registry = registry_of(networks.entry())
    networks.open(NetworkSite("hv1")).realise([NetworkSpec("blue", parameters={"vlan": "7"})])
    networks.host("hv1").links

A driver is what makes networks on one host. It passes `pvc_core.testing.network_suite`, as every driver does.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pvc_core.errors import Refused
from pvc_core.networks import NetworkEntry, NetworkSite, NetworkSpec, NetworkState

VLAN_MAX = 4094


@dataclass(eq=False)
class Link:
    """A bridge of a host. network: of which one, "" for what no driver has made."""

    mtu: int
    network: str = ""
    is_up: bool = True


class MemoryHost:
    """What is on one host. Also a `NetworkHost` of the suite."""

    def __init__(self, site: NetworkSite) -> None:
        self.site = site
        self.lock = threading.RLock()
        self.links: dict[str, Link] = {}

    def mtu(self, source: Mapping[str, str]) -> int | None:
        """See `NetworkHost`."""
        link = self.links.get(source["bridge"])
        return None if link is None else link.mtu

    def names(self) -> Collection[str]:
        """See `NetworkHost`."""
        return tuple(self.links)

    def join(self, source: Mapping[str, str]) -> Callable[[], bool]:
        """See `NetworkHost`."""
        joined = self.links[source["bridge"]]
        # Another link of that name is a new one, and no guest is on it.
        return lambda: self.links.get(source["bridge"]) is joined

    def impair(self, source: Mapping[str, str]) -> None:
        """See `NetworkHost`."""
        self.links[source["bridge"]].is_up = False

    def take_away(self, source: Mapping[str, str]) -> None:
        """See `NetworkHost`."""
        del self.links[source["bridge"]]

    def add_foreign(self) -> Mapping[str, str]:
        """See `NetworkHost`."""
        self.links["br-somebodys"] = Link(9000)
        return {"bridge": "br-somebodys"}

    def close(self) -> None:
        """See `NetworkHost`."""


class MemoryNetworks:
    """Hosts by name, each empty when it is first asked for. driver: the class of what works on them."""

    def __init__(self, driver: type[MemoryNetworkDriver] | None = None, name: str = "memory") -> None:
        self.name = name
        self._driver = driver or MemoryNetworkDriver
        self._lock = threading.Lock()
        self._hosts: dict[str, MemoryHost] = {}

    def entry(self) -> NetworkEntry:
        """The driver as a plugin registers it."""
        return NetworkEntry(self.name, "bridges in memory", self.open, plugin=self.name)

    def open(self, site: NetworkSite) -> MemoryNetworkDriver:
        """The driver on the host of this site."""
        return self._driver(self.host(site.node))

    def host(self, node: str) -> MemoryHost:
        """What is on a host."""
        with self._lock:
            return self._hosts.setdefault(node, MemoryHost(NetworkSite(node)))

    def new_host(self, node: str = "hv1") -> MemoryHost:
        """The host as it is after it was installed anew: with nothing on it."""
        with self._lock:
            self._hosts[node] = MemoryHost(NetworkSite(node))
            return self._hosts[node]


class MemoryNetworkDriver:
    """Makes a bridge for each network; implements `NetworkDriver`. Its only parameter, `vlan`, is optional."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        """See `NetworkDriver`."""
        vlan = network.parameters.get("vlan", "1")
        found = [f"{name} is no parameter of such a network" for name in sorted(set(network.parameters) - {"vlan"})]
        if not (vlan.isascii() and vlan.isdecimal() and 1 <= int(vlan) <= VLAN_MAX):
            found.append(f"vlan {vlan!r} is no number from 1 to {VLAN_MAX}")
        return found

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        """See `NetworkDriver`."""
        failures: dict[str, str] = {}
        with self.host.lock:
            self.remove_all_but({network.name for network in networks})
            for network in networks:
                problems = self.problems(network)
                if problems:
                    failures[network.name] = ", ".join(problems)
                else:
                    self.make(network)
        if failures:
            sentences = (f"{name}: {problem}" for name, problem in failures.items())
            raise Refused(f"networks {', '.join(failures)}", "; ".join(sentences))

    def present(self) -> tuple[NetworkState, ...]:
        """See `NetworkDriver`."""
        with self.host.lock:
            links = sorted(self.own_links().values(), key=lambda link: link.network)
            return tuple(
                NetworkState(link.network, link.mtu, "" if link.is_up else "its link is down") for link in links
            )

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        """See `NetworkDriver`."""
        # A link's name has at most 15 characters, and a network's may have 64.
        return {"bridge": f"br{hashlib.sha256(network.name.encode()).hexdigest()[:13]}"}

    # --------------------------------------------------------------------------------------------- parts

    def own_links(self) -> Mapping[str, Link]:
        """The host's links that belong to a network, by their own names."""
        return {name: link for name, link in self.host.links.items() if link.network}

    def remove_all_but(self, networks: Collection[str]) -> None:
        """Remove the networks that are not named any more."""
        for name, link in self.own_links().items():
            if link.network not in networks:
                del self.host.links[name]

    def make(self, network: NetworkSpec) -> None:
        """Make the host's link what it should be; a link that is there stays the same one, for its guests."""
        link = self.host.links.setdefault(self.interface(network)["bridge"], Link(network.mtu, network.name))
        link.mtu, link.is_up = network.mtu, True
