# SPDX-License-Identifier: Apache-2.0
"""What becomes of VMs whose guests power off, that fail on one node, or wait for a candidate; with real daemons."""

from __future__ import annotations

import signal

from operators import Operator
from pvc_lab.embedded_cluster import EmbeddedCluster


def power_off(cluster: EmbeddedCluster, uuid: str) -> None:
    with cluster.world() as world:
        world.power_off_guest(uuid)


def test_a_guest_that_powers_itself_off_stays_off_if_its_vm_says_so(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    uuid = operator.define("web1", target="hv1", on_poweroff="stop")
    operator.wait_state("web1")
    power_off(cluster, uuid)
    operator.wait_state("web1", state="stopped")
    assert operator.vm("web1").reason == "its guest powered off"
    operator.commands.start("web1")
    operator.wait_state("web1")


def test_a_guest_that_powered_itself_off_while_its_daemon_was_down_is_started_again(
    cluster: EmbeddedCluster, operator: Operator
) -> None:
    uuid = operator.define("web1", target="hv1", on_poweroff="stop")
    operator.wait_state("web1")
    cluster.stop("hv1", signal.SIGTERM)
    before = operator.vm("web1").transition
    power_off(cluster, uuid)
    cluster.start_daemon("hv1")
    operator.wait(lambda s: s.vm("web1").value.transition > before + 1, "it is noticed")
    operator.wait_state("web1")


def test_a_vm_that_cannot_start_on_one_node_is_tried_on_another(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.commands.change_settings({"start_backoff_s": 0.05, "relocations": 2})
    operator.define("web1", "starts-only-on='hv3'", target="hv1")
    operator.wait_state("web1", node="hv3")
    assert operator.vm("web1").home == "hv1"
    assert "hv3" not in operator.vm("web1").failed_on


def test_a_held_vm_starts_on_whichever_node_can_take_it_first(cluster: EmbeddedCluster, operator: Operator) -> None:
    operator.define("web1", target="hv1", node_limit=("hv1",), held_until="any")
    operator.wait_state("web1")
    operator.commands.flush("hv1")
    operator.wait_state("web1", state="stopped")
    assert operator.vm("web1").held
    operator.commands.change_metadata("web1", {"node_limit": "hv1,hv2"})
    operator.wait_state("web1", node="hv2")
    assert (operator.vm("web1").home, operator.vm("web1").held) == ("hv1", False)
