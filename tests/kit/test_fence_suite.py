# SPDX-License-Identifier: Apache-2.0
"""The suite for fence agents: the fake device passes it, and every agent that breaks a rule is caught."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from kit.suite_proof import assert_every_rule_can_fail, assert_keeps_all, suite_of, verdicts
from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict
from pvc_core.testing.fake_fence_device import FakeFenceDevice
from pvc_core.testing.fence_suite import FenceAgentSuite


class Bench:
    """One fake device that hv1 hangs on."""

    node = "hv1"
    device: Mapping[str, str] = {"password": "secret"}

    def __init__(self, device: FakeFenceDevice) -> None:
        device.off.clear()
        device.behaviour = "confirms"
        self._device = device

    def is_on(self) -> bool:
        return self._device.power_of(self.node) == "on"

    def refuse(self) -> None:
        self._device.behaviour = "lies"

    def cut_off(self) -> None:
        self._device.behaviour = "breaks"

    def close(self) -> None: ...


class Device(FakeFenceDevice):
    """The fake, to be broken in one method."""

    def __init__(self) -> None:
        super().__init__(password="secret")


class Trusting(Device):
    """Believes that a command which was accepted was carried out."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        super().power_off(request)
        return FenceVerdict(True, "the command was accepted")


class Optimist(Device):
    """Takes silence for success."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        try:
            return super().power_off(request)
        except Exception:  # noqa: BLE001
            return FenceVerdict(True, "nothing answers any more, so it must be off")


class Idle(Device):
    """Confirms and does nothing."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        self._connect("power_off", request)
        return FenceVerdict(self.behaviour == "confirms", "off")


class Once(Device):
    """Takes "is off already" for a failure."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        if request.node in self.off:
            return FenceVerdict(False, "it is not on")
        return super().power_off(request)


class Eager(Device):
    """Switches off to see whether it could."""

    def status(self, request: FenceRequest) -> FenceStatus:
        super().power_off(request)
        return FenceStatus("on")


class Blind(Device):
    """Says "on" whatever it could find out."""

    def status(self, request: FenceRequest) -> FenceStatus:
        return FenceStatus("on", "it was on when it was installed")


class Talkative(Device):
    """Shows the password in its error."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        raise ConnectionError(f"login with {dict(request.device)} failed")


class Slow(Device):
    """Tries for longer than its deadline."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        time.sleep(0.05)
        return FenceVerdict(False, "gave up")


class Silent(Device):
    """Does not say why."""

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        return FenceVerdict(True, "off") if request.device.get("password") == "secret" else FenceVerdict(True, "")


def suite_for(device: FakeFenceDevice, **entry: Any) -> type[Any]:
    fields = {"summary": "a device in memory", "deadline_s": 5.0, "secrets": ("password",), **entry}
    registered = FenceAgentEntry("fake", agent=device, **fields)
    return suite_of(FenceAgentSuite, registered, bench=lambda self: Bench(device))


BROKEN: list[tuple[str, FakeFenceDevice, dict[str, Any]]] = [
    ("test_its_summary_is_one_line", Device(), {"summary": ""}),
    ("test_it_has_a_deadline", Device(), {"deadline_s": 0.0}),
    ("test_it_has_a_deadline", Device(), {"deadline_s": float("inf")}),
    ("test_a_device_that_does_not_exist_confirms_nothing", Optimist(), {}),
    ("test_a_device_that_does_not_exist_confirms_nothing", Silent(), {}),
    ("test_a_device_that_does_not_exist_says_nothing", Blind(), {}),
    ("test_it_gives_up_within_its_deadline", Slow(), {"deadline_s": 0.01}),
    ("test_no_secret_is_in_what_it_says", Talkative(), {}),
    ("test_a_node_that_it_has_switched_off_is_off_and_confirmed", Idle(), {}),
    ("test_a_node_that_is_off_already_is_confirmed_again", Once(), {}),
    ("test_a_device_that_takes_the_command_and_does_nothing_is_not_believed", Trusting(), {}),
    ("test_a_device_that_is_cut_off_confirms_nothing", Optimist(), {}),
    ("test_a_device_that_is_cut_off_confirms_nothing", Blind(), {}),
    ("test_a_dry_check_tells_the_power_and_changes_nothing", Eager(), {}),
    ("test_a_dry_check_tells_the_power_and_changes_nothing", Blind(), {}),
]


def test_the_fake_device_passes() -> None:
    assert_keeps_all(suite_for(Device()))


def test_without_a_bench_the_rules_about_a_device_are_skipped_and_said_to_be() -> None:
    found = verdicts(suite_of(FenceAgentSuite, Device().entry()))
    assert set(found.values()) == {"kept", "skipped"}
    assert found["test_a_node_that_is_off_already_is_confirmed_again"] == "skipped"
    assert found["test_a_device_that_does_not_exist_confirms_nothing"] == "kept"


@pytest.mark.parametrize(
    ("rule", "device", "entry"), BROKEN, ids=[f"{type(device).__name__}-{n}" for n, (_, device, _) in enumerate(BROKEN)]
)
def test_the_suite_catches_a_broken_agent(rule: str, device: FakeFenceDevice, entry: dict[str, Any]) -> None:
    verdict = verdicts(suite_for(device, **entry))[rule]
    assert verdict not in ("kept", "skipped")


def test_every_rule_for_fence_agents_can_fail() -> None:
    assert_every_rule_can_fail(FenceAgentSuite, [rule for rule, _, _ in BROKEN])
