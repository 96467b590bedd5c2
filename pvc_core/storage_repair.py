# SPDX-License-Identifier: Apache-2.0
"""storage_repair: what calls that died have left in a backend's pools is listed, and mended, through the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pvc_core.contributions import api_method
from pvc_core.errors import PluginError, Refused, StorageUnavailable
from pvc_core.storage import Leftover, MendsLeftovers
from pvc_core.storage_answers import (
    StorageLeftover,
    StorageLeftovers,
    StoragePoolProblem,
    StorageRepair,
    StorageRepairOrder,
)
from pvc_core.storage_serving import NOT_HERE, Served


class Repair(Served):
    """/repair"""

    @api_method("operator", StorageLeftovers, problems=NOT_HERE)
    def on_get(self, req: Any, resp: Any) -> None:
        """List what calls that died have left in the pools that all nodes share, and what repair does with each."""
        found, problems = self._of_all_pools(self._mending().leftovers)
        resp.media = StorageLeftovers(leftovers=found, problems=problems)

    @api_method("operator", StorageRepair, body=StorageRepairOrder, problems=NOT_HERE)
    def on_post(self, req: Any, resp: Any) -> None:
        """Mend it: each call that died is undone, or ended."""
        mending = self._mending()
        found, _ = self._of_all_pools(mending.leftovers)
        left, problems = self._of_all_pools(mending.mend)
        still = {(each.pool, each.what) for each in left}
        repaired = tuple(each for each in found if (each.pool, each.what) not in still)
        reason = f"{len(repaired)} repaired, {len(left)} left" if found or left else "nothing is to be repaired"
        if problems:
            reason += f"; not looked at: {', '.join(each.pool for each in problems)}"
        req.context.outcome = reason
        resp.media = StorageRepair(reason=reason, repaired=repaired, left=left, problems=problems)

    def _mending(self) -> MendsLeftovers:
        backend = self.backend()
        if not isinstance(backend, MendsLeftovers):
            raise Refused(f"storage backend {self._entry.name}", "leaves nothing to repair")
        return backend

    def _of_all_pools(
        self, ask: Callable[[str], Sequence[Leftover]]
    ) -> tuple[tuple[StorageLeftover, ...], tuple[StoragePoolProblem, ...]]:
        """A pool that cannot be looked at keeps nobody from the others."""
        backend, found = self.backend(), list[Leftover]()
        problems = list[StoragePoolProblem]()
        for pool in backend.pools():
            if not backend.is_shared(pool):
                continue
            try:
                found += ask(pool)
            except (Refused, StorageUnavailable, PluginError) as error:
                problems.append(StoragePoolProblem(pool=pool, problem=error.sentence()))
        return tuple(_shown(each) for each in found), tuple(problems)


def _shown(leftover: Leftover) -> StorageLeftover:
    return StorageLeftover(pool=leftover.pool, what=leftover.what, remedy=leftover.remedy, problem=leftover.problem)
