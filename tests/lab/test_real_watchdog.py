# SPDX-License-Identifier: Apache-2.0
"""A watchdog on a real hypervisor: a node that is cut off resets itself, and its guest starts elsewhere after that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from operators import Operator
from pvc_core.event_log import EventLog
from pvc_core.snapshot import NodeView
from pvc_lab.cluster_node import ClusterNode
from pvc_lab.real_cluster import RealCluster
from pvc_lab.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.libvirt, pytest.mark.zookeeper]

TIMEOUT_S = 8.0


@pytest.fixture
def hv2(cluster: RealCluster, operator: Operator) -> Iterator[ClusterNode]:
    """A node that has a watchdog for the time of a test."""
    before = operator.view.snapshot().node("hv2").record.value.session
    node = cluster.nodes["hv2"]
    cluster.configuration.watchdogs_s["hv2"] = TIMEOUT_S
    node.stop_daemon()
    node.start_daemon()
    operator.wait(lambda s: has_reported(s.node("hv2"), before), "hv2's new daemon to have its hypervisor")
    yield node
    cluster.configuration.watchdogs_s.clear()
    node.power_off()
    node.make_whole()
    operator.wait(lambda s: s.node("hv2").is_alive, "hv2 to be there again")


def has_reported(node: NodeView, before: str) -> bool:
    """Whether a daemon that has another session than `before` says that its hypervisor answers."""
    report = node.report.value if node.report else None
    return node.is_alive and report is not None and report.session != before and report.hypervisor_connected


@pytest.mark.parametrize(
    "lose", [lambda node: node.cut_cable(), lambda node: node.pause_daemon()], ids=["cut cable", "hanging daemon"]
)
def test_a_node_without_the_store_resets_itself_and_its_guest_starts_elsewhere(
    cluster: RealCluster, operator: Operator, hv2: ClusterNode, lose: Callable[[ClusterNode], None]
) -> None:
    operator.define_xml(cluster.definition("web1"), target="hv2")
    operator.wait_state("web1")
    operator.wait(lambda s: s.node("hv2").record.value.watchdog_s == 2 * TIMEOUT_S, "hv2 to arm its watchdog")
    lose(hv2)
    wait_for(lambda: not hv2.host.is_on, "hv2 to reset itself", deadline_s=60)
    assert operator.vm("web1").node == "hv2", "nothing is recovered before it is off"
    operator.wait(lambda s: s.vm("web1").value.node != "hv2", "web1 to be recovered")
    operator.wait_state("web1")
    told = [e.reason for e in EventLog(operator.store).last(1000).events if e.kind == "node_fenced"]
    assert told[-1] == "its watchdog has fenced it: it was to be off 16 s after the end of its session"
