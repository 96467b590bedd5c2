# SPDX-License-Identifier: Apache-2.0
"""network_rules_specs: what a driver says of networks that are only described: whether they can be, and what joins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

from pvc_core.networks import NETWORK_NAME
from pvc_core.testing.network_bench import ELSEWHERE, LONG_NAME, NetworkRules

ATTRIBUTE = re.compile(r"[a-z][a-zA-Z]*")
"""What is a name of an attribute in libvirt's XML."""
ALIKE = ("net", "Net", "net.1", "net-1", "net_1", "net+1", LONG_NAME + "1", LONG_NAME + "2")
"""Names that become one where somebody shortens them or replaces characters."""


class SpecRules(NetworkRules):
    """Rules that need no host."""

    def test_a_network_that_can_be_has_no_problems(self) -> None:
        driver = self.driver()
        for network in (self.spec(1), self.spec(6), replace(self.spec(2), mtu=1280)):
            problems = driver.problems(network)
            assert list(problems) == [], f"{network} cannot be: {problems}"

    def test_a_name_may_have_all_that_names_may_have(self) -> None:
        driver = self.driver()
        for name in ("a", "0", "Aa0._+-", LONG_NAME + "1"):
            assert NETWORK_NAME.fullmatch(name)
            network = replace(self.spec(1), name=name)
            assert list(driver.problems(network)) == [], f"a network cannot be called {name}"
            assert driver.interface(network)

    def test_each_parameter_that_is_wrong_is_told_in_a_sentence_of_its_own(self) -> None:
        driver = self.driver()
        two_unknown = replace(self.unknown(1), parameters={**self.unknown(1).parameters, "nor-this-one": "2"})
        tried = [*self.wrong(), (self.unknown(1), ["no-such-parameter"])]
        for network, parameters in [*tried, (two_unknown, ["no-such-parameter", "nor-this-one"])]:
            problems = driver.problems(network)
            assert not isinstance(problems, str), f"one string instead of sentences: {problems}"
            assert all("\n" not in each for each in problems), f"a sentence has several lines: {problems}"
            assert len(problems) >= len(parameters), f"{parameters} are wrong in {network}, told is: {problems}"
            unnamed = [each for each in parameters if not any(each in problem for problem in problems)]
            assert not unnamed, f"{', '.join(unnamed)} is not named: {problems}"

    def test_an_interface_is_attributes_for_libvirt(self) -> None:
        interface = self.driver().interface(self.spec(1))
        assert isinstance(interface, Mapping), f"{type(interface).__name__} instead of a mapping"
        assert interface, "a guest is connected to nothing"
        for attribute, value in interface.items():
            assert ATTRIBUTE.fullmatch(attribute), f"{attribute!r} is no attribute"
            assert isinstance(value, str), f"{attribute} is {value!r} and no text"
            assert value, f"{attribute} is empty"

    def test_an_interface_is_the_same_on_every_host_and_with_every_mtu(self) -> None:
        network, here = self.spec(1), self.driver()
        interface = here.interface(network)
        assert self.driver(ELSEWHERE, "192.0.2.2").interface(network) == interface, "guests cannot migrate"
        assert here.interface(replace(network, mtu=1400)) == interface, "guests would have to be connected anew"

    def test_networks_with_names_alike_are_different_ones(self) -> None:
        driver, one, other = self.driver(), self.spec(1), self.spec(2)
        for name, alike in permutations(ALIKE, 2):
            interface = driver.interface(replace(one, name=name))
            assert driver.interface(replace(other, name=alike)) != interface, f"{name} and {alike} are one: {interface}"
        assert driver.interface(one) != driver.interface(other), f"{one} and {other} are one"
