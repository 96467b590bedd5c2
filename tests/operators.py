# SPDX-License-Identifier: Apache-2.0
"""An operator for tests: gives commands through the core, as the API does, and waits for what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

from pvc_core.cluster_view import ClusterView
from pvc_core.commands import Commands
from pvc_core.model import VmMetadata, VmRecord
from pvc_core.ports import ClusterStore
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.system_clock import SystemClock
from pvc_lab.embedded_cluster import EmbeddedCluster

ClusterT = TypeVar("ClusterT", bound=EmbeddedCluster)
DEADLINE_S = 60.0

XML = """\
<domain type='kvm'><name>{name}</name>
<metadata><sim:guest xmlns:sim='https://pvc.example/simulated/1' {behaviour}/></metadata>
<memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>
"""


@dataclass
class Operator:
    """Gives commands through the core, as the API does, and waits for what becomes of them."""

    store: ClusterStore
    view: ClusterView
    commands: Commands

    def define(
        self,
        name: str,
        behaviour: str = "",
        *,
        memory_mib: int = 128,
        target: str = "",
        start: bool = True,
        **meta: object,
    ) -> str:
        """A new VM on a simulated host; its UUID."""
        xml = XML.format(name=name, behaviour=behaviour, memory_mib=memory_mib)
        return self.define_xml(xml, target=target, start=start, **meta)

    def define_xml(self, xml: str, *, target: str = "", start: bool = True, **meta: object) -> str:
        """A new VM from its definition; its UUID."""
        outcome = self.commands.define(xml, VmMetadata(**meta), target=target, start=start)  # type: ignore[arg-type]
        assert outcome.vm is not None
        return outcome.vm.uuid

    def vm(self, name: str) -> VmRecord:
        return self.view.snapshot().vm(name).value

    def wait(self, predicate: Callable[[ClusterSnapshot], bool], what: str = "") -> None:
        if not self.view.wait_for(predicate, DEADLINE_S):
            states = {
                vm.value.name: (vm.value.state, vm.value.node, vm.value.reason)
                for vm in self.view.snapshot().vms.values()
            }
            pytest.fail(f"not within {DEADLINE_S} s: {what}; VMs: {states}")

    def wait_state(self, *names: str, state: str = "running", node: str = "") -> None:
        """Until every one of these VMs is in that state (on that node)."""

        def reached(snapshot: ClusterSnapshot) -> bool:
            records = [snapshot.vm(name).value for name in names]
            return all(r.state == state and (not node or r.node == node) for r in records)

        self.wait(reached, f"{names} {state} {node}")

    def wait_mode(self, node: str, mode: str) -> None:
        self.wait(lambda snapshot: snapshot.node(node).mode == mode, f"{node} {mode}")


@contextmanager
def an_operator(store_url: str, nodes: int, registry: Registry | None = None) -> Iterator[Operator]:
    """At work once that many nodes have reported. registry: of the installed plugins unless given."""
    registry, clock = registry or Registry.load(), SystemClock()
    store = registry.open_store(store_url)
    store.start()
    view = ClusterView(store, clock)
    view.start()
    operator = Operator(store, view, Commands(view, store, registry, clock))
    try:
        operator.wait(
            lambda snapshot: (
                sum(node.is_alive and node.report is not None for node in snapshot.nodes.values()) == nodes
            ),
            f"{nodes} nodes to report",
        )
        yield operator
    finally:
        view.close()
        store.close()


@contextmanager
def running(cluster: ClusterT) -> Iterator[ClusterT]:
    """All its daemons run, and in the end no guest has ever run on two nodes."""
    try:
        for node in cluster.nodes:
            cluster.start_daemon(node)
        yield cluster
        with cluster.world() as world:
            assert world.ran_on_two_nodes() == []
    finally:
        cluster.down()
