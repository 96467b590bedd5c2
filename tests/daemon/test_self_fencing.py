# SPDX-License-Identifier: Apache-2.0
"""Real daemons with watchdogs: one that hangs is ended with its host, and its VMs start elsewhere without a device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator, running
from pvc_core.event_log import EventLog
from pvc_lab.embedded_cluster import EmbeddedCluster

SOON_S = 4.0


@pytest.fixture
def timeout_s() -> float:
    """Of the watchdogs: longer than a busy machine takes for anything, where none is to come to its end."""
    return 40.0


@pytest.fixture
def cluster(tmp_path: Path, timeout_s: float) -> Iterator[EmbeddedCluster]:
    """Three daemons, each with a watchdog of its own."""
    with running(EmbeddedCluster(tmp_path, watchdog_s=timeout_s)) as cluster:
        yield cluster


@pytest.fixture
def operator(cluster: EmbeddedCluster) -> Iterator[Operator]:
    with an_operator(cluster.store_url, len(cluster.nodes)) as operator:
        operator.commands.change_settings({"fence_grace_s": 0.1, "watchdog_margin_s": 1, "fence_retry_s": 1})
        yield operator


def promised_s(operator: Operator, node: str) -> float:
    return operator.view.snapshot().node(node).record.value.watchdog_s


def wait_promise(operator: Operator, node: str, watchdog_s: float) -> None:
    operator.wait(lambda s: s.node(node).record.value.watchdog_s == watchdog_s, f"{node} to promise {watchdog_s} s")


def a_vm_on(operator: Operator, node: str, timeout_s: float) -> str:
    """Its UUID; it runs, and the node's watchdog is armed."""
    uuid = operator.define("web1", target=node)
    operator.wait_state("web1")
    wait_promise(operator, node, 2 * timeout_s)
    return uuid


@pytest.mark.parametrize("timeout_s", [SOON_S])
def test_a_daemon_that_hangs_is_fenced_by_its_watchdog_and_its_vms_start_elsewhere(
    cluster: EmbeddedCluster, operator: Operator, timeout_s: float
) -> None:
    a_vm_on(operator, "hv2", timeout_s)
    assert promised_s(operator, "hv3") == 0.0, "it is armed where VMs are, and nowhere else"
    cluster.send("hv2", signal.SIGSTOP)
    operator.wait(lambda s: s.vm("web1").value.node != "hv2", "web1 to be recovered")
    operator.wait_state("web1")
    (evidence,) = [e.reason for e in EventLog(operator.store).last(1000).events if e.kind == "node_fenced"]
    assert evidence == "its watchdog has fenced it: it was to be off 8 s after the end of its session"
    with cluster.world() as world:
        assert {domain.node for domain in world.domains()} == {operator.vm("web1").node}


def test_a_daemon_that_dies_and_is_there_again_in_time_keeps_its_guests(
    cluster: EmbeddedCluster, operator: Operator, timeout_s: float
) -> None:
    uuid = a_vm_on(operator, "hv2", timeout_s)
    with cluster.world() as world:
        boot = world.console(uuid).boot_id
    before = operator.view.snapshot().node("hv2").record.value.session
    cluster.stop("hv2", signal.SIGKILL)
    cluster.start_daemon("hv2")
    operator.wait(
        lambda s: s.node("hv2").record.value.session != before and s.node("hv2").record.value.watchdog_s > 0,
        "the new daemon to take the watchdog over",
    )
    with cluster.world() as world:
        assert world.console(uuid).boot_id == boot
    assert "node_fenced" not in [event.kind for event in EventLog(operator.store).last(1000).events]


def test_a_daemon_that_is_stopped_on_purpose_leaves_its_guests_alone(
    cluster: EmbeddedCluster, operator: Operator, timeout_s: float
) -> None:
    a_vm_on(operator, "hv2", timeout_s)
    cluster.stop("hv2")
    wait_promise(operator, "hv2", 0.0)
    assert len(cluster.processes_left()) == len(cluster.nodes) - 1, "its watchdog has ended with it"
    with cluster.world() as world:
        assert [domain.node for domain in world.domains()] == ["hv2"]


def test_the_watchdog_is_disarmed_when_the_last_vm_is_off(
    cluster: EmbeddedCluster, operator: Operator, timeout_s: float
) -> None:
    a_vm_on(operator, "hv2", timeout_s)
    operator.commands.stop("web1")
    operator.wait_state("web1", state="stopped")
    wait_promise(operator, "hv2", 0.0)
    operator.commands.start("web1")
    wait_promise(operator, "hv2", 2 * timeout_s)
