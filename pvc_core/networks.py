# SPDX-License-Identifier: Apache-2.0
"""networks: what a network driver is asked: to make a host's end of a network exist, and how a guest joins it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pvc_core.errors import InvalidInput
from pvc_core.plugin_types import NO_OPTIONS, PluginOptions

NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
MTU_MIN, MTU_MAX = 1280, 65535
"""Less is too little for IPv6, more than any link can have."""


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
    """One kind of network on one host. Thread-safe. Every method may be repeated: what is so already stays.

    It touches nothing that it has not made, whatever else exists on the host. Its networks have names and MTUs that
    `check_network` has let pass; a name may be longer than that of an interface may be, and networks whose names begin
    alike are different ones.
    """

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        """Why this network cannot be: a sentence for each parameter that is missing, unknown or wrong, with its name.

        Asked before a network is written down, on any machine of the cluster, so it knows the description and not the
        host. Changes nothing.
        """

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        """Make exactly these networks of its kind exist on this host: create, adjust, and remove what is not named.

        What has gone or was changed past the driver is made as it should be. One that cannot be realised does not keep
        the others from it; raises a `PvcError` that names each of them afterwards. Guests of a network that stays keep
        their connection.
        """

    def present(self) -> tuple[NetworkState, ...]:
        """Its networks as they are on this host, sorted by name, also those that another process realised.

        Found on the host each time: what has gone is not listed, or has a problem.
        """

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        """What a guest's interface is connected to, as attributes of libvirt's `<source>`: {"bridge": "br7"}.

        The same on every host that has the network, so that guests migrate, and the same for as long as it exists,
        whatever its MTU. Changes nothing, and needs no network that is there.
        """


@dataclass(frozen=True)
class NetworkEntry:
    """A kind of network by name; `open` builds the driver for a host without touching it."""

    name: str
    summary: str
    open: Callable[[NetworkSite], NetworkDriver]
    plugin: str = ""


def check_network(network: NetworkSpec) -> None:
    """Refuse what no kind of network can have: a name of other than letters, digits and `._+-`, 64 at most; an MTU.

    Raises `InvalidInput` for `name` or `mtu`.
    """
    if not NETWORK_NAME.fullmatch(network.name):
        problem = "needs letters, digits, '.', '_', '+' or '-', 64 at most, a letter or digit first"
        raise InvalidInput("name", problem, network.name)
    if not MTU_MIN <= network.mtu <= MTU_MAX:
        raise InvalidInput("mtu", f"must be from {MTU_MIN} to {MTU_MAX} bytes", str(network.mtu))
