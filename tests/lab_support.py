# SPDX-License-Identifier: Apache-2.0
"""What lab tests ask of a guest's console: does it count, and has it counted on without a restart."""

from __future__ import annotations

from pvc_lab.real_cluster import RealCluster
from pvc_lab.tour_cluster import ConsoleMark
from pvc_lab.waiting import wait_for


def ticking(cluster: RealCluster, name: str) -> ConsoleMark:
    """The console's mark once the guest counts."""
    wait_for(lambda: cluster.console(name).ticks > 0, f"the console of {name}", deadline_s=120)
    return cluster.console(name)


def counted_on(cluster: RealCluster, name: str, mark: ConsoleMark) -> bool:
    """Whether the console counts on, in the same boot; waits for the next count."""
    wait_for(lambda: cluster.console(name) != mark, f"the console of {name} to count on", deadline_s=120)
    now = cluster.console(name)
    return now.boot_id == mark.boot_id and now.ticks > mark.ticks
