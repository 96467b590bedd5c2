# SPDX-License-Identifier: Apache-2.0
"""The real fence_ipmilan switches a node off over IPMI, by way of a BMC that may be dead, silent or disobedient."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pvc_core.fencing import FenceRequest
from pvc_core.testing.fence_suite import FenceAgentSuite
from pvc_lab.bmc import Bmc
from pvc_lab.free_ports import free_port

pytestmark = pytest.mark.lab
PASSWORD = 'a "b" $c; #\\'
"""With what a shell or a parser could trip over; IPMI allows 20 characters."""


def device_at(port: int, **further: str) -> Mapping[str, str]:
    """A BMC on this machine, with the waiting that a test needs."""
    return {
        "agent": "fence_ipmilan",
        "ip": "127.0.0.1",
        "ipport": str(port),
        "username": "admin",
        "password": PASSWORD,
        "lanplus": "1",
        "cipher": "3",
        "power_wait": "0",
        "power_timeout": "2",
        "ipmitool_timeout": "1",
        **further,
    }


class BmcBench:
    """hv1, which hangs on a BMC."""

    node = "hv1"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._told: list[str] = []
        self.bmc = Bmc(Path(self._folder.name), port=None, user="admin", password=PASSWORD, on_power=self._told.append)
        self.bmc.start()
        self.device = device_at(self.bmc.port)

    def is_on(self) -> bool:
        return self._told[-1:] != ["off"]

    def refuse(self) -> None:
        self.bmc.ignore_commands()

    def cut_off(self) -> None:
        self.bmc.silence()

    def close(self) -> None:
        self.bmc.stop()
        self._folder.cleanup()


class TestFenceIpmilan(FenceAgentSuite):
    """What every fence agent must do."""

    name = "fence-agents"

    def bench(self) -> BmcBench:
        return BmcBench()

    def unreachable(self) -> Mapping[str, str]:
        return device_at(free_port(kind=socket.SOCK_DGRAM))


@pytest.fixture
def bench() -> Iterator[BmcBench]:
    bench = BmcBench()
    yield bench
    bench.close()


@pytest.mark.parametrize("fail", [Bmc.stop, Bmc.silence], ids=["dead", "silent"])
def test_a_bmc_that_is_dead_or_silent_confirms_nothing(bench: BmcBench, fail: Callable[[Bmc], None]) -> None:
    suite = TestFenceIpmilan()
    fail(bench.bmc)
    verdict = suite.verdict(suite.request_on(bench))
    assert (verdict.confirmed, bench.is_on()) == (False, True)
    assert "fence_ipmilan did not switch off, status 1" in verdict.detail


def test_a_wrong_password_confirms_nothing_and_is_not_told(bench: BmcBench) -> None:
    suite = TestFenceIpmilan()
    wrong = {**bench.device, "password": "Wrong-Password-1"}
    request = replace(suite.request_on(bench), device=wrong)
    verdict, status = suite.verdict(request), suite.status(request)
    assert (verdict.confirmed, status.power, bench.is_on()) == (False, "unknown", True)
    assert "Wrong" not in verdict.detail + status.detail


def test_what_it_says_names_the_device(bench: BmcBench) -> None:
    suite = TestFenceIpmilan()
    assert suite.status(suite.request_on(bench)).detail == "fence_ipmilan at 127.0.0.1 answers"
    assert suite.verdict(suite.request_on(bench)).detail == "fence_ipmilan at 127.0.0.1 says that hv1 is off"


def test_parameters_are_checked_by_what_the_executable_describes() -> None:
    suite = TestFenceIpmilan()
    from pvc_core.fencing import device_problems

    given = FenceRequest("hv1", device=device_at(623, pasword="x", ipmitool_path="/tmp/mine"))
    problems = device_problems(suite.entry(), given, suite.registry().calls, suite.options())
    assert sorted(problems) == ["ipmitool_path", "pasword"]
    assert "fence_ipmilan has no such parameter; it has auth, cipher" in problems["pasword"]
    assert "would choose what a node runs" in problems["ipmitool_path"]


def test_agents_that_know_no_status_are_refused() -> None:
    suite = TestFenceIpmilan()
    from pvc_core.fencing import device_problems

    given = FenceRequest("hv1", device={"agent": "fence_kdump"})
    problems = device_problems(suite.entry(), given, suite.registry().calls, suite.options())
    assert "cannot tell that a node is off" in problems["agent"]
