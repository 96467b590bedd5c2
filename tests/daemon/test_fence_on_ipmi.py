# SPDX-License-Identifier: Apache-2.0
"""Real daemons, fence_ipmilan and a BMC: a host whose daemon is dead is switched off, and only then recovered."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator
from pvc_core.event_log import EventLog
from pvc_lab.bmc import Bmc
from pvc_lab.embedded_cluster import EmbeddedCluster

pytestmark = pytest.mark.lab
PASSWORD = "Swordfish-4711"


@pytest.fixture
def bmc(tmp_path: Path, cluster: EmbeddedCluster) -> Iterator[Bmc]:
    """hv2's: it takes the power from the host with all its guests."""

    def switch(power: str) -> None:
        with cluster.world() as world:
            if power == "off":
                world.cut_power("hv2")

    with Bmc(tmp_path / "bmc", port=None, user="admin", password=PASSWORD, on_power=switch) as bmc:
        yield bmc


@pytest.fixture
def web1(operator: Operator, bmc: Bmc) -> None:
    """A VM on hv2, which has its BMC for a fence device."""
    operator.commands.change_settings({"fence_grace_s": 0.1, "fence_retry_s": 0.5})
    parameters = {"agent": "fence_ipmilan", "ip": bmc.address, "ipport": str(bmc.port), "lanplus": "1", "cipher": "3"}
    login = {
        "username": "admin",
        "password": PASSWORD,
        "power_wait": "0",
        "power_timeout": "2",
        "ipmitool_timeout": "1",
    }
    operator.commands.add_fence_device("hv2", "fence-agents", {**parameters, **login})
    operator.define("web1", target="hv2")
    operator.wait_state("web1")


def told(operator: Operator) -> dict[str, str]:
    """The last reason of each kind of event."""
    return {event.kind: event.reason for event in EventLog(operator.store).last(1000).events}


def test_a_host_that_still_runs_is_switched_off_before_its_vm_starts_elsewhere(
    cluster: EmbeddedCluster, operator: Operator, bmc: Bmc, web1: None
) -> None:
    cluster.stop("hv2", signal.SIGKILL)  # its guests run on: web1 would run twice, which the cluster's fixture notices
    operator.wait(lambda s: s.vm("web1").value.node != "hv2", "web1 to be recovered")
    operator.wait_state("web1")
    assert bmc.power == "off"
    assert told(operator)["node_fenced"] == f"fence_ipmilan at {bmc.address} says that hv2 is off"
    assert not any(PASSWORD in cluster.log_path(node).read_text() for node in cluster.nodes)


@pytest.mark.parametrize("fault", ["silent", "deaf"])
def test_a_bmc_that_is_silent_or_disobeys_holds_the_recovery_up_until_it_works(
    cluster: EmbeddedCluster, operator: Operator, bmc: Bmc, web1: None, fault: str
) -> None:
    if fault == "silent":
        bmc.silence()
    else:
        bmc.ignore_commands()
    cluster.stop("hv2", signal.SIGKILL)
    operator.wait(lambda s: "fence_ipmilan" in told(operator).get("node_not_fenced", ""), "the failure to be told")
    assert (operator.vm("web1").node, "node_fenced" in told(operator)) == ("hv2", False)
    bmc.speak()
    bmc.ignore_commands(False)
    operator.wait(lambda s: s.vm("web1").value.node != "hv2", "web1 to be recovered")
    operator.wait_state("web1")
    assert bmc.power == "off"
