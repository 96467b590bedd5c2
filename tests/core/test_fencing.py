# SPDX-License-Identifier: Apache-2.0
"""Fencing fails closed: whatever is not a clear confirmation leaves the node unfenced, with the reason."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pvc_core.fencing import (
    FenceAgentEntry,
    FenceDevice,
    FenceRequest,
    FenceStatus,
    FenceVerdict,
    fence,
    fence_node,
    fence_status,
)
from pvc_core.plugin_calls import PluginCalls
from pvc_core.plugin_types import NO_OPTIONS, PluginOptions
from pvc_core.storage import StorageBackendEntry, fence_clients
from pvc_core.testing.fake_fence_device import FakeFenceDevice

REQUEST = FenceRequest("hv1")


class EqualsEverything:
    """Equal to True, true when asked, and still no confirmation."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(True)

    def __bool__(self) -> bool:
        return True


class LooksLikeAVerdict:
    """Has what a verdict has."""

    confirmed = True
    detail = "off, honestly"


class Changing(FenceVerdict):
    """A verdict that makes up its mind when it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        return True if name == "confirmed" else super().__getattribute__(name)


class UnspeakableDetail:
    """Raises as soon as anybody looks at it."""

    def __bool__(self) -> bool:
        raise RuntimeError("do not look")

    __str__ = __repr__ = lambda self: 1 / 0  # type: ignore[assignment,return-value]


def raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


class Agent:
    """Answers both questions with what a function says."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        verdict: FenceVerdict = self._answer()
        return verdict

    def status(self, request: FenceRequest) -> FenceStatus:
        status: FenceStatus = self._answer()
        return status

    def fence_clients(self, request: FenceRequest) -> FenceVerdict:
        return self.power_off(request)

    def admit_clients(self, request: FenceRequest) -> None: ...


GARBAGE: list[Callable[[], Any]] = [
    raising(OSError("no route")),
    raising(SystemExit(0)),
    lambda: sys.exit("bye"),
    raising(GeneratorExit()),
    lambda: True,
    lambda: None,
    lambda: 1,
    lambda: "off",
    lambda: "confirmed",
    lambda: {"confirmed": True, "detail": "off"},
    lambda: (True, "off"),
    EqualsEverything,
    LooksLikeAVerdict,
    lambda: FenceVerdict,
    lambda: Changing(False, "still on"),
    lambda: FenceVerdict("yes", "off"),  # type: ignore[arg-type]
    lambda: FenceVerdict("false", "off"),  # type: ignore[arg-type]
    lambda: FenceVerdict(1, "off"),
    lambda: FenceVerdict(EqualsEverything(), "off"),  # type: ignore[arg-type]
    lambda: FenceVerdict(None, "off"),  # type: ignore[arg-type]
    lambda: FenceVerdict(False, UnspeakableDetail()),  # type: ignore[arg-type]
    lambda: FenceVerdict(False, ""),
]


@pytest.mark.parametrize("answer", GARBAGE)
def test_whatever_is_no_confirmation_leaves_the_node_unfenced(answer: Callable[[], Any]) -> None:
    entry = FenceAgentEntry("acme", "a device", Agent(answer), plugin="acme-plugin")
    verdict = fence(entry, REQUEST, PluginCalls(), NO_OPTIONS)
    assert verdict.confirmed is False
    assert verdict.detail.startswith("fence agent acme: ")
    assert len(verdict.detail) > len("fence agent acme: ")


@pytest.mark.parametrize("answer", GARBAGE)
def test_storage_that_shuts_a_node_out_fails_closed_in_the_same_way(answer: Callable[[], Any]) -> None:
    agent = Agent(answer)
    entry = StorageBackendEntry("acme", "volumes", open=lambda site: pytest.fail("nobody opens it"))
    verdict = fence_clients(entry, agent, REQUEST, PluginCalls(), NO_OPTIONS)
    assert verdict.confirmed is False
    assert verdict.detail.startswith("storage backend acme: ")


@pytest.mark.parametrize("answer", [*GARBAGE, lambda: FenceStatus("perhaps"), lambda: "on"])  # type: ignore[arg-type]
def test_a_dry_check_that_fails_knows_nothing_and_says_why(answer: Callable[[], Any]) -> None:
    status = fence_status(FenceAgentEntry("acme", "a device", Agent(answer)), REQUEST, PluginCalls(), NO_OPTIONS)
    assert status.power == "unknown"
    assert status.detail.startswith("fence agent acme: ")


def test_a_confirmation_is_taken_as_it_is() -> None:
    device = FakeFenceDevice()
    verdict = fence(device.entry(), REQUEST, PluginCalls(), NO_OPTIONS)
    assert verdict == FenceVerdict(True, "the device says that hv1 is off")
    assert device.power_of("hv1") == "off"


def test_a_confirmation_with_an_odd_detail_is_still_one_and_its_detail_is_dropped() -> None:
    entry = FenceAgentEntry("acme", "a device", Agent(lambda: FenceVerdict(True, UnspeakableDetail())))  # type: ignore[arg-type]
    assert fence(entry, REQUEST, PluginCalls(), NO_OPTIONS) == FenceVerdict(True, "")


def test_a_devices_parameters_are_in_no_representation() -> None:
    request = FenceRequest("hv1", device={"password": "Swordfish"})
    device = FenceDevice("fake", {"password": "Swordfish"})
    assert "Swordfish" not in f"{request!r} {device!r} {request} {device}"


# ----------------------------------------------------------------------------------------- several devices


def fenced(devices: list[FenceDevice], agents: Mapping[str, FakeFenceDevice]) -> FenceVerdict:
    entries = {name: device.entry() for name, device in agents.items()}
    return fence_node(REQUEST, devices, entries, PluginCalls(), lambda plugin: PluginOptions(plugin, None))


def a_device(name: str, behaviour: Any = "confirms") -> FakeFenceDevice:
    return FakeFenceDevice(behaviour, name)


def test_the_first_level_that_confirms_is_enough() -> None:
    agents = {"bmc": a_device("bmc"), "pdu": a_device("pdu")}
    assert fenced([FenceDevice("pdu", level=2), FenceDevice("bmc", level=1)], agents).confirmed
    assert agents["bmc"].asked == [("power_off", "hv1")]
    assert agents["pdu"].asked == []


def test_the_next_level_is_tried_when_one_does_not_confirm() -> None:
    agents = {"bmc": a_device("bmc", "breaks"), "pdu": a_device("pdu")}
    verdict = fenced([FenceDevice("bmc"), FenceDevice("pdu", level=2)], agents)
    assert verdict.confirmed
    assert agents["pdu"].power_of("hv1") == "off"


def test_all_devices_of_a_level_have_to_confirm() -> None:
    agents = {"left": a_device("left"), "right": a_device("right", "refuses")}
    verdict = fenced([FenceDevice("left"), FenceDevice("right")], agents)
    assert not verdict.confirmed
    assert "fence agent right: the device says that hv1 is on" in verdict.detail


def test_what_every_level_said_is_told() -> None:
    agents = {"bmc": a_device("bmc", "breaks"), "pdu": a_device("pdu", "refuses")}
    detail = fenced([FenceDevice("bmc"), FenceDevice("pdu", level=2)], agents).detail
    assert "no route to the device" in detail
    assert "fence agent pdu: the device says that hv1 is on" in detail


@pytest.mark.parametrize(
    ("devices", "why"),
    [([], "hv1 has no fence device"), ([FenceDevice("gone")], "the fence agent gone is not installed")],
)
def test_without_a_device_that_works_nothing_is_confirmed(devices: list[FenceDevice], why: str) -> None:
    assert fenced(devices, {}) == FenceVerdict(False, why)


def test_each_device_is_asked_with_its_own_parameters() -> None:
    agents = {"bmc": FakeFenceDevice(name="bmc", password="one"), "pdu": FakeFenceDevice(name="pdu", password="two")}
    devices = [FenceDevice("bmc", {"password": "one"}), FenceDevice("pdu", {"password": "two"})]
    assert fenced(devices, agents).confirmed
