# SPDX-License-Identifier: Apache-2.0
"""storage_views: the installed storage backends as the API shows them, and how each is on every node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pvc_api.node_views import is_report_stale
from pvc_api.views import Answer
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.storage_reports import BackendReport

StorageState = Literal["usable", "unusable", "absent", "unknown"]
"""Of a backend on a node. absent: its plugin is not loaded there. unknown: nothing has been heard of it."""


class StorageOnNode(Answer, frozen=True, kw_only=True):
    """A storage backend on one node; `detail` is a sentence for the operator."""

    node: str
    state: StorageState
    detail: str = ""


class StorageBackendView(Answer, frozen=True, kw_only=True):
    """An installed storage backend. `capabilities`: those that it has on any node that has reported."""

    name: str
    plugin: str
    summary: str
    capabilities: tuple[str, ...]
    nodes: tuple[StorageOnNode, ...]


class StorageBackendList(Answer, frozen=True, kw_only=True):
    """The installed storage backends, by name."""

    backends: tuple[StorageBackendView, ...]


def backends_of(registry: Registry, snapshot: ClusterSnapshot) -> StorageBackendList:
    """The backends that this process has, with what the nodes report of them."""
    return StorageBackendList(
        backends=tuple(
            StorageBackendView(
                name=name,
                plugin=entry.plugin,
                summary=entry.summary,
                capabilities=tuple(
                    sorted({each for report in _reports(name, snapshot) for each in report.capabilities})
                ),
                nodes=tuple(_on_node(name, snapshot.nodes[node], snapshot) for node in sorted(snapshot.nodes)),
            )
            for name, entry in registry.storage_backends.items()
        )
    )


def _reports(backend: str, snapshot: ClusterSnapshot) -> Iterator[BackendReport]:
    for node in snapshot.nodes.values():
        if node.report and backend in node.report.value.storage:
            yield node.report.value.storage[backend]


def _on_node(backend: str, node: NodeView, snapshot: ClusterSnapshot) -> StorageOnNode:
    if node.member is None:
        return StorageOnNode(node=node.name, state="unknown", detail=f"its daemon is {node.liveness}")
    if backend not in node.member.value.drivers.get("storage_backends", (backend,)):
        return StorageOnNode(node=node.name, state="absent", detail="its plugin is not loaded there")
    report = node.report.value.storage.get(backend) if node.report else None
    if report is None or is_report_stale(node, snapshot):
        return StorageOnNode(node=node.name, state="unknown", detail="its daemon has not reported on it lately")
    return StorageOnNode(node=node.name, state="usable" if report.usable else "unusable", detail=report.detail)
