# SPDX-License-Identifier: Apache-2.0
"""vm_groups: a cluster's VMs by node, home, state and name, kept from one snapshot to the next.

Every decision asks for them, and of thousands of VMs a few change from one to the next. So what is not asked for is
not made, and what has been made is carried over but for the groups to which something has come or from which it went.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import TypeVar

from pvc_core.codec import Stored
from pvc_core.model import VmRecord, VmState
from pvc_core.vm_states import OFF

Group = tuple[Stored[VmRecord], ...]
KeyT = TypeVar("KeyT")
KeysOf = Callable[[VmRecord], Collection[KeyT]]


def _name(stored: Stored[VmRecord]) -> str:
    return stored.value.name


class VmGroups:
    """The groups of these VMs, by UUID, which do not change any more. Only those by node are sorted, by name."""

    def __init__(self, vms: Mapping[str, Stored[VmRecord]]) -> None:
        self.vms = vms

    @cached_property
    def by_node(self) -> Mapping[str, Group]:
        """The VMs for which each node is responsible."""
        return {node: tuple(sorted(group, key=_name)) for node, group in _grouped(self.vms.values(), _node).items()}

    @cached_property
    def by_home(self) -> Mapping[str, Group]:
        """The VMs whose home each node is."""
        return _grouped(self.vms.values(), _home)

    @cached_property
    def by_state(self) -> Mapping[VmState, Group]:
        """The VMs in each state."""
        return _grouped(self.vms.values(), _state)

    @cached_property
    def by_target(self) -> Mapping[str, Group]:
        """The VMs that are on their way to each node."""
        return _grouped(self.vms.values(), _target)

    @cached_property
    def by_active_node(self) -> Mapping[str, Group]:
        """Of each node's VMs those that are not off; only of nodes that have any."""
        return _grouped(self.vms.values(), _active_node)

    @cached_property
    def uuid_by_name(self) -> Mapping[str, str]:
        """VM names to UUIDs."""
        return {stored.value.name: uuid for uuid, stored in self.vms.items()}

    def after(self, vms: Mapping[str, Stored[VmRecord]], changed: Collection[str]) -> VmGroups:
        """Those of the VMs as they are by now. changed: the UUIDs of all that are new, gone or another record."""
        later = VmGroups(vms)
        made = self.__dict__
        if "by_node" in made:
            later.__dict__["by_node"] = self._carried(self.by_node, later, changed, _node)
        if "by_home" in made:
            later.__dict__["by_home"] = self._carried(self.by_home, later, changed, _home)
        if "by_state" in made:
            later.__dict__["by_state"] = self._carried(self.by_state, later, changed, _state)
        if "by_target" in made:
            later.__dict__["by_target"] = self._carried(self.by_target, later, changed, _target)
        if "by_active_node" in made:
            later.__dict__["by_active_node"] = self._carried(self.by_active_node, later, changed, _active_node)
        return later

    def _carried(
        self, groups: Mapping[KeyT, Group], later: VmGroups, changed: Collection[str], keys_of: KeysOf[KeyT]
    ) -> Mapping[KeyT, Group]:
        went = [self.vms[uuid] for uuid in changed if uuid in self.vms]
        came = [later.vms[uuid] for uuid in changed if uuid in later.vms]
        joined, gone = _grouped(came, keys_of), {id(stored) for stored in went}
        carried = dict(groups)
        for key in {key for stored in (*went, *came) for key in keys_of(stored.value)}:
            stayed = (stored for stored in groups.get(key, ()) if id(stored) not in gone)
            group = (*stayed, *joined.get(key, ()))
            if group:
                carried[key] = tuple(sorted(group, key=_name)) if keys_of is _node else group
            else:
                carried.pop(key, None)
        return carried


def _grouped(vms: Iterable[Stored[VmRecord]], keys_of: KeysOf[KeyT]) -> dict[KeyT, Group]:
    grouped: dict[KeyT, list[Stored[VmRecord]]] = {}
    for stored in vms:
        for key in keys_of(stored.value):
            grouped.setdefault(key, []).append(stored)
    return {key: tuple(group) for key, group in grouped.items()}


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
