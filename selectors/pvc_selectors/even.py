# SPDX-License-Identifier: Apache-2.0
"""even: the node wins on which the VM leaves memory and vCPUs spread most evenly over the nodes that may have it.

For clusters whose nodes differ in size, or whose VMs differ in what they need most: free memory and vCPUs per core
are fractions of each node, and both count at once. What is measured is the score of `pvc_core.balance`, so that a
placement does not undo what a balance has done: the sum of the population standard deviations of the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pvc_core import NodeCapacity, PlacementRequest, SelectorEntry


@dataclass(frozen=True)
class Spread:
    """Sums over a quantity of all nodes, from which its deviation follows when one of them changes."""

    number: int
    total: float
    squares: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Added up exactly, so that the order of the nodes does not matter."""
        return cls(len(values), math.fsum(values), math.fsum(value * value for value in values))

    def deviation_with(self, before: float, after: float) -> float:
        """The population standard deviation, if one of the values were another."""
        mean = (self.total - before + after) / self.number
        variance = (self.squares - before * before + after * after) / self.number - mean * mean
        return math.sqrt(max(variance, 0.0))


class Even:
    """Scores by the negative unevenness that the VM would leave behind."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        sizes = [(max(node.memory_total_mib, 1), max(node.cores, 1)) for node in candidates]
        free = [1 - node.assigned_mib / mib for node, (mib, _) in zip(candidates, sizes, strict=True)]
        ratios = [node.assigned_vcpus / cores for node, (_, cores) in zip(candidates, sizes, strict=True)]
        memory, vcpus = Spread.of(free), Spread.of(ratios)
        return {
            node.name: -(
                memory.deviation_with(free[place], free[place] - request.memory_mib / mib)
                + vcpus.deviation_with(ratios[place], ratios[place] + request.vcpus / cores)
            )
            for place, (node, (mib, cores)) in enumerate(zip(candidates, sizes, strict=True))
        }


ENTRY = SelectorEntry("even", "the VM where it leaves memory and vCPUs most evenly spread", Even())
