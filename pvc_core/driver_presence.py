# SPDX-License-Identifier: Apache-2.0
"""driver_presence: which coordinators could not do what a VM or a setting asks for, because they lack the plugin.

A command is accepted where its own process has the driver. But it is the leader that drains and recovers, and any
coordinator may come to lead: on one without the driver the default decides instead, which nobody would expect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pvc_core.metadata import FIELDS
from pvc_core.model import VmMetadata
from pvc_core.selector_expression import parse_selector
from pvc_core.snapshot import ClusterSnapshot

NODES_IN_A_SENTENCE = 3


def metadata_warnings(
    snapshot: ClusterSnapshot, metadata: VmMetadata, fields: Collection[str] = FIELDS
) -> tuple[str, ...]:
    """A sentence for each driver that is named in one of these fields and that living coordinators lack."""
    warnings: list[str] = []
    if "node_selector" in fields:
        warnings += selector_warnings(snapshot, metadata.node_selector)
    if "recovery_policy" in fields:
        instead = "the VM would be held"
        warnings += _warnings(snapshot, "recovery_policies", "recovery policy", [metadata.recovery_policy], instead)
    return tuple(warnings)


def selector_warnings(snapshot: ClusterSnapshot, expression: str) -> tuple[str, ...]:
    """A sentence for each selector of a valid expression that living coordinators lack; "" and "none" name none."""
    names = () if expression in ("", "none") else parse_selector(expression).names
    return tuple(_warnings(snapshot, "selectors", "selector", names, "the default selector would rank"))


def _warnings(snapshot: ClusterSnapshot, kind: str, word: str, names: Iterable[str], instead: str) -> Iterator[str]:
    for name in names:
        lacking = list(_lacking(snapshot, kind, name))
        if lacking:
            more = len(lacking) - NODES_IN_A_SENTENCE
            nodes = ", ".join(lacking[:NODES_IN_A_SENTENCE]) + (f" and {more} more" if more > 0 else "")
            lack, it = ("lacks", "it") if len(lacking) == 1 else ("lack", "one of them")
            yield f"{nodes} {lack} the {word} {name}; while {it} leads, {instead} instead"


def _lacking(snapshot: ClusterSnapshot, kind: str, name: str) -> Iterator[str]:
    """Living coordinators whose daemons say which drivers of this kind they have, and do not have this one."""
    for node in sorted(snapshot.nodes):
        view = snapshot.nodes[node]
        if view.member and view.record.value.coordinator and name not in view.member.value.drivers.get(kind, (name,)):
            yield node
