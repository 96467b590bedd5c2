# SPDX-License-Identifier: Apache-2.0
"""fence_answers: the fence devices of a node as the API shows them: what they are, never with a secret."""

from __future__ import annotations

from collections.abc import Iterable

from pvc_api.views import Answer, BrokenRecordView
from pvc_core.fence_checks import CheckedDevice
from pvc_core.fence_devices import NumberedDevice, shown_parameters
from pvc_core.fencing import FenceAgentEntry, PowerState
from pvc_core.registry import Registry


class FenceDeviceView(Answer, frozen=True, kw_only=True):
    """A device. parameters: with `***` in place of secrets. problem: why it cannot be asked here; normally empty."""

    number: int
    agent: str
    level: int
    parameters: dict[str, str]
    problem: str = ""


class FenceAgentView(Answer, frozen=True, kw_only=True):
    """A fence agent that a device may name. secrets: those of its parameters that are never shown."""

    name: str
    summary: str
    secrets: tuple[str, ...]


class FenceDeviceList(Answer, frozen=True, kw_only=True):
    """The devices of a node, and the agents that there are. broken: the record, when it does not parse."""

    node: str
    devices: tuple[FenceDeviceView, ...]
    agents: tuple[FenceAgentView, ...]
    broken: tuple[BrokenRecordView, ...] = ()


class FenceDeviceOutcome(Answer, frozen=True, kw_only=True):
    """What a command on the devices of a node did, and which they are now. number: of a new device, or 0."""

    node: str
    devices: tuple[FenceDeviceView, ...]
    changed: bool
    reason: str
    number: int = 0


class CheckedDeviceView(Answer, frozen=True, kw_only=True):
    """What a device says. problem: why it would not be of use; empty when it seems to be."""

    number: int
    agent: str
    level: int
    power: PowerState
    detail: str
    problem: str


class FenceTest(Answer, frozen=True, kw_only=True):
    """What the devices of a node say, asked for nothing but their status."""

    node: str
    devices: tuple[CheckedDeviceView, ...]


def device_views(devices: Iterable[NumberedDevice], registry: Registry) -> tuple[FenceDeviceView, ...]:
    """The devices, by number."""
    agents = registry.fence_agents
    return tuple(
        FenceDeviceView(
            number=each.number,
            agent=each.device.agent,
            level=each.device.level,
            parameters=shown_parameters(each.device, agents),
            problem="" if each.device.agent in agents else f"the fence agent {each.device.agent} is not installed here",
        )
        for each in devices
    )


def agent_view(entry: FenceAgentEntry) -> FenceAgentView:
    """An agent that a device may name."""
    return FenceAgentView(name=entry.name, summary=entry.summary, secrets=entry.secrets)


def checked_view(checked: CheckedDevice) -> CheckedDeviceView:
    """What one device says."""
    return CheckedDeviceView(
        number=checked.number,
        agent=checked.device.agent,
        level=checked.device.level,
        power=checked.status.power,
        detail=checked.status.detail,
        problem=checked.problem,
    )
