# SPDX-License-Identifier: Apache-2.0
"""Real daemons on a real ZooKeeper: a node that is cut off from it ends itself before its VMs start elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator, running
from pvc_core.event_log import EventLog
from pvc_core.snapshot import ClusterSnapshot
from pvc_lab.embedded_cluster import EmbeddedCluster
from pvc_lab.zookeeper import ZooKeeperServer
from stores.tcp_proxy import TcpProxy

pytestmark = pytest.mark.zookeeper

SOON_S = 6.0
SESSION_S = 4.0


class Cluster(EmbeddedCluster):
    """Simulated hosts on ZooKeeper; hv2 is connected to it by a cable of its own."""

    def __init__(self, root: Path, server: ZooKeeperServer, timeout_s: float) -> None:
        super().__init__(root, watchdog_s=timeout_s)
        self._server = server
        self.cable = TcpProxy((server.host, server.port))

    @property
    def store_url(self) -> str:
        return self._url_on(self._server.hosts)

    def _configuration(self, node: str) -> str:
        text = super()._configuration(node)
        return text.replace(self.store_url, self._url_on(self.cable.hosts)) if node == "hv2" else text

    @staticmethod
    def _url_on(hosts: str) -> str:
        return f"zookeeper://{hosts}/watchdogs?session_timeout_s={SESSION_S:g}"


@pytest.fixture
def timeout_s() -> float:
    """Of the watchdogs."""
    return SOON_S


@pytest.fixture
def cluster(tmp_path: Path, timeout_s: float) -> Iterator[Cluster]:
    with ZooKeeperServer(tmp_path / "zookeeper") as server:
        cluster = Cluster(tmp_path, server, timeout_s)
        try:
            with running(cluster):
                yield cluster
        finally:
            cluster.cable.close()


@pytest.fixture
def operator(cluster: Cluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        operator.commands.change_settings({"fence_grace_s": 0.1, "watchdog_margin_s": 1, "fence_retry_s": 1})
        yield operator


def is_promised(snapshot: ClusterSnapshot) -> bool:
    return snapshot.node("hv2").record.value.watchdog_s > 0


@pytest.mark.parametrize(
    "lose",
    [
        lambda cluster: cluster.cable.freeze(),
        lambda cluster: cluster.cable.cut(),
        lambda cluster: cluster.send("hv2", signal.SIGSTOP),
    ],
    ids=["silent network", "cut cable", "hanging daemon"],
)
def test_a_node_without_the_store_is_off_when_its_vms_start_elsewhere(
    cluster: Cluster, operator: Operator, lose: Callable[[Cluster], None]
) -> None:
    uuid = operator.define("web1", target="hv2")
    operator.wait_state("web1")
    operator.wait(is_promised, "hv2 to arm its watchdog")
    lose(cluster)
    operator.wait(lambda s: not s.node("hv2").is_alive, "hv2 to be lost")
    with cluster.world() as world:
        console = world.console(uuid)
    operator.wait(lambda s: s.vm("web1").value.node != "hv2", "web1 to be recovered")
    with cluster.world() as world:
        assert "hv2" not in [domain.node for domain in world.domains()], "it was still running there"
    operator.wait_state("web1")
    with cluster.world() as world:
        assert world.console(uuid).boot_id != console.boot_id
    told = [event.kind for event in EventLog(operator.store).last(1000).events]
    assert ("node_fenced" in told, "node_not_fenced" in told) == (True, False)


@pytest.mark.parametrize("timeout_s", [60.0], ids=["longer than a busy machine takes for anything"])
def test_a_network_that_is_back_in_time_costs_nothing(cluster: Cluster, operator: Operator) -> None:
    uuid = operator.define("web1", target="hv2")
    operator.wait_state("web1")
    operator.wait(is_promised, "hv2 to arm its watchdog")
    with cluster.world() as world:
        boot_id = world.console(uuid).boot_id
    cluster.cable.cut()
    operator.wait(lambda s: not s.node("hv2").is_alive, "hv2 to be lost")
    cluster.cable.mend()
    operator.wait(lambda s: s.node("hv2").is_alive and is_promised(s), "hv2 to be there again, its watchdog armed")
    with cluster.world() as world:
        assert world.console(uuid).boot_id == boot_id
    assert operator.vm("web1").node == "hv2"
