# SPDX-License-Identifier: Apache-2.0
"""limits: whether a node is within a VM's limit: it is named there, or has one of the labels that are.

An entry is a node's name, or `label:rack=a` for every node that has this label now. The limit is all of these nodes
together; an empty one is any node. Labels are the nodes' own, so a limit by label follows a node that joins or changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from pvc_core.errors import InvalidInput
from pvc_core.model import VmRecord
from pvc_core.snapshot import ClusterSnapshot

LABEL_PREFIX = "label:"


def is_within(limit: Collection[str], node: str, labels: Mapping[str, str]) -> bool:
    """Whether a VM with this limit may be on a node with these labels."""
    if not limit or node in limit:
        return True
    return bool(labels) and any(word in limit for word in label_words(labels))


def label_words(labels: Mapping[str, str]) -> tuple[str, ...]:
    """How a limit names the labels of one node."""
    return tuple(f"{LABEL_PREFIX}{key}={value}" for key, value in labels.items())


def nodes_within(limit: Collection[str], snapshot: ClusterSnapshot) -> frozenset[str]:
    """The nodes of the cluster on which a VM with this limit may be."""
    views = snapshot.nodes.items()
    return frozenset(name for name, view in views if is_within(limit, name, view.record.value.labels))


def is_outside_limit(vm: VmRecord, snapshot: ClusterSnapshot) -> bool:
    """Whether the VM is on a node outside its limit; of a node that nobody knows, only the name counts."""
    limit = vm.metadata.node_limit
    if not limit or vm.node in limit:
        return False
    view = snapshot.nodes.get(vm.node)
    return not is_within(limit, vm.node, view.record.value.labels if view else {})


def limit_words(snapshot: ClusterSnapshot) -> tuple[str, ...]:
    """Everything that a limit may name in this cluster: its nodes, and the labels that they have."""
    labels = {word for view in snapshot.nodes.values() for word in label_words(view.record.value.labels)}
    return (*sorted(snapshot.nodes), *sorted(labels))


def check_limit(limit: Iterable[str], words: Collection[str]) -> None:
    """Every entry means at least one node now. Raises `InvalidInput` with what could be meant.

    A label that no node has is a mistake as a name is that no node has: the VM could run nowhere.
    """
    for entry in limit:
        if entry in words:
            continue
        if not entry.startswith(LABEL_PREFIX):
            names = [word for word in words if not word.startswith(LABEL_PREFIX)]
            raise InvalidInput("node_limit", "is not a node of this cluster", entry, names)
        key, equals, value = entry.removeprefix(LABEL_PREFIX).partition("=")
        if not (key and equals and value):
            raise InvalidInput("node_limit", "must name a label as label:NAME=VALUE, such as label:rack=a", entry)
        labels = [word for word in words if word.startswith(LABEL_PREFIX)]
        near = get_close_matches(entry, labels, 1, 0.8)
        meant = f"; is {near[0]} meant?" if near else "" if labels else ": no node has any"
        raise InvalidInput("node_limit", f"is a label of no node now{meant}", entry, labels)
