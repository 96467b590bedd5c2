# SPDX-License-Identifier: Apache-2.0
"""network_rules_hosts: a host has exactly the networks that were asked for, and nothing else on it is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from pvc_core.errors import PvcError
from pvc_core.networks import NetworkState
from pvc_core.testing.network_bench import LONG_NAME, NetworkRules

AT_ONCE = 4
ROUNDS = 5


class HostRules(NetworkRules):
    """Rules on a host."""

    # ---------------------------------------------------------------------------------- what is asked for

    def test_what_is_realised_is_there(self) -> None:
        with self.bench() as bench:
            assert bench.present() == {}, "a new host has networks"
            networks = [self.spec(1), replace(self.spec(2), mtu=1400)]
            bench.driver.realise(networks)
            bench.assert_has(*networks)
            assert all(type(state) is NetworkState for state in bench.driver.present())

    def test_networks_are_listed_sorted_by_name(self) -> None:
        with self.bench() as bench:
            networks = [replace(self.spec(number), name=name) for number, name in enumerate(("c", "a", "b"), start=1)]
            bench.driver.realise(networks)
            assert [state.name for state in bench.driver.present()] == ["a", "b", "c"]

    def test_networks_with_long_names_alike_are_there_side_by_side(self) -> None:
        with self.bench() as bench:
            networks = [replace(self.spec(number), name=f"{LONG_NAME}{number}") for number in (1, 2)]
            bench.driver.realise(networks)
            bench.assert_has(*networks)

    def test_what_is_not_named_any_more_is_removed(self) -> None:
        with self.bench() as bench:
            first, second, third = self.spec(1), self.spec(2), self.spec(3)
            bench.driver.realise([first, second])
            bench.driver.realise([second, third])
            bench.assert_has(second, third)
            assert bench.mtu(first) is None, f"{first.name} is not listed, and is there"
            bench.driver.realise([])
            bench.assert_has()
            assert (bench.mtu(second), bench.mtu(third)) == (None, None), "not listed, and there"

    def test_nothing_is_left_behind(self) -> None:
        with self.bench() as bench:
            before = set(bench.host.names())
            bench.driver.realise([self.spec(1), self.spec(2)])
            bench.driver.realise([])
            assert set(bench.host.names()) == before

    def test_another_mtu_is_adjusted(self) -> None:
        with self.bench() as bench:
            for mtu in (1500, 1400, 1500):
                network = replace(self.spec(1), mtu=mtu)
                bench.driver.realise([network])
                bench.assert_has(network)

    def test_what_has_gone_is_not_shown_as_usable_and_is_made_again(self) -> None:
        with self.bench() as bench:
            gone, stays = self.spec(1), self.spec(2)
            bench.driver.realise([gone, stays])
            bench.host.take_away(bench.driver.interface(gone))
            state = bench.present().get(gone.name)
            assert state is None or state.problem, "what is not there is shown as usable"
            assert bench.present()[stays.name].problem == ""
            bench.driver.realise([gone, stays])
            bench.assert_has(gone, stays)

    def test_what_guests_cannot_use_has_a_problem_until_it_is_realised_again(self) -> None:
        with self.bench() as bench:
            impaired, healthy = self.spec(1), self.spec(2)
            bench.driver.realise([impaired, healthy])
            bench.host.impair(bench.driver.interface(impaired))
            problem = bench.present()[impaired.name].problem
            assert problem, "what guests cannot use is shown as usable"
            assert "\n" not in problem, "the problem has several lines"
            assert bench.present()[healthy.name].problem == ""
            bench.driver.realise([impaired, healthy])
            bench.assert_has(impaired, healthy)

    # --------------------------------------------------------------------------------- what is not touched

    def test_guests_stay_connected_whatever_becomes_of_other_networks(self) -> None:
        with self.bench() as bench:
            network, other = self.spec(1), self.spec(2)
            bench.driver.realise([network])
            is_connected = bench.join(network)
            for networks in ([network], [other, network], [network], [replace(network, mtu=1400)]):
                bench.driver.realise(networks)
                assert is_connected(), f"a guest has lost {network.name} by {networks}"

    def test_what_the_driver_has_not_made_is_neither_listed_nor_touched(self) -> None:
        with self.bench() as bench:
            foreign = bench.host.add_foreign()
            mtu, is_connected = bench.host.mtu(foreign), bench.host.join(foreign)
            before = set(bench.host.names())
            for networks in ([], [self.spec(1)], []):
                bench.driver.realise(networks)
                bench.assert_has(*networks)
                assert bench.host.mtu(foreign) == mtu, "what the driver has not made has changed or gone"
                assert is_connected(), "a guest has lost what the driver has not made"
            assert before <= set(bench.host.names())

    def test_questions_change_nothing(self) -> None:
        with self.bench() as bench:
            bench.driver.realise([self.spec(1)])
            before = set(bench.host.names())
            asked = self.another_driver(bench.host)
            for network in (self.spec(1), self.spec(2), self.unknown(3)):
                asked.problems(network)
            asked.interface(self.spec(2))
            asked.present()
            assert set(bench.host.names()) == before
            bench.assert_has(self.spec(1))

    # ------------------------------------------------------------------------------ other processes, threads

    def test_what_another_process_has_realised_is_found_kept_and_removed(self) -> None:
        with self.bench() as bench:
            kept, removed = self.spec(1), self.spec(2)
            self.another_driver(bench.host).realise([kept, removed])
            bench.assert_has(kept, removed)
            is_connected = bench.join(kept)
            bench.driver.realise([kept])
            bench.assert_has(kept)
            assert bench.mtu(removed) is None, "what another process has made is there"
            assert is_connected(), "what another process has made was made anew"

    def test_calls_at_once_do_not_disturb_one_another(self) -> None:
        with self.bench() as bench:
            networks = [self.spec(number) for number in (1, 2, 3)]
            names = sorted(network.name for network in networks)

            def make() -> None:
                bench.driver.realise(networks)

            def look() -> None:
                listed = [state.name for state in bench.driver.present()]
                assert listed == names, f"{names} are there all the while, and listed are {listed}"

            _at_once([make] * AT_ONCE)
            bench.assert_has(*networks)
            _at_once([make, look] * AT_ONCE)
            bench.assert_has(*networks)

    # --------------------------------------------------------------------------------------- what cannot be

    def test_what_cannot_be_realised_is_named_and_the_others_are_there(self) -> None:
        with self.bench() as bench:
            stays, new, goes = self.spec(1), self.spec(2), self.spec(5)
            first, last = self.unknown(3), self.unknown(4)
            bench.driver.realise([stays, goes])
            is_connected = bench.join(stays)
            with pytest.raises(PvcError) as raised:
                bench.driver.realise([first, stays, new, last])
            said = str(raised.value)
            unnamed = [network.name for network in (first, last) if network.name not in said]
            assert not unnamed, f"{', '.join(unnamed)} is not named: {said}"
            bench.assert_has(stays, new)
            assert is_connected(), f"a guest has lost {stays.name} by networks that cannot be"
            assert bench.mtu(goes) is None, f"{goes.name} was not removed"


def _at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Make each of these calls some times, all beginning at the same moment; none may raise."""
    ready = Barrier(len(calls))

    def repeat(call: Callable[[], None]) -> None:
        ready.wait()
        for _ in range(ROUNDS):
            call()

    with ThreadPoolExecutor(len(calls)) as threads:
        asked = [threads.submit(repeat, call) for call in calls]
    failures = [error for each in asked if (error := each.exception()) is not None]
    assert not failures, f"calls at once disturb one another: {failures}"
