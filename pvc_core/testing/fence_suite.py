# SPDX-License-Identifier: Apache-2.0
"""fence_suite: what every fence agent must do; a subclass with a name proves what can be proven without a device.

    from pvc_core.testing.fence_suite import FenceAgentSuite, FenceBench

    class TestAcmePdu(FenceAgentSuite):
        name = "acme-pdu"

        def bench(self):
            return PduBench()  # a device to switch, or a simulation of one: see `FenceBench`

Without a bench the rules about a device are skipped. An agent that has no device, such as one that waits for a
watchdog, passes the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import pytest

from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict, fence, fence_status
from pvc_core.testing.driver_suite import DriverSuite

NODE = "hv1"
SECRET = "Swordfish-4711"


class FenceBench(Protocol):
    """A device that one node hangs on, to be switched in a test. The node is on at the beginning."""

    node: str
    device: Mapping[str, str]
    """The agent's parameters for the device."""

    def is_on(self) -> bool:
        """The truth, past the agent: what the power really is."""

    def refuse(self) -> None:
        """From now on the device takes commands to switch off and does not carry them out."""

    def cut_off(self) -> None:
        """From now on the device cannot be reached."""

    def close(self) -> None:
        """Clean up."""


class FenceAgentSuite(DriverSuite[FenceAgentEntry]):
    """The rules for every fence agent."""

    kind = "fence_agents"

    # ------------------------------------------------------------------------------------------- tools

    def bench(self) -> FenceBench:
        """A device for this test."""
        pytest.skip("bench() gives no device to test the agent with")

    def unreachable(self) -> Mapping[str, str]:
        """Parameters of a device that does not exist; none at all unless this is overridden."""
        return {}

    def verdict(self, request: FenceRequest) -> FenceVerdict:
        """What PVC makes of the agent's answer."""
        return fence(self.entry(), request, self.registry().calls, self.options())

    def status(self, request: FenceRequest) -> FenceStatus:
        """What PVC makes of the agent's answer to a dry check."""
        return fence_status(self.entry(), request, self.registry().calls, self.options())

    @staticmethod
    def request_on(bench: FenceBench) -> FenceRequest:
        """To switch off the node of a bench."""
        return FenceRequest(bench.node, device=bench.device)

    # ------------------------------------------------------------------------------- rules without a device

    def test_it_has_a_deadline(self) -> None:
        deadline_s = self.entry().deadline_s
        assert 0 < deadline_s <= 600, f"{deadline_s:g} s is no time in which a node should be off"

    def test_a_device_that_does_not_exist_confirms_nothing(self) -> None:
        verdict = self.verdict(FenceRequest(NODE, device=self.unreachable()))
        assert verdict.confirmed is False
        assert verdict.detail, "the operator is not told why"

    def test_a_device_that_does_not_exist_says_nothing(self) -> None:
        assert self.status(FenceRequest(NODE, device=self.unreachable())).power == "unknown"

    def test_it_gives_up_within_its_deadline(self) -> None:
        started_s = time.monotonic()
        self.verdict(FenceRequest(NODE, device=self.unreachable()))
        assert time.monotonic() - started_s < self.entry().deadline_s

    def test_no_secret_is_in_what_it_says(self) -> None:
        device = {**self.unreachable(), **dict.fromkeys(self.entry().secrets, SECRET)}
        request = FenceRequest(NODE, device=device, options=self.options())
        said = self._said(self.entry().agent.power_off, request) + self._said(self.entry().agent.status, request)
        assert SECRET not in said, "a secret parameter of the device is shown"

    @staticmethod
    def _said(method: Callable[[FenceRequest], object], request: FenceRequest) -> str:
        """The agent's own words, which PVC would search for secrets before it tells them."""
        try:
            return str(method(request))
        except Exception as error:  # noqa: BLE001 - whatever it raises is said
            return str(error)

    # ----------------------------------------------------------------------------------- rules on a device

    def test_a_node_that_it_has_switched_off_is_off_and_confirmed(self) -> None:
        bench = self.bench()
        try:
            verdict = self.verdict(self.request_on(bench))
            assert verdict.confirmed, verdict.detail
            assert not bench.is_on(), "confirmed, and the node is on"
        finally:
            bench.close()

    def test_a_node_that_is_off_already_is_confirmed_again(self) -> None:
        bench = self.bench()
        try:
            self.verdict(self.request_on(bench))
            again = self.verdict(self.request_on(bench))
            assert again.confirmed, again.detail
        finally:
            bench.close()

    def test_a_device_that_takes_the_command_and_does_nothing_is_not_believed(self) -> None:
        bench = self.bench()
        try:
            bench.refuse()
            assert not self.verdict(self.request_on(bench)).confirmed, "confirmed, and the node is on"
            assert bench.is_on()
        finally:
            bench.close()

    def test_a_device_that_is_cut_off_confirms_nothing(self) -> None:
        bench = self.bench()
        try:
            bench.cut_off()
            assert not self.verdict(self.request_on(bench)).confirmed
            assert self.status(self.request_on(bench)).power == "unknown"
        finally:
            bench.close()

    def test_a_dry_check_tells_the_power_and_changes_nothing(self) -> None:
        bench = self.bench()
        try:
            assert self.status(self.request_on(bench)).power == "on"
            assert bench.is_on(), "a dry check has switched the node off"
            self.verdict(self.request_on(bench))
            assert self.status(self.request_on(bench)).power == "off"
        finally:
            bench.close()
