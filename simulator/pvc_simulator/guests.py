# SPDX-License-Identifier: Apache-2.0
"""guests: how a simulated guest behaves, and what there is of it on one host."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Self

from pvc_core.ports import Domain, DomainState
from pvc_core.snapshot_file import Faults


@dataclass
class GuestBehaviour:
    """Of one VM, wherever it runs. The failures count down as they happen."""

    start_failures: int = 0
    migrate_failures: int = 0
    ignores_shutdown: bool = False
    starts_only_on: str = ""
    keeps_disks: bool = False

    @classmethod
    def of(cls, faults: Faults) -> Self:
        """As a file describes it."""
        return cls(faults.start_failures, faults.migrate_failures, faults.ignores_shutdown, faults.starts_only_on)


_LIVES = count(1)


@dataclass(eq=False)
class SimulatedDomain:
    """A domain that is active on a host."""

    uuid: str
    name: str
    xml: str
    memory_mib: int
    vcpus: int
    behaviour: GuestBehaviour
    state: DomainState = DomainState.RUNNING
    hangs: bool = False
    """The guest does not do anything any more, nor power off when asked."""
    leaves: bool = False
    """A migration away from here is under way."""
    cancelled: str = ""
    """Why that migration is to be broken off."""
    is_suspended: bool = False
    """Its processors stand still."""
    began_s: float = field(default=0.0)
    life: int = field(default_factory=lambda: next(_LIVES))
    """Another one after every start, the same one after a migration."""

    def seen(self, now_s: float) -> Domain:
        """As a hypervisor lists it."""
        return Domain(
            uuid=self.uuid,
            name=self.name,
            state=DomainState.PAUSED if self.is_suspended else self.state,
            memory_mib=self.memory_mib,
            vcpus=self.vcpus,
            cpu_time_ns=int((now_s - self.began_s) * 1e8),
            job_active=self.leaves,
            paused_by_migration=self.state is DomainState.PAUSED,
        )
