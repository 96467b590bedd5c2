# SPDX-License-Identifier: Apache-2.0
"""holds: a simulated guest holds still: its agent freezes its file systems, or its processors are stopped."""

from __future__ import annotations

from dataclasses import replace

from pvc_core.errors import HypervisorError
from pvc_plugins.hypervisors.simulated.guest import behaviour_of
from pvc_plugins.hypervisors.simulated.moment import Moment
from pvc_plugins.hypervisors.simulated.rows import Happening, SimulatedDomain


def freeze(moment: Moment, domain: SimulatedDomain) -> bool:
    """See `HoldsGuests`."""
    if behaviour_of(domain.xml).agent == "no":
        return False
    moment.put(replace(domain, is_frozen=1), Happening.FROZEN)
    return True


def thaw(moment: Moment, domain: SimulatedDomain) -> bool:
    """See `HoldsGuests`."""
    if not domain.is_frozen:
        return False
    if behaviour_of(domain.xml).agent == "dies":
        raise HypervisorError("the guest's agent does not answer")
    moment.put(replace(domain, is_frozen=0), Happening.THAWED)
    return True


def suspend(moment: Moment, domain: SimulatedDomain) -> None:
    """See `HoldsGuests`."""
    moment.put(replace(domain, is_suspended=1), Happening.SUSPENDED)


def resume(moment: Moment, domain: SimulatedDomain) -> bool:
    """See `HoldsGuests`."""
    if not domain.is_suspended:
        return False
    moment.put(replace(domain, is_suspended=0), Happening.RESUMED)
    return True
