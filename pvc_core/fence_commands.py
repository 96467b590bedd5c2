# SPDX-License-Identifier: Apache-2.0
"""fence_commands: which devices can switch a node off, and whether they answer; nothing told holds a secret."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import encode
from pvc_core.command_base import CommandBase, Outcome
from pvc_core.errors import InvalidInput, NotFound
from pvc_core.events import EventKind, Happening
from pvc_core.fence_devices import NodeFenceDevices, NumberedDevice, checked_device, read_devices
from pvc_core.fencing import FenceDevice, FenceRequest, FenceStatus, device_problems, fence_status
from pvc_core.ports import Create, Op, Set
from pvc_core.snapshot import ClusterSnapshot

MAX_ASKED_AT_ONCE = 8


@dataclass(frozen=True)
class CheckedDevice:
    """A device and what it says."""

    number: int
    device: FenceDevice
    status: FenceStatus


class FenceCommands(CommandBase):
    """Commands on the fence devices of nodes."""

    def fence_devices(self, node: str) -> tuple[NumberedDevice, ...]:
        """The devices of a node as they are in the store, secrets included. Raises `NotFound`."""
        self._view.snapshot().node(node)
        stored = read_devices(self._store, node)
        return stored.value.devices if stored else ()

    def add_fence_device(self, node: str, agent: str, parameters: Mapping[str, str], level: int = 1) -> Outcome:
        """One more device that can switch the node off. Raises `InvalidInput`, `NotFound` or `PluginError`."""
        self._view.snapshot().node(node)
        device = self._checked_device(node, FenceDevice(agent, dict(parameters), level))

        def decide(snapshot: ClusterSnapshot) -> Change:
            snapshot.node(node)
            stored = read_devices(self._store, node)
            before = stored.value if stored else NodeFenceDevices()
            number = before.last_number + 1
            after = NodeFenceDevices(devices=(*before.devices, NumberedDevice(number, device)), last_number=number)
            key = layout.fence_devices(node)
            op: Op = Set(key, encode(after, stored.data), stored.version) if stored else Create(key, encode(after))
            reason = f"fence device {number} of {node} added: {agent}, level {level}"
            return Change((op,), reason, happenings=(Happening(EventKind.FENCE_DEVICE_ADDED, reason, node=node),))

        return self._outcome(self._view.commit(decide))

    def _checked_device(self, node: str, device: FenceDevice) -> FenceDevice:
        """The device, if it can be meant, by the rules for all and by its agent's."""
        checked_device(device, self._registry.fence_agents)
        entry = self._registry.fence_agents[device.agent]
        options = self._registry.options(entry.plugin, self._view.settings)
        asked = FenceRequest(node, device=device.parameters)
        for name, problem in device_problems(entry, asked, self._registry.calls, options).items():
            raise InvalidInput(f"parameters.{name}", problem)
        return device

    def remove_fence_device(self, node: str, number: int) -> Outcome:
        """Forget a device. Raises `NotFound` with the numbers that there are."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            snapshot.node(node)
            stored = read_devices(self._store, node)
            left = tuple(each for each in stored.value.devices if each.number != number) if stored else ()
            if stored is None or len(left) == len(stored.value.devices):
                known = tuple(str(each.number) for each in stored.value.devices) if stored else ()
                raise NotFound(f"fence device of {node}", str(number), known)
            after = NodeFenceDevices(devices=left, last_number=stored.value.last_number)
            op = Set(stored.key, encode(after, stored.data), stored.version)
            reason = f"fence device {number} of {node} is removed"
            return Change((op,), reason, happenings=(Happening(EventKind.FENCE_DEVICE_REMOVED, reason, node=node),))

        return self._outcome(self._view.commit(decide))

    def test_fence_devices(self, node: str) -> tuple[CheckedDevice, ...]:
        """Ask every device of the node for its status and nothing else, from this machine, side by side."""
        snapshot = self._view.snapshot()
        address = snapshot.node(node).record.value.address
        devices = self.fence_devices(node)

        def asked(each: NumberedDevice) -> CheckedDevice:
            entry = self._registry.fence_agents.get(each.device.agent)
            if entry is None:
                status = FenceStatus("unknown", f"the fence agent {each.device.agent} is not installed here")
            else:
                request = FenceRequest(node, address, each.device.parameters)
                options = self._registry.options(entry.plugin, snapshot.settings)
                status = fence_status(entry, request, self._registry.calls, options)
            return CheckedDevice(each.number, each.device, status)

        with ThreadPoolExecutor(MAX_ASKED_AT_ONCE) as pool:
            return tuple(pool.map(asked, devices))
