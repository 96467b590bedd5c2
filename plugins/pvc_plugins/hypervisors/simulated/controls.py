# SPDX-License-Identifier: Apache-2.0
"""controls: looks at a simulated world from outside and breaks things in it, for tests, demos and the curious."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pvc_core.errors import HypervisorError
from pvc_plugins.hypervisors.simulated.console import GuestConsole, console_of
from pvc_plugins.hypervisors.simulated.moment import Moment
from pvc_plugins.hypervisors.simulated.rows import Happening, HistoryEntry, Phase, SimulatedDomain
from pvc_plugins.hypervisors.simulated.world import World


@dataclass(frozen=True, slots=True)
class TwoNodes:
    """A VM that was active on two nodes at once: what must never happen."""

    uuid: str
    name: str
    nodes: frozenset[str]


class SimulatedWorld:
    """The world in `folder`, seen by somebody who is no hypervisor. Works from any process, at any time."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._world = World(folder, clock)
        self._world.open()

    def close(self) -> None:
        self._world.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ look

    def domains(self, node: str | None = None) -> list[SimulatedDomain]:
        """All active domains, also those that are still arriving."""
        with self._world.looking() as moment:
            return moment.domains(node=node)

    def node_of(self, uuid: str) -> str | None:
        """Where the VM is active now."""
        with self._world.looking() as moment:
            return next((each.node for each in moment.domains(uuid=uuid) if each.phase is not Phase.INCOMING), None)

    def console(self, uuid: str) -> GuestConsole:
        """The guest's screen, wherever it runs; `HypervisorError` when it does not."""
        with self._world.looking() as moment:
            return console_of(_only(moment, uuid), moment.now)

    def secrets(self, node: str) -> list[str]:
        """The UUIDs of the secrets that the host's hypervisor was given since it began; nobody keeps the keys."""
        with self._world.looking() as moment:
            return moment.secrets(node)

    def history(self, uuid: str | None = None) -> list[HistoryEntry]:
        """Everything that has happened, or what has happened to one VM, oldest first."""
        with self._world.looking() as moment:
            return [entry for entry in moment.history() if uuid in (None, entry.uuid)]

    def ran_on_two_nodes(self) -> list[TwoNodes]:
        """Every VM that was ever active on two nodes at once; empty when all went well."""
        found = {
            TwoNodes(entry.uuid, entry.name, frozenset((entry.node, entry.detail)))
            for entry in self.history()
            if entry.kind is Happening.ON_TWO_NODES
        }
        return sorted(found, key=lambda each: (each.name, sorted(each.nodes)))

    # ----------------------------------------------------------------------------------------- break

    def crash_guest(self, uuid: str) -> None:
        """The guest ends at once, as when its QEMU is killed."""
        with self._world.changing() as moment:
            moment.end(_only(moment, uuid), Happening.CRASHED)

    def power_off_guest(self, uuid: str) -> None:
        """The guest powers off by itself, as when its own administrator types `poweroff`."""
        with self._world.changing() as moment:
            moment.end(_only(moment, uuid), Happening.POWERED_OFF, "from inside")

    def take_hypervisor_away(self, node: str) -> None:
        """The hypervisor does not answer any more, as when libvirtd is killed. Its guests run on."""
        with self._world.changing() as moment:
            moment.set_away(node, True)

    def bring_hypervisor_back(self, node: str) -> None:
        with self._world.changing() as moment:
            moment.set_away(node, False)

    def cut_power(self, node: str) -> None:
        """The host is off: its guests are gone, its hypervisor does not answer until it is brought back."""
        with self._world.changing() as moment:
            for domain in moment.domains(node=node):
                moment.end(domain, Happening.POWER_LOST)
            moment.set_away(node, True)

    def set_load(self, node: str, load_1m: float | None) -> None:
        """The host's load from now on; None: what its options say."""
        with self._world.changing() as moment:
            moment.set_load(node, load_1m)


def _only(moment: Moment, uuid: str) -> SimulatedDomain:
    """The active domain of a VM: that on the source, while it migrates."""
    found = next((each for each in moment.domains(uuid=uuid) if each.phase is not Phase.INCOMING), None)
    if found is None:
        raise HypervisorError(f"no domain {uuid} is active on any host")
    return found
