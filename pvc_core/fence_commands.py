# SPDX-License-Identifier: Apache-2.0
"""fence_commands: which devices can switch a node off, and whether they answer; nothing told holds a secret."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pvc_core import layout
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode, encode
from pvc_core.command_base import CommandBase, Outcome
from pvc_core.errors import BrokenRecord, InvalidInput, NotFound, Refused
from pvc_core.events import EventKind, Happening
from pvc_core.fence_checks import CheckedDevice, check_device
from pvc_core.fence_devices import NodeFenceDevices, NumberedDevice, checked_device, read_devices
from pvc_core.fencing import FenceDevice, FenceRequest, device_problems
from pvc_core.ports import Check, Create, Entry, Op, Set
from pvc_core.snapshot import ClusterSnapshot

MAX_ASKED_AT_ONCE = 8


@dataclass(frozen=True)
class DeviceOutcome(Outcome):
    """devices: those that the node has after the command, secrets included. number: of the one that is new, or 0."""

    devices: tuple[NumberedDevice, ...] = field(default=(), repr=False)
    number: int = 0


class FenceCommands(CommandBase):
    """Commands on the fence devices of nodes."""

    def fence_devices(self, node: str) -> tuple[NumberedDevice, ...]:
        """The devices of a node as they are in the store, secrets included. Raises `NotFound` or `BrokenRecord`."""
        self._view.snapshot().node(node)
        stored = read_devices(self._store, node)
        return stored.value.devices if stored else ()

    def add_fence_device(self, node: str, agent: str, parameters: Mapping[str, str], level: int = 1) -> DeviceOutcome:
        """One more device that can switch the node off.

        Raises `InvalidInput`, `NotFound`, `PluginError`, or `Refused` when the node has this very device.
        """
        self._view.snapshot().node(node)
        device = self._device_that_fits(node, FenceDevice(agent, dict(parameters), level))
        after = NodeFenceDevices()

        def decide(snapshot: ClusterSnapshot) -> Change:
            nonlocal after
            snapshot.node(node)
            stored = read_devices(self._store, node)
            before = stored.value if stored else NodeFenceDevices()
            for each in before.devices:
                if each.device == device:
                    raise Refused(node, f"its fence device {each.number} is this very device")
            number = before.last_number + 1
            after = NodeFenceDevices(devices=(*before.devices, NumberedDevice(number, device)), last_number=number)
            reason = f"fence device {number} of {node} added: {agent}, level {level}"
            return _written(node, stored, after, reason, EventKind.FENCE_DEVICE_ADDED)

        change = self._view.commit(decide)
        return DeviceOutcome(change.reason, True, devices=after.devices, number=after.last_number)

    def remove_fence_device(self, node: str, number: int) -> DeviceOutcome:
        """Forget a device. Raises `NotFound` with the numbers that there are."""
        after = NodeFenceDevices()

        def decide(snapshot: ClusterSnapshot) -> Change:
            nonlocal after
            snapshot.node(node)
            stored = read_devices(self._store, node)
            before = stored.value if stored else NodeFenceDevices()
            left = tuple(each for each in before.devices if each.number != number)
            if len(left) == len(before.devices):
                raise NotFound(f"fence device of {node}", str(number), [str(each.number) for each in left])
            after = NodeFenceDevices(devices=left, last_number=before.last_number)
            reason = f"fence device {number} of {node} is removed"
            return _written(node, stored, after, reason, EventKind.FENCE_DEVICE_REMOVED)

        return DeviceOutcome(self._view.commit(decide).reason, True, devices=after.devices)

    def clear_fence_devices(self, node: str) -> DeviceOutcome:
        """Forget all devices of a node, also in a record that does not parse. Raises `NotFound`."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            snapshot.node(node)
            entry = self._store.get(layout.fence_devices(node))
            if entry is None:
                return Change((), f"{node} has no fence device")
            try:
                stored = decode(entry, NodeFenceDevices)
            except BrokenRecord:
                reason = f"the broken record of the fence devices of {node} is replaced: it has none"
                return _replaced(node, entry, NodeFenceDevices(), reason)
            if not stored.value.devices:
                return Change((), f"{node} has no fence device", seen=(Check(entry.key, entry.version),))
            reason = f"all fence devices of {node} are removed"
            return _replaced(node, entry, NodeFenceDevices(last_number=stored.value.last_number), reason)

        change = self._view.commit(decide)
        return DeviceOutcome(change.reason, bool(change.ops))

    def check_fence_devices(self, node: str) -> tuple[CheckedDevice, ...]:
        """Ask every device of the node for its status and nothing else, from this machine, side by side."""
        snapshot = self._view.snapshot()
        found = snapshot.node(node)
        devices = self.fence_devices(node)

        def asked(each: NumberedDevice) -> CheckedDevice:
            return check_device(found, each, self._registry, snapshot.settings)

        with ThreadPoolExecutor(MAX_ASKED_AT_ONCE) as pool:
            return tuple(pool.map(asked, devices))

    def _device_that_fits(self, node: str, device: FenceDevice) -> FenceDevice:
        """The device, if it can be meant, by the rules for all and by its agent's."""
        checked_device(device, self._registry.fence_agents)
        entry = self._registry.fence_agents[device.agent]
        options = self._registry.options(entry.plugin, self._view.settings)
        asked = FenceRequest(node, device=device.parameters)
        for name, problem in device_problems(entry, asked, self._registry.calls, options).items():
            raise InvalidInput(f"parameters.{name}", problem)
        return device


def _written(
    node: str, stored: Stored[NodeFenceDevices] | None, after: NodeFenceDevices, reason: str, kind: EventKind
) -> Change:
    key = layout.fence_devices(node)
    op: Op = Set(key, encode(after, stored.data), stored.version) if stored else Create(key, encode(after))
    return Change((op,), reason, happenings=(Happening(kind, reason, node=node),))


def _replaced(node: str, entry: Entry, after: NodeFenceDevices, reason: str) -> Change:
    """Nothing of what stood there is kept: it may be what does not parse."""
    happening = Happening(EventKind.FENCE_DEVICE_REMOVED, reason, node=node)
    return Change((Set(entry.key, encode(after), entry.version),), reason, happenings=(happening,))
