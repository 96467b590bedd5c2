# SPDX-License-Identifier: Apache-2.0
"""One PVC on real parts for all tests of this folder; each finds three ready nodes and no VM, and leaves it so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from operators import Operator, an_operator
from pvc_core.errors import Refused
from pvc_core.model import NodeMode, Settings
from pvc_core.settings_changes import SETTING_NAMES
from pvc_core.snapshot import ClusterSnapshot
from pvc_core.vm_states import OFF
from pvc_lab import leftovers
from pvc_lab.real_cluster import RealCluster


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Iterator[RealCluster]:
    for part in ("zookeeper", "libvirt", "lab"):
        require(part)
    cluster = RealCluster(tmp_path_factory.mktemp("pvc-lab"), workers=2)
    prefix = cluster.lab.plan.prefix
    with cluster:
        yield cluster
    assert leftovers.leftovers(prefix) == []


@pytest.fixture(scope="session")
def session_operator(real_cluster: RealCluster) -> Iterator[Operator]:
    with an_operator(real_cluster.store_url, len(real_cluster.lab.nodes)) as operator:
        yield operator


@pytest.fixture
def cluster(real_cluster: RealCluster, session_operator: Operator) -> Iterator[RealCluster]:
    yield real_cluster
    clean_up(session_operator)
    for console in (real_cluster.lab.root / "consoles").iterdir():
        console.unlink()
    assert real_cluster.two_nodes() == (), "a guest ran on two nodes"
    assert real_cluster.watch.samples > 0


@pytest.fixture
def operator(cluster: RealCluster, session_operator: Operator) -> Operator:
    return session_operator


def clean_up(operator: Operator) -> None:
    """Every VM gone, every node ready, default settings."""
    commands = operator.commands
    commands.change_settings({name: getattr(Settings(), name) for name in SETTING_NAMES})

    def all_off(snapshot: ClusterSnapshot) -> bool:
        for stored in snapshot.vms.values():
            if stored.value.state not in OFF:
                try:
                    commands.stop(stored.value.uuid)
                except Refused:  # it migrates: cancel that, then stop it in the next round
                    commands.start(stored.value.uuid)
        return all(stored.value.state in OFF for stored in snapshot.vms.values())

    operator.wait(all_off, "all VMs off")
    for uuid in operator.view.snapshot().vms:
        commands.undefine(uuid)
    for node in operator.view.snapshot().nodes.values():
        if node.mode is not NodeMode.READY:
            commands.ready(node.name)
    operator.wait(lambda s: all(n.mode is NodeMode.READY and n.is_alive for n in s.nodes.values()), "nodes ready")
    operator.wait(lambda s: not any(n.reserved.vms for n in s.nodes.values()), "ledgers empty")
    operator.wait(
        lambda s: all(n.report is not None and n.report.value.hypervisor_connected for n in s.nodes.values()),
        "every hypervisor to answer",
    )
