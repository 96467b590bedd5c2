# SPDX-License-Identifier: Apache-2.0
"""fence_checks: whether a node's fence devices would be of use: each is asked for its status, and nothing else.

A device that is silent, or that calls a living node off, is found while there is time to mend it, and not in the
moment in which a recovery hangs on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pvc_core.fence_devices import NumberedDevice
from pvc_core.fencing import FenceDevice, FenceRequest, FenceStatus, fence_status
from pvc_core.model import Settings
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot, NodeView


@dataclass(frozen=True)
class CheckedDevice:
    """A device and what it says. problem: a sentence, why it would not be of use; "" when it seems to be."""

    number: int
    device: FenceDevice
    status: FenceStatus
    problem: str = ""


def joined(snapshot: ClusterSnapshot, checked: Mapping[str, str]) -> dict[str, str]:
    """The nodes whose daemon has joined since they were last checked, with the daemon's session, which `checked` holds.

    Not those in maintenance, whose devices may be unplugged: they count as joined when that is over.
    """
    return {
        name: node.member.value.session
        for name, node in sorted(snapshot.nodes.items())
        if node.member is not None
        and not node.record.value.maintenance
        and checked.get(name) != node.member.value.session
    }


def check_device(node: NodeView, each: NumberedDevice, registry: Registry, settings: Settings) -> CheckedDevice:
    """Ask one device for its status. Waits for the answer, no longer than its agent's deadline."""
    entry = registry.fence_agents.get(each.device.agent)
    if entry is None:
        status = FenceStatus("unknown", f"the fence agent {each.device.agent} is not installed here")
    else:
        request = FenceRequest(node.name, node.record.value.address, each.device.parameters)
        status = fence_status(entry, request, registry.calls, registry.options(entry.plugin, settings))
    return CheckedDevice(each.number, each.device, status, problem_of(status, node))


def problem_of(status: FenceStatus, node: NodeView) -> str:
    """Why a device that says this would not be of use for this node; "" when it seems to be."""
    if status.power == "unknown":
        return status.detail or "it does not say whether the node is on"
    if status.power == "off" and node.member is not None:
        return f"it says that {node.name} is off, whose daemon is alive: it switches something else"
    return ""


def finding(node: str, checked: Iterable[CheckedDevice]) -> str:
    """What is wrong with the devices of a node, as one sentence; "" when they seem to be of use."""
    wrong = [f"device {each.number} ({each.device.agent}): {each.problem}" for each in checked if each.problem]
    return f"{node} could not be switched off if it were lost: {'; '.join(wrong)}" if wrong else ""
