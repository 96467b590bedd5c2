# SPDX-License-Identifier: Apache-2.0
"""network_bench: what the rules for kinds of networks share: a host to make networks on, and networks to make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from pvc_core.networks import NetworkDriver, NetworkEntry, NetworkSite, NetworkSpec, NetworkState
from pvc_core.testing.driver_suite import DriverSuite

HERE, ELSEWHERE = "hv1", "hv2"
LONG_NAME = "the-network-of-the-accounting-department-in-the-new-building-00"
"""One character less than a name may have."""


class NetworkHost(Protocol):
    """A host to make networks on in a test, such as a network namespace, without any of the driver's at first.

    source: what `NetworkDriver.interface` answers, to which a guest's interface is connected.
    """

    site: NetworkSite

    def mtu(self, source: Mapping[str, str]) -> int | None:
        """The truth, past the driver: the MTU of what is there, None when there is no such thing."""

    def names(self) -> Collection[str]:
        """The truth, past the driver: all that is there, the driver's and what is not."""

    def join(self, source: Mapping[str, str]) -> Callable[[], bool]:
        """Connect a guest, and return the question whether it has been connected ever since."""

    def impair(self, source: Mapping[str, str]) -> None:
        """Make it unusable in a way that the driver can see and mend, as by taking its link down."""

    def take_away(self, source: Mapping[str, str]) -> None:
        """Remove it past the driver, as an administrator does by mistake."""

    def add_foreign(self) -> Mapping[str, str]:
        """Make something that the driver would make as well, by other hands than the driver's; what a guest joins."""

    def close(self) -> None:
        """Clean up."""


@dataclass
class NetworkBench:
    """A host, and the driver that makes networks on it."""

    host: NetworkHost
    driver: NetworkDriver

    def present(self) -> Mapping[str, NetworkState]:
        """The networks that the driver shows, by name."""
        return {state.name: state for state in self.driver.present()}

    def mtu(self, network: NetworkSpec) -> int | None:
        """The truth about a network, None when the host does not have it."""
        return self.host.mtu(self.driver.interface(network))

    def join(self, network: NetworkSpec) -> Callable[[], bool]:
        """Connect a guest to a network, and return the question whether it has been connected ever since."""
        return self.host.join(self.driver.interface(network))

    def assert_has(self, *networks: NetworkSpec) -> None:
        """The host has exactly these networks of the driver's, and they can be used."""
        assert set(self.present()) == {network.name for network in networks}
        for network in networks:
            state = self.present()[network.name]
            assert state.problem == "", f"{network.name} cannot be used: {state.problem}"
            assert (state.mtu, self.mtu(network)) == (network.mtu, network.mtu), f"{network.name} has another MTU"


class NetworkRules(DriverSuite[NetworkEntry]):
    """What an author can override, and the bench that the rules work on."""

    kind = "networks"

    def spec(self, number: int) -> NetworkSpec:
        """A network that can be, another one for each number from 1 to 6; without parameters unless overridden.

        The rules give it other names and MTUs from 1280 to 1500.
        """
        return NetworkSpec(f"net{number}")

    def wrong(self) -> Sequence[tuple[NetworkSpec, Sequence[str]]]:
        """Networks that cannot be, each with the parameters that are missing or wrong; none unless overridden.

        What has a parameter that nobody knows is tried in any case.
        """
        return ()

    def host(self) -> NetworkHost:
        """A host for this test."""
        pytest.skip("host() gives no host to make networks on")

    def driver(self, node: str = HERE, address: str = "192.0.2.1") -> NetworkDriver:
        """The driver on a host of which nothing is wanted but answers."""
        return self.entry().open(NetworkSite(node, address, self.options()))

    def unknown(self, number: int) -> NetworkSpec:
        """A network with a parameter that no driver knows."""
        network = self.spec(number)
        return replace(network, parameters={**network.parameters, "no-such-parameter": "1"})

    def another_driver(self, host: NetworkHost) -> NetworkDriver:
        """The driver as another process on this host has it, or the same one after a restart."""
        return self.entry().open(host.site)

    @contextmanager
    def bench(self) -> Iterator[NetworkBench]:
        """A host and the driver on it, for one test."""
        host = self.host()
        try:
            yield NetworkBench(host, self.another_driver(host))
        finally:
            host.close()
