# SPDX-License-Identifier: Apache-2.0
"""fake_fence_device: a fence device in memory and the agent that drives it: what a test needs instead of a BMC.

    device = FakeFenceDevice()
    registry = registry_of(device.entry())
    device.behaviour = "refuses"

The agent passes `pvc_core.testing.fence_suite`, as every agent does.
"""

from __future__ import annotations

from typing import Literal

from pvc_core.fencing import FenceAgentEntry, FenceRequest, FenceStatus, FenceVerdict, PowerState

Behaviour = Literal["confirms", "refuses", "lies", "silent", "breaks"]
"""What the device does when it is told to switch off: it does and says so; it says no; it says yes and does not;
it does and then does not answer; it does nothing and the connection to it breaks."""


class DeviceUnreachableError(Exception):
    """The device did not answer."""


class FakeFenceDevice:
    """Power of any number of nodes, all of them on at first. Also a `FenceAgent`."""

    def __init__(self, behaviour: Behaviour = "confirms", name: str = "fake", password: str = "") -> None:
        self.behaviour = behaviour
        self.name = name
        self.password = password
        self.off: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        """What it was asked, in order: method and node."""

    def entry(self, deadline_s: float = 5.0) -> FenceAgentEntry:
        """The agent as a plugin registers it."""
        return FenceAgentEntry(
            self.name, "a device in memory", self, deadline_s=deadline_s, secrets=("password",), plugin=self.name
        )

    def power_of(self, node: str) -> PowerState:
        """The truth, past the agent."""
        return "off" if node in self.off else "on"

    def switch_on(self, node: str) -> None:
        """As somebody with a finger on the button does."""
        self.off.discard(node)

    def power_off(self, request: FenceRequest) -> FenceVerdict:
        """See `FenceAgent`."""
        self._connect("power_off", request)
        if self.behaviour in ("confirms", "silent"):
            self.off.add(request.node)
        if self.behaviour == "silent":
            raise DeviceUnreachableError("the device took the command and does not answer any more")
        # What counts is what the device says afterwards, not that it took the command.
        power = self.power_of(request.node)
        return FenceVerdict(power == "off", f"the device says that {request.node} is {power}")

    def status(self, request: FenceRequest) -> FenceStatus:
        """See `FenceAgent`."""
        self._connect("status", request)
        return FenceStatus(self.power_of(request.node))

    def _connect(self, method: str, request: FenceRequest) -> None:
        self.asked.append((method, request.node))
        if self.behaviour == "breaks":
            raise DeviceUnreachableError("no route to the device")
        if request.device.get("password", "") != self.password:
            raise DeviceUnreachableError("the device does not accept the password")
