# SPDX-License-Identifier: Apache-2.0
"""acme keeps the rules of all selectors, and means what it says."""

from pvc_core.testing.builders import a_capacity, a_node
from pvc_core.testing.fake_cluster import FakeCluster
from pvc_core.testing.selector_suite import SpreadingSelectorSuite

BUSY, QUIET = {"zone": "busy"}, {"zone": "quiet"}
NODES = [a_node("hv1", labels=BUSY), a_node("hv2", labels=QUIET), a_node("hv3", labels=QUIET)]


class TestAcme(SpreadingSelectorSuite):
    name = "acme"

    def test_the_quiet_zone_wins_however_full_it_is(self) -> None:
        quiet = a_capacity("hv1", labels=QUIET, assigned_vms=40)
        scores = self.scores([quiet, a_capacity("hv2")])
        assert scores["hv1"] > scores["hv2"]


def test_vms_fill_the_quiet_zone_evenly() -> None:
    with FakeCluster(NODES) as cluster:
        placed = [cluster.define(f"web{number}", node_selector="acme").node for number in range(4)]
        assert placed == ["hv2", "hv3", "hv2", "hv3"]
        assert cluster.explain("web0").selector == "acme"
        assert cluster.plugin_failures == []


def test_a_flush_keeps_vms_in_the_quiet_zone() -> None:
    with FakeCluster(NODES) as cluster:
        cluster.define("web1", node_selector="acme")
        cluster.flush("hv2")
        assert cluster.node_of("web1") == "hv3"


def test_another_zone_can_be_configured() -> None:
    with FakeCluster(NODES) as cluster:
        cluster.configure(plugins={"acme": {"zone": "busy"}})
        assert cluster.define("web1", node_selector="acme").node == "hv1"
