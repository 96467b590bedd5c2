# SPDX-License-Identifier: Apache-2.0
"""simulated: hypervisors without hardware, for demos, development and tests on any machine with Python.

`SimulatedHypervisor` is the driver that a node daemon uses; `SimulatedWorld` shows what happened on all hosts
together and breaks things. `guest` documents how a definition chooses its guest's behaviour, `options` the URL.
"""

from pvc_plugins.hypervisors.simulated.console import TICKS_PER_S, GuestConsole
from pvc_plugins.hypervisors.simulated.controls import SimulatedWorld, TwoNodes
from pvc_plugins.hypervisors.simulated.hypervisor import SimulatedHypervisor
from pvc_plugins.hypervisors.simulated.rows import Happening, HistoryEntry

__all__ = [
    "TICKS_PER_S",
    "GuestConsole",
    "Happening",
    "HistoryEntry",
    "SimulatedHypervisor",
    "SimulatedWorld",
    "TwoNodes",
]
