# SPDX-License-Identifier: Apache-2.0
"""broken_networks: kinds of networks with one mistake each, as they are made in earnest, and the rules they break.

Every class is the driver in memory but for one method. `breaks` names the rules that have to notice.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pvc_core.errors import AlreadyExists, Refused
from pvc_core.networks import NetworkSpec, NetworkState
from pvc_core.testing.memory_networks import Link, MemoryHost, MemoryNetworkDriver

PAUSE_S = 0.001
"""Between looking and acting, where a driver does both without a lock."""


class Broken(MemoryNetworkDriver):
    """The driver in memory, to be broken in one method."""

    breaks: ClassVar[tuple[str, ...]] = ()
    """Rules, without "test_"."""


# ------------------------------------------------------------------------------------------ descriptions


class Mandatory(Broken):
    """Wants a parameter that the author of the suite's subclass has not given."""

    breaks = ("a_network_that_can_be_has_no_problems",)

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        return [*super().problems(network), *([] if "vlan" in network.parameters else ["vlan is missing"])]


class ShortNames(Broken):
    """Wants names that are those of links."""

    breaks = ("a_name_may_have_all_that_names_may_have", "networks_with_long_names_alike_are_there_side_by_side")

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        too_long = ["the name has more than 15 characters"] if len(network.name) > 15 else []
        return [*super().problems(network), *too_long]


class Indifferent(Broken):
    """Does not look for parameters that it does not know."""

    breaks = (
        "each_parameter_that_is_wrong_is_told_in_a_sentence_of_its_own",
        "what_cannot_be_realised_is_named_and_the_others_are_there",
    )

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        known = {name: value for name, value in network.parameters.items() if name == "vlan"}
        return super().problems(replace(network, parameters=known))


class AnyValue(Broken):
    """Knows its parameters, and does not look at their values."""

    breaks = ("each_parameter_that_is_wrong_is_told_in_a_sentence_of_its_own",)

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        return [problem for problem in super().problems(network) if not problem.startswith("vlan")]


class FirstProblem(Broken):
    """Tells one problem at a time."""

    breaks = ("each_parameter_that_is_wrong_is_told_in_a_sentence_of_its_own",)

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        return super().problems(network)[:1]


class OneString(Broken):
    """Answers with a string, which is a sequence as well."""

    breaks = ("each_parameter_that_is_wrong_is_told_in_a_sentence_of_its_own",)

    def problems(self, network: NetworkSpec) -> Sequence[str]:
        return "; ".join(super().problems(network))


class NamesTheBridge(Broken):
    """Answers with a name and not with attributes."""

    breaks = ("an_interface_is_attributes_for_libvirt",)

    def interface(self, network: NetworkSpec) -> Any:
        return super().interface(network)["bridge"]


class Numbers(Broken):
    """Has a number for an attribute."""

    breaks = ("an_interface_is_attributes_for_libvirt",)

    def interface(self, network: NetworkSpec) -> Any:
        return {**super().interface(network), "vlan": 7}


class PerHost(Broken):
    """Names what guests join after the host."""

    breaks = ("an_interface_is_the_same_on_every_host_and_with_every_mtu",)

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        return {"bridge": f"{super().interface(network)['bridge'][:9]}-{self.host.site.node}"}


class PerMtu(Broken):
    """Makes another link for another MTU."""

    breaks = (
        "an_interface_is_the_same_on_every_host_and_with_every_mtu",
        "guests_stay_connected_whatever_becomes_of_other_networks",
    )

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        return {"bridge": f"{super().interface(network)['bridge'][:9]}-{network.mtu}"}

    def make(self, network: NetworkSpec) -> None:
        super().make(network)
        for name, link in self.own_links().items():
            if link.network == network.name and link.mtu != network.mtu:
                del self.host.links[name]


class Truncates(Broken):
    """Cuts the name of a network to that of a link."""

    breaks = (
        "networks_with_names_alike_are_different_ones",
        "networks_with_long_names_alike_are_there_side_by_side",
    )

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        return {"bridge": network.name[:15]}


class Sanitises(Broken):
    """Replaces what it does not like in a name."""

    breaks = ("networks_with_names_alike_are_different_ones",)

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        return {"bridge": "".join(each if each.isalnum() else "-" for each in network.name)}


# ------------------------------------------------------------------------------------------------- hosts


class OnPaper(Broken):
    """Remembers what it was told, and makes nothing."""

    breaks = ("what_is_realised_is_there", "what_another_process_has_realised_is_found_kept_and_removed")
    told: tuple[NetworkState, ...] = ()

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        self.told = tuple(NetworkState(network.name, network.mtu) for network in networks)

    def present(self) -> tuple[NetworkState, ...]:
        return self.told


class IgnoresMtu(Broken):
    """Makes every link as links are by default."""

    breaks = ("what_is_realised_is_there", "another_mtu_is_adjusted")

    def make(self, network: NetworkSpec) -> None:
        super().make(replace(network, mtu=1500))


class ByLink(Broken):
    """Lists networks by the names of their links."""

    breaks = ("networks_are_listed_sorted_by_name",)

    def present(self) -> tuple[NetworkState, ...]:
        names = {link.network: name for name, link in self.own_links().items()}
        return tuple(sorted(super().present(), key=lambda state: names[state.name]))


class OnlyAdds(Broken):
    """Removes nothing."""

    breaks = ("what_is_not_named_any_more_is_removed", "nothing_is_left_behind")

    def remove_all_but(self, networks: Collection[str]) -> None: ...


class NoneIsNothing(Broken):
    """Takes an empty list for nothing to do."""

    breaks = ("what_is_not_named_any_more_is_removed",)

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        if networks:
            super().realise(networks)


class LeavesPorts(Broken):
    """Makes two links for a network and removes one."""

    breaks = ("nothing_is_left_behind",)

    def make(self, network: NetworkSpec) -> None:
        super().make(network)
        self.host.links.setdefault(f"{self.interface(network)['bridge'][:12]}.up", Link(network.mtu))


class SetsMtuOnce(Broken):
    """Sets the MTU when it makes a link, and not later."""

    breaks = ("another_mtu_is_adjusted",)

    def make(self, network: NetworkSpec) -> None:
        link = self.host.links.get(self.interface(network)["bridge"])
        super().make(network if link is None else replace(network, mtu=link.mtu))


class Remembers(Broken):
    """Believes that what it has made is there."""

    breaks = ("what_has_gone_is_not_shown_as_usable_and_is_made_again",)

    def __init__(self, host: MemoryHost) -> None:
        super().__init__(host)
        self.made: set[str] = set()

    def make(self, network: NetworkSpec) -> None:
        if network.name not in self.made:
            super().make(network)
            self.made.add(network.name)


class AlwaysWell(Broken):
    """Does not look whether a link is up."""

    breaks = ("what_guests_cannot_use_has_a_problem_until_it_is_realised_again",)

    def present(self) -> tuple[NetworkState, ...]:
        return tuple(replace(state, problem="") for state in super().present())


class NeverMends(Broken):
    """Leaves a link that is down as it is."""

    breaks = ("what_guests_cannot_use_has_a_problem_until_it_is_realised_again",)

    def make(self, network: NetworkSpec) -> None:
        link = self.host.links.get(self.interface(network)["bridge"])
        was_up = link is None or link.is_up
        super().make(network)
        self.host.links[self.interface(network)["bridge"]].is_up = was_up


class MakesAnew(Broken):
    """Removes all and makes what is wanted."""

    breaks = (
        "guests_stay_connected_whatever_becomes_of_other_networks",
        "what_another_process_has_realised_is_found_kept_and_removed",
        "what_cannot_be_realised_is_named_and_the_others_are_there",
    )

    def remove_all_but(self, networks: Collection[str]) -> None:
        super().remove_all_but(())


class OwnsAll(Broken):
    """Takes every bridge of the host for its own."""

    breaks = ("what_the_driver_has_not_made_is_neither_listed_nor_touched",)

    def own_links(self) -> Mapping[str, Link]:
        for name, link in self.host.links.items():
            link.network = link.network or name
        return super().own_links()


class ByPrefix(Broken):
    """Knows its own by how their names begin, and removes what it does not know."""

    breaks = ("what_the_driver_has_not_made_is_neither_listed_nor_touched",)

    def remove_all_but(self, networks: Collection[str]) -> None:
        super().remove_all_but(networks)
        for name, link in list(self.host.links.items()):
            if name.startswith("br") and link.network not in networks:
                del self.host.links[name]


class MakesToAsk(Broken):
    """Makes the link to find out what it is called."""

    breaks = ("questions_change_nothing",)

    def interface(self, network: NetworkSpec) -> Mapping[str, str]:
        interface = super().interface(network)
        self.host.links.setdefault(interface["bridge"], Link(network.mtu, network.name))
        return interface


class OnlyItsOwn(Broken):
    """Knows the networks that this very process has made."""

    breaks = ("what_another_process_has_realised_is_found_kept_and_removed",)

    def __init__(self, host: MemoryHost) -> None:
        super().__init__(host)
        self.made: set[str] = set()

    def own_links(self) -> Mapping[str, Link]:
        return {name: link for name, link in super().own_links().items() if link.network in self.made}

    def make(self, network: NetworkSpec) -> None:
        super().make(network)
        self.made.add(network.name)


class ListsWhileItChanges(Broken):
    """Takes a link away for a moment while it adjusts it, and looks without a lock."""

    breaks = ("calls_at_once_do_not_disturb_one_another",)

    def present(self) -> tuple[NetworkState, ...]:
        names = list(self.own_links())
        time.sleep(PAUSE_S)
        found = [self.host.links[name] for name in names]
        return tuple(sorted((NetworkState(link.network, link.mtu) for link in found), key=lambda state: state.name))

    def make(self, network: NetworkSpec) -> None:
        link = self.host.links.pop(self.interface(network)["bridge"], Link(network.mtu, network.name))
        time.sleep(PAUSE_S)
        self.host.links[self.interface(network)["bridge"]] = link
        super().make(network)


class MakesAtOnce(Broken):
    """Looks what is missing, and makes it a moment later, when another has."""

    breaks = ("calls_at_once_do_not_disturb_one_another",)

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        missing = [each for each in networks if each.name not in {state.name for state in self.present()}]
        time.sleep(PAUSE_S)
        for network in missing:
            if self.interface(network)["bridge"] in self.host.links:
                raise AlreadyExists("link", network.name)
            super().make(network)


class StopsAtTheFirst(Broken):
    """Raises at the first network that cannot be."""

    breaks = ("what_cannot_be_realised_is_named_and_the_others_are_there",)

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        for network in networks:
            if self.problems(network):
                raise Refused(network.name, "cannot be")
        super().realise(networks)


class SwallowsFailures(Broken):
    """Makes what can be, and says nothing of the rest."""

    breaks = ("what_cannot_be_realised_is_named_and_the_others_are_there",)

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        super().realise([network for network in networks if not self.problems(network)])


class NamesTheFirst(Broken):
    """Makes what can be, and names one of those that cannot."""

    breaks = ("what_cannot_be_realised_is_named_and_the_others_are_there",)

    def realise(self, networks: Sequence[NetworkSpec]) -> None:
        super().realise([network for network in networks if not self.problems(network)])
        for network in networks:
            if self.problems(network):
                raise Refused(network.name, "cannot be")
