# SPDX-License-Identifier: Apache-2.0
"""console: the screen of a simulated guest, by which one sees that it went on and did not restart."""

from __future__ import annotations

from dataclasses import dataclass

from pvc_plugins.hypervisors.simulated.rows import SimulatedDomain

TICKS_PER_S = 10


@dataclass(frozen=True, slots=True)
class GuestConsole:
    """`boot_id` is another one after every start; `ticks` counts tenths of seconds since it."""

    boot_id: str
    ticks: int


def console_of(domain: SimulatedDomain, now: float) -> GuestConsole:
    return GuestConsole(domain.boot_id, int((now - domain.booted_at) * TICKS_PER_S))
