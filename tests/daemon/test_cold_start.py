# SPDX-License-Identifier: Apache-2.0
"""The power fails everywhere, the store's too: what ran runs again, once each, however late hosts and store come up."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator, running
from pvc_core.event_log import EventLog
from pvc_core.events import Event
from pvc_core.model import FenceStep
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.waiting import wait_for
from pvc_lab.zookeeper import ZooKeeperServer

pytestmark = pytest.mark.zookeeper


class Cluster(EmbeddedCluster):
    """Simulated hosts on a real ZooKeeper, all of which lose their power at once."""

    def __init__(self, root: Path, server: ZooKeeperServer) -> None:
        super().__init__(root)
        self.server = server

    @property
    def store_url(self) -> str:
        return f"zookeeper://{self.server.hosts}/cold?session_timeout_s=4"

    def lose_power(self) -> None:
        for node in self.nodes:
            self.stop(node, signal.SIGKILL)
        self.server.kill()
        with self.world() as world:
            for node in self.nodes:
                world.cut_power(node)

    def boot(self, node: str) -> None:
        with self.world() as world:
            world.bring_hypervisor_back(node)
        self.start_daemon(node)

    def waits_for_the_store(self, node: str) -> bool:
        return "waiting_for_store" in self.log_path(node).read_text()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ZooKeeperServer(tmp_path / "zookeeper") as server, running(Cluster(tmp_path, server)) as cluster:
        yield cluster


def since(operator: Operator, known: set[str]) -> list[Event]:
    """What has happened but for these."""
    return [event for event in EventLog(operator.store).last(1000).events if event.id not in known]


def started(operator: Operator, known: set[str]) -> list[str]:
    """The VMs that have started since; a record alone says that they run, before and after."""
    return [event.vm for event in since(operator, known) if event.kind == "vm_started"]


def define_vms(cluster: Cluster, operator: Operator) -> list[str]:
    """On each node one that matters, one that does not, and one each that is off for good and for now."""
    running = []
    for node in cluster.nodes:
        for name, priority in (("high", 5), ("low", -5)):
            operator.define(f"{name}-{node}", target=node, priority=priority)
            running.append(f"{name}-{node}")
        operator.define(f"off-{node}", target=node, start=False)
    operator.define("disabled", target="hv1", start=False, node_autostart=True)
    operator.commands.disable("disabled")
    operator.wait_state(*running)
    return running


def test_what_ran_runs_again_once_each_by_priority_when_hosts_come_one_by_one_and_the_store_last(
    cluster: Cluster,
) -> None:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        operator.commands.change_settings({"parallel_starts": 1, "fence_grace_s": 0.5})
        running = define_vms(cluster, operator)
        known = {event.id for event in since(operator, set())}
    cluster.lose_power()
    for node in ("hv1", "hv2"):
        cluster.boot(node)
        wait_for(lambda node=node: cluster.waits_for_the_store(node), f"{node} to wait for the store")  # type: ignore[misc]
    cluster.server.start()

    with an_operator(cluster.store_url, 2) as operator:
        operator.wait(lambda s: len(started(operator, known)) >= 4, "the VMs of hv1 and hv2 to start")
        operator.wait(
            lambda s: (fence := s.node("hv3").record.value.fence) is not None and fence.step is FenceStep.FENCING,
            "hv3, which is not there yet, to be lost",
        )
        assert operator.vm("high-hv3").node == "hv3", "nothing is recovered before it is certain"
        cluster.boot("hv3")
        operator.wait(lambda s: len(started(operator, known)) >= 6, "the VMs of hv3 to start")
        operator.wait(lambda s: all(view.mode == "ready" for view in s.nodes.values()), "all nodes to be ready")

        order = started(operator, known)
        assert Counter(order) == Counter(running)
        for node in cluster.nodes:
            assert order.index(f"high-{node}") < order.index(f"low-{node}")
            assert [operator.vm(f"{name}-{node}").node for name in ("high", "low")] == [node, node]
            assert operator.vm(f"off-{node}").state == "stopped"
        assert operator.vm("disabled").state == "disabled"
        assert "node_fenced" not in [event.kind for event in since(operator, known)]


def test_a_power_loss_in_a_maintenance_is_no_different_and_the_maintenance_goes_on(cluster: Cluster) -> None:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        operator.define("web1", target="hv1")
        operator.define("web3", target="hv3")
        operator.wait_state("web1", "web3")
        operator.commands.begin_maintenance(for_s=3600, reason="the building has no power")
        known = {event.id for event in since(operator, set())}
    cluster.lose_power()
    cluster.server.start()
    cluster.boot("hv1")
    with an_operator(cluster.store_url, 1) as operator:
        operator.wait(lambda s: started(operator, known) == ["web1"], "web1 to start")
        operator.wait(lambda s: not s.node("hv3").is_alive, "the old session of hv3 to end")
        snapshot = operator.view.snapshot()
        assert snapshot.pause is not None
        assert snapshot.node("hv3").record.value.fence is None
        cluster.boot("hv3")
        operator.wait(lambda s: started(operator, known) == ["web1", "web3"], "web3 to start")
        assert operator.vm("web3").node == "hv3"
