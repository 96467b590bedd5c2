# SPDX-License-Identifier: Apache-2.0
"""The suite for kinds of networks: the one in memory passes it, and every driver that breaks a rule is caught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kit import broken_networks
from kit.broken_networks import Broken
from kit.suite_proof import assert_every_rule_can_fail, assert_keeps_all, suite_of, verdicts
from pvc_core.networks import NetworkSpec
from pvc_core.testing.memory_networks import MemoryNetworkDriver, MemoryNetworks
from pvc_core.testing.network_suite import NetworkDriverSuite

BROKEN = [
    found
    for found in vars(broken_networks).values()
    if isinstance(found, type) and issubclass(found, Broken) and found.breaks
]
CAUGHT = [(f"test_{rule}", broken) for broken in BROKEN for rule in broken.breaks]
WRONG = [(NetworkSpec("net1", parameters={"vlan": "4095"}), ["vlan"])]


def by_vlan(self: object, number: int) -> NetworkSpec:
    return NetworkSpec(f"net{number}", parameters={"vlan": str(number)})


class ByVlan(MemoryNetworkDriver):
    """Calls a network's link after its VLAN."""

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        return {"bridge": f"br{network.parameters.get('vlan', '1')}"}


def suite_for(networks: MemoryNetworks, **overridden: Any) -> type[Any]:
    given = {"host": lambda self: networks.new_host(), "wrong": lambda self: WRONG, **overridden}
    return suite_of(NetworkDriverSuite, networks.entry(), **given)


def test_the_networks_in_memory_pass() -> None:
    assert_keeps_all(suite_for(MemoryNetworks()))


def test_networks_that_are_what_their_parameters_say_pass() -> None:
    assert_keeps_all(suite_for(MemoryNetworks(ByVlan), spec=by_vlan))


def test_without_a_host_the_rules_about_one_are_skipped_and_said_to_be() -> None:
    networks = MemoryNetworks()
    found = verdicts(suite_of(NetworkDriverSuite, networks.entry()))
    assert set(found.values()) == {"kept", "skipped"}
    assert found["test_what_is_realised_is_there"] == "skipped"
    assert found["test_an_interface_is_attributes_for_libvirt"] == "kept"
    assert list(networks.host("hv1").links) == []


@pytest.mark.parametrize(("rule", "broken"), CAUGHT, ids=[f"{broken.__name__}-{rule}" for rule, broken in CAUGHT])
def test_the_suite_catches_a_broken_driver(rule: str, broken: type[Broken]) -> None:
    assert verdicts(suite_for(MemoryNetworks(broken)), rule)[rule] not in ("kept", "skipped")


def test_the_suite_catches_an_entry_without_a_summary() -> None:
    networks = MemoryNetworks()
    suite = suite_of(NetworkDriverSuite, replace(networks.entry(), summary=""))
    assert verdicts(suite)["test_its_summary_is_one_line"] not in ("kept", "skipped")


def test_every_rule_for_kinds_of_networks_can_fail() -> None:
    assert_every_rule_can_fail(NetworkDriverSuite, ["test_its_summary_is_one_line", *(rule for rule, _ in CAUGHT)])
