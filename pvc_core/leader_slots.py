# SPDX-License-Identifier: Apache-2.0
"""leader_slots: how many migrations may be under way at one time: per source and per target, whoever asked for them."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

from pvc_core.model import VmState
from pvc_core.snapshot import ClusterSnapshot


@dataclass
class Slots:
    """Migrations under way, per source and per target, against the limit."""

    limit: int
    outgoing: Counter[str] = field(default_factory=Counter)
    incoming: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, snapshot: ClusterSnapshot) -> Slots:
        """What the migrations under way have taken."""
        slots = cls(snapshot.settings.max_parallel_migrations)
        for stored in snapshot.vms_by_state.get(VmState.MIGRATING, ()):
            slots.outgoing[stored.value.node] += 1
            slots.incoming[stored.value.target] += 1
        return slots

    @classmethod
    def unlimited(cls) -> Slots:
        """For plans, in which everything has its turn."""
        return cls(sys.maxsize)

    def take(self, source: str, target: str) -> bool:
        """Whether one more may begin between these nodes; then it counts."""
        if self.outgoing[source] >= self.limit or self.incoming[target] >= self.limit:
            return False
        self.outgoing[source] += 1
        self.incoming[target] += 1
        return True
