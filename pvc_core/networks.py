# SPDX-License-Identifier: Apache-2.0
"""networks: what a network driver is asked: to make a host's end of a network exist, and how a guest joins it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pvc_core.plugin_types import NO_OPTIONS, PluginOptions


@dataclass(frozen=True)
class NetworkSpec:
    """A network of the cluster as one host has to realise it. parameters: the driver's own, such as a VLAN's number."""

    name: str
    mtu: int = 1500
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkState:
    """A network as it is on a host. problem: why guests cannot use it, such as a link that is down; "" normally."""

    name: str
    mtu: int
    problem: str = ""


@dataclass(frozen=True)
class NetworkSite:
    """Where a driver works: the node's name, its address among the nodes, and what is configured for the plugin."""

    node: str
    address: str = ""
    options: PluginOptions = NO_OPTIONS


class NetworkDriver(Protocol):
    """One kind of network on one host. Every method may be repeated: what is so already stays.

    It touches nothing that it has not made, whatever else exists on the host.
    """

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        """Why this network cannot be: a sentence for each parameter that is missing, unknown or wrong. Changes nothing.

        Asked before a network is written down, on any machine of the cluster.
        """

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        """Make exactly these networks of its kind exist on this host: create, adjust, and remove what is not named.

        One that cannot be realised does not keep the others from it; raises a `PvcError` that names it afterwards.
        Guests of a network that stays keep their connection.
        """

    def present(self) -> tuple[NetworkState, ...]:
        """Its networks as they are on this host, sorted by name, also those that another process realised."""

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        """What a guest's interface is connected to, as attributes of libvirt's `<source>`: {"bridge": "br7"}.

        The same on every host that has the network, so that guests migrate.
        """


@dataclass(frozen=True)
class NetworkEntry:
    """A kind of network by name; `open` builds the driver for a host without touching it."""

    name: str
    summary: str
    open: Callable[[NetworkSite], NetworkDriver]
    plugin: str = ""
