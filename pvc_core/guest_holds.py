# SPDX-License-Identifier: Apache-2.0
"""guest_holds: how a hypervisor makes a guest hold still for the moment in which its snapshots are taken.

Best is the guest's own agent: it writes what it has in memory and freezes the file systems. Without one its processors
are stopped, which says nothing to its software, but makes all its volumes be of one moment. Both are undone whatever
happens, also by a later life of whoever has done it: so each undoing may be asked for once too often.
"""

from __future__ import annotations

from typing import Protocol


class HoldsGuests(Protocol):
    """A part of `pvc_core.ports.Hypervisor`."""

    def freeze(self, uuid: str, timeout_s: float) -> bool:
        """Have the guest's agent freeze its file systems; False: it has none that does so, and they are not frozen.

        Raises `HypervisorError` when it is not active here, or nobody knows: they may be frozen, so `thaw` them.
        """

    def thaw(self, uuid: str, timeout_s: float) -> bool:
        """Have the guest's agent thaw them; whether they were frozen. No error without an agent, or when it is gone.

        Raises `HypervisorError` when the agent does not do so within the time: they may be frozen still.
        """

    def suspend(self, uuid: str) -> None:
        """Stop the guest's processors; `domains` tells it as PAUSED. Raises `HypervisorError` when it is not active."""

    def resume(self, uuid: str) -> bool:
        """Let them go on; whether they were stopped. No error when the guest runs or is gone."""
