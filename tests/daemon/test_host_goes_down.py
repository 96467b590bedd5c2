# SPDX-License-Identifier: Apache-2.0
"""A host goes down by plan, on real daemons: its guests are moved away or shut down and held, and come back with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from operators import Operator, an_operator
from pvc_core.event_log import EventLog
from pvc_lab.embedded_cluster import EmbeddedCluster

Start = Callable[[str], tuple[EmbeddedCluster, Operator]]


class Cluster(EmbeddedCluster):
    """Its nodes do something for their guests when their host goes down."""

    policy = "leave"

    def _configuration(self, node: str) -> str:
        text = super()._configuration(node)
        return text.replace("[node]\n", f'[node]\non_shutdown = "{self.policy}"\non_shutdown_deadline_s = 60\n')


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes `systemctl is-system-running` say something."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"

    def says(state: str) -> None:
        program.write_text(f'#!/bin/sh\n[ "$*" = is-system-running ] && echo {state}\n')
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    says("running")
    return says


@pytest.fixture
def start(tmp_path: Path, systemd: Callable[[str], None]) -> Iterator[Start]:
    """A cluster of three whose hosts follow a policy, and its operator."""
    cluster = Cluster(tmp_path)
    with_operator = None

    def started(policy: str) -> tuple[EmbeddedCluster, Operator]:
        nonlocal with_operator
        cluster.policy = policy
        for node in cluster.nodes:
            cluster.start_daemon(node)
        with_operator = an_operator(cluster.store_url, len(cluster.nodes))
        operator = with_operator.__enter__()
        operator.commands.change_settings({"autoready_delay_s": 0.5})
        return cluster, operator

    try:
        yield started
        with cluster.world() as world:
            assert world.ran_on_two_nodes() == []
    finally:
        if with_operator is not None:
            with_operator.__exit__(None, None, None)
        cluster.down()


def go_down(cluster: EmbeddedCluster, node: str, systemd: Callable[[str], None]) -> None:
    """systemd stops the services, and then the power goes."""
    systemd("stopping")
    cluster.stop(node, signal.SIGTERM)
    with cluster.world() as world:
        world.cut_power(node)
    systemd("running")


def boot(cluster: EmbeddedCluster, node: str) -> None:
    with cluster.world() as world:
        world.bring_hypervisor_back(node)
    cluster.start_daemon(node)


def test_a_flush_moves_the_guests_away_and_the_node_is_ready_again_after_the_boot(
    start: Start, systemd: Callable[[str], None]
) -> None:
    cluster, operator = start("flush")
    operator.define("web1", target="hv2")
    operator.define("pinned", target="hv2", node_limit=("hv2",))
    operator.wait_state("web1", "pinned")
    go_down(cluster, "hv2", systemd)
    assert (operator.vm("web1").state, operator.vm("web1").node != "hv2") == ("running", True)
    assert (operator.vm("pinned").state, operator.vm("pinned").held) == ("stopped", True)
    operator.wait(lambda s: s.node("hv2").liveness == "left", "hv2 to have left")
    boot(cluster, "hv2")
    operator.wait_mode("hv2", "ready")
    operator.wait_state("pinned", node="hv2")
    assert operator.vm("web1").node != "hv2", "what runs elsewhere is not brought home by itself"


def test_a_shutdown_holds_the_guests_the_least_important_first_and_they_start_after_the_boot(
    start: Start, systemd: Callable[[str], None]
) -> None:
    cluster, operator = start("shutdown")
    for name, priority in (("high", 5), ("low", -5)):
        operator.define(name, target="hv2", priority=priority)
    operator.define("off", target="hv2", start=False)
    operator.wait_state("high", "low")
    go_down(cluster, "hv2", systemd)
    high, low = operator.vm("high"), operator.vm("low")
    assert [(vm.state, vm.held, vm.node) for vm in (high, low)] == [("stopped", True, "hv2")] * 2
    assert low.changed_at <= high.changed_at
    assert "node_lost" not in [event.kind for event in EventLog(operator.store).last(1000).events]
    boot(cluster, "hv2")
    operator.wait_mode("hv2", "ready")
    operator.wait_state("high", "low", node="hv2")
    assert operator.vm("off").state == "stopped"


@pytest.mark.parametrize("policy", ["flush", "shutdown"])
def test_a_mere_restart_of_the_service_touches_no_guest(start: Start, policy: str) -> None:
    cluster, operator = start(policy)
    uuid = operator.define("web1", target="hv2")
    operator.wait_state("web1")
    with cluster.world() as world:
        before = world.console(uuid).boot_id
    cluster.stop("hv2", signal.SIGTERM)
    operator.wait(lambda s: s.node("hv2").liveness == "left", "hv2 to have left")
    assert operator.view.snapshot().node("hv2").mode == "ready"
    cluster.start_daemon("hv2")
    operator.wait(lambda s: s.node("hv2").is_alive, "hv2 to be back")
    with cluster.world() as world:
        assert world.console(uuid).boot_id == before


def test_a_second_signal_ends_the_waiting(start: Start, systemd: Callable[[str], None]) -> None:
    cluster, operator = start("shutdown")
    operator.define("stubborn", "ignores-shutdown='yes'", target="hv2", shutdown_timeout_s=3600)
    operator.wait_state("stubborn")
    systemd("stopping")
    cluster.send("hv2", signal.SIGTERM)
    operator.wait_state("stubborn", state="shutting-down")
    cluster.stop("hv2", signal.SIGTERM)
    operator.wait(lambda s: s.node("hv2").liveness == "left", "hv2 to have left")
    assert operator.vm("stubborn").state == "shutting-down"
