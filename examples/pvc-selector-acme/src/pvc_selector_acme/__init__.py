# SPDX-License-Identifier: Apache-2.0
"""acme: nodes in the quiet zone win; among equals the one with the fewest VMs per core."""

from collections.abc import Mapping, Sequence

import msgspec
from pvc_core import ConfigSection, NodeCapacity, PlacementRequest, SelectorEntry, hookimpl


class Options(msgspec.Struct, frozen=True):
    """What an operator may change: `pvc cluster settings acme.zone=...`."""

    zone: str = "quiet"
    """Nodes whose label `zone` has this value win."""


class Acme:
    """Scores the nodes that no filter has rejected; the highest number wins."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        zone = request.options.cluster.zone
        return {node.name: self.score_of(node, zone) for node in candidates}

    def score_of(self, node: NodeCapacity, zone: str) -> float:
        in_the_zone = 1000.0 if node.labels.get("zone") == zone else 0.0
        return in_the_zone - node.assigned_vms / max(node.cores, 1)


@hookimpl
def pvc_config_section() -> ConfigSection:
    return ConfigSection(cluster=Options)


@hookimpl
def pvc_selectors() -> Sequence[SelectorEntry]:
    return [SelectorEntry("acme", "a quiet zone, then the fewest VMs per core", Acme())]
