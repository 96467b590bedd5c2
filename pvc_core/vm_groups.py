# SPDX-License-Identifier: Apache-2.0
"""vm_groups: a cluster's VMs by node, home, state and name, kept from one snapshot to the next.

Every decision asks for them, and of thousands of VMs a few change from one to the next. So what is not asked for is
not made, and what has been made is carried over but for the groups to which something has come or from which it went.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from pvc_core.codec import Stored
from pvc_core.model import VmRecord, VmState
from pvc_core.vm_states import OFF

Group = tuple[Stored[VmRecord], ...]
KeyT = TypeVar("KeyT")
KeysOf = Callable[[VmRecord], Collection[KeyT]]


class VmGroups:
    """The groups of these VMs, by UUID, which do not change any more. Only those by node are sorted, by name."""

    def __init__(self, vms: Mapping[str, Stored[VmRecord]]) -> None:
        self.vms = vms
        self._made: dict[KeysOf[Any], Mapping[Any, Group]] = {}

    @property
    def by_node(self) -> Mapping[str, Group]:
        """The VMs for which each node is responsible."""
        return self._by(_node)

    @property
    def by_home(self) -> Mapping[str, Group]:
        """The VMs whose home each node is."""
        return self._by(_home)

    @property
    def by_state(self) -> Mapping[VmState, Group]:
        """The VMs in each state."""
        return self._by(_state)

    @property
    def by_target(self) -> Mapping[str, Group]:
        """The VMs that are on their way to each node."""
        return self._by(_target)

    @property
    def by_active_node(self) -> Mapping[str, Group]:
        """Of each node's VMs those that are not off; only of nodes that have any."""
        return self._by(_active_node)

    @cached_property
    def uuid_by_name(self) -> Mapping[str, str]:
        """VM names to UUIDs."""
        return {stored.value.name: uuid for uuid, stored in self.vms.items()}

    def after(self, vms: Mapping[str, Stored[VmRecord]], changed: Collection[str]) -> VmGroups:
        """Those of the VMs as they are by now. changed: the UUIDs of all that are new, gone or another record."""
        went = [self.vms[uuid] for uuid in changed if uuid in self.vms]
        came = [vms[uuid] for uuid in changed if uuid in vms]
        later = VmGroups(vms)
        made = self._made.copy()  # other threads may be asking for more at this moment
        later._made = {keys_of: _carried(groups, went, came, keys_of) for keys_of, groups in made.items()}
        return later

    def _by(self, keys_of: KeysOf[KeyT]) -> Mapping[KeyT, Group]:
        made = self._made.get(keys_of)
        if made is None:
            made = self._made[keys_of] = _grouped(self.vms.values(), keys_of)
        return made


def _carried(
    groups: Mapping[KeyT, Group],
    went: Sequence[Stored[VmRecord]],
    came: Sequence[Stored[VmRecord]],
    keys_of: KeysOf[KeyT],
) -> Mapping[KeyT, Group]:
    """The groups without those that went and with those that came."""
    joined, gone = _grouped(came, keys_of), {id(stored) for stored in went}
    carried = dict(groups)
    for key in {key for stored in (*went, *came) for key in keys_of(stored.value)}:
        stayed = (stored for stored in groups.get(key, ()) if id(stored) not in gone)
        group = _in_order((*stayed, *joined.get(key, ())), keys_of)
        if group:
            carried[key] = group
        else:
            carried.pop(key, None)
    return carried


def _grouped(vms: Iterable[Stored[VmRecord]], keys_of: KeysOf[KeyT]) -> dict[KeyT, Group]:
    grouped: dict[KeyT, list[Stored[VmRecord]]] = {}
    for stored in vms:
        for key in keys_of(stored.value):
            grouped.setdefault(key, []).append(stored)
    return {key: _in_order(group, keys_of) for key, group in grouped.items()}


def _in_order(group: Iterable[Stored[VmRecord]], keys_of: KeysOf[Any]) -> Group:
    return tuple(sorted(group, key=_name) if keys_of is _node else group)


def _name(stored: Stored[VmRecord]) -> str:
    return stored.value.name


def _node(vm: VmRecord) -> Collection[str]:
    return (vm.node,)


def _active_node(vm: VmRecord) -> Collection[str]:
    return () if vm.state in OFF else (vm.node,)


def _home(vm: VmRecord) -> Collection[str]:
    return (vm.home,)


def _state(vm: VmRecord) -> Collection[VmState]:
    return (vm.state,)


def _target(vm: VmRecord) -> Collection[str]:
    return (vm.target,) if vm.target else ()
