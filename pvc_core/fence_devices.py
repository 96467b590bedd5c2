# SPDX-License-Identifier: Apache-2.0
"""fence_devices: which devices can switch a node off, as it stands in the store, and who may see what of them.

They have a key of their own, which no watched copy and no snapshot holds: among their parameters are passwords.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored, decode
from pvc_core.errors import InvalidInput
from pvc_core.fence_secrets import MASK, is_secret
from pvc_core.fencing import FenceAgentEntry, FenceDevice
from pvc_core.layout import SCHEMA_VERSION
from pvc_core.ports import ClusterStore

LEVELS = range(1, 10)
MAX_VALUE_CHARACTERS = 4096

_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class NumberedDevice:
    """A device of a node and the number by which it is removed, which no other device of the node ever has."""

    number: int
    device: FenceDevice


class NodeFenceDevices(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of one node. last_number: the highest that was ever given, so that a number means one device."""

    schema: int = SCHEMA_VERSION
    devices: tuple[NumberedDevice, ...] = ()
    last_number: int = 0


def read_devices(store: ClusterStore, node: str) -> Stored[NodeFenceDevices] | None:
    """What is in the store now; None: nothing was ever configured. Raises `BrokenRecord` or `StoreUnavailable`."""
    entry = store.get(layout.fence_devices(node))
    return None if entry is None else decode(entry, NodeFenceDevices)


def checked_device(device: FenceDevice, agents: Mapping[str, FenceAgentEntry]) -> FenceDevice:
    """The device, if it can be meant. Raises `InvalidInput`, in which no parameter's value stands."""
    if device.agent not in agents:
        raise InvalidInput("agent", "no fence agent is called that", device.agent, tuple(agents))
    if device.level not in LEVELS:
        raise InvalidInput("level", "must be a whole number", str(device.level), ("1 to 9",))
    for name, value in device.parameters.items():
        if not _PARAMETER.fullmatch(name):
            raise InvalidInput("parameters", "must have names of letters, digits, _ and -", name)
        if not value.isprintable() or len(value) > MAX_VALUE_CHARACTERS:
            problem = f"must be one line of printable characters, at most {MAX_VALUE_CHARACTERS}"
            raise InvalidInput(f"parameters.{name}", problem)
    return device


def shown_parameters(device: FenceDevice, agents: Mapping[str, FenceAgentEntry]) -> dict[str, str]:
    """The parameters with the secrets masked; all of them while nobody here knows which those are."""
    entry = agents.get(device.agent)
    return {
        name: value if entry is not None and not is_secret(name, entry.secrets) else MASK
        for name, value in sorted(device.parameters.items())
    }
