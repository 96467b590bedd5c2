# SPDX-License-Identifier: Apache-2.0
"""Whatever a fence agent says or raises, no secret of the device comes out of it: not even into a plugin's health."""

from __future__ import annotations

from typing import NoReturn

import pytest

from pvc_core.fence_secrets import sounds_secret, without_secrets
from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict, fence, fence_status
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import NO_OPTIONS

SECRET = "Swordfish-4711"
DEVICE = {"address": "10.0.0.11", "password": SECRET, "pin": "0815-0816", "outlet": "3"}
REQUEST = FenceRequest("hv1", device=DEVICE)


class Careless:
    """Says all that it knows."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        return FenceVerdict(True, f"off: {dict(request.device)}")

    def status(self, request: FenceRequest) -> FenceStatus:
        return FenceStatus("on", f"on: {dict(request.device)}")


class Raising(Careless):
    """Raises all that it knows."""

    def power_off(self, request: FenceRequest) -> NoReturn:
        raise ConnectionError(f"POST https://admin:{request.device['password']}@10.0.0.11 failed")

    def status(self, request: FenceRequest) -> NoReturn:
        self.power_off(request)


@pytest.mark.parametrize("agent", [Careless(), Raising()], ids=["says", "raises"])
def test_no_secret_comes_out_of_an_agent(agent: Careless) -> None:
    calls = PluginCalls()
    entry = FenceAgentEntry("acme", "outlets", agent, secrets=("pin",), plugin="acme")
    verdict, status = fence(entry, REQUEST, calls, NO_OPTIONS), fence_status(entry, REQUEST, calls, NO_OPTIONS)
    told = f"{verdict.detail} {status.detail} {calls.health()}"
    assert "10.0.0.11" in told
    assert "***" in told
    assert SECRET not in told
    assert DEVICE["pin"] not in told


def test_what_an_agent_raises_keeps_its_kind_and_what_is_no_secret() -> None:
    entry = FenceAgentEntry("acme", "outlets", Raising(), plugin="acme")
    verdict = fence(entry, REQUEST, PluginCalls(), NO_OPTIONS)
    assert "ConnectionError: POST https://admin:***@10.0.0.11 failed" in verdict.detail


def test_a_secret_within_another_is_masked_as_a_whole() -> None:
    device = {"password": "secret", "token": "secret-and-more"}
    assert without_secrets("login secret-and-more, secret", device, ()) == "login ***, ***"


def test_a_value_that_is_too_short_to_hide_anything_leaves_the_sentence_readable() -> None:
    assert without_secrets("status 1 on port 11", {"password": "1"}, ()) == "status 1 on port 11"


@pytest.mark.parametrize(
    "name", ["ip", "ipport", "username", "lanplus", "cipher", "power_wait", "plug", "level", "privlvl", "ssh", "pubkey"]
)
def test_what_a_device_mostly_has_is_no_secret_by_its_name(name: str) -> None:
    assert not sounds_secret(name)
