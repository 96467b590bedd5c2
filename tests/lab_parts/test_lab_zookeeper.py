# SPDX-License-Identifier: Apache-2.0
"""A ZooKeeper of the lab is a real one: it keeps its data, its port and, in an ensemble, its quorum."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from lab_guests import Timed

from pvc_lab import processes
from pvc_lab.waiting import wait_for
from pvc_lab.zookeeper import ZooKeeperError, ZooKeeperServer
from pvc_lab.zookeeper_ensemble import ZooKeeperEnsemble

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]


@contextmanager
def client(hosts: str, session_timeout_s: float = 10.0) -> Iterator[Any]:
    retry = {"max_tries": -1, "delay": 0.05, "max_delay": 0.2}
    zookeeper = KazooClient(hosts, timeout=session_timeout_s, connection_retry=retry)
    zookeeper.start(timeout=30)
    try:
        yield zookeeper
    finally:
        zookeeper.stop()
        zookeeper.close()


def test_a_server_serves_clients_as_soon_as_start_returns(tmp_path: Path, timed: Timed) -> None:
    server = ZooKeeperServer(tmp_path)
    with timed("ZooKeeper start"):
        server.start()
    with client(server.hosts) as zookeeper:
        zookeeper.create("/record", b"kept")
    server.stop()
    assert server.mode() is None


@pytest.mark.parametrize("end", [ZooKeeperServer.stop, ZooKeeperServer.kill])
def test_records_and_port_survive_the_end_of_the_server(tmp_path: Path, end: Any) -> None:
    with ZooKeeperServer(tmp_path) as server:
        hosts = server.hosts
        with client(hosts) as zookeeper:
            zookeeper.create("/record", b"kept")
        end(server)
        server.start()
        with client(hosts) as zookeeper:
            assert zookeeper.get("/record")[0] == b"kept"


def test_a_session_outlives_a_restart_of_its_server(tmp_path: Path, timed: Timed) -> None:
    with ZooKeeperServer(tmp_path) as server, client(server.hosts) as zookeeper:
        zookeeper.create("/member", ephemeral=True)
        session = zookeeper.client_id
        with timed("ZooKeeper restart"):
            server.restart()
        wait_for(lambda: zookeeper.connected, "the client is connected again")
        assert zookeeper.client_id == session
        assert zookeeper.exists("/member")


def test_session_timeouts_of_half_a_second_are_granted(tmp_path: Path) -> None:
    with ZooKeeperServer(tmp_path) as server, client(server.hosts, session_timeout_s=0.5) as zookeeper:
        assert zookeeper._session_timeout == 500  # what the server granted; kazoo has no public name for it


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with ZooKeeperServer(tmp_path / "first") as first:
        second = ZooKeeperServer(tmp_path / "second", port=first.port)
        with pytest.raises(ZooKeeperError, match="Address already in use"):
            second.start()


def test_the_process_is_started_by_whatever_spawn_is_given(tmp_path: Path) -> None:
    spawned: list[str] = []

    def spawn(argv: Sequence[str], log_path: Path) -> subprocess.Popen[bytes]:
        spawned.append(argv[0])
        return processes.spawn(argv, log_path)

    with ZooKeeperServer(tmp_path, spawn=spawn):
        assert spawned == ["java"]


def test_an_ensemble_elects_another_leader_when_its_leader_dies(tmp_path: Path, timed: Timed) -> None:
    ensemble = ZooKeeperEnsemble(tmp_path)
    with timed("ensemble of three start"):
        ensemble.start()
    try:
        with client(ensemble.hosts) as zookeeper:
            zookeeper.create("/record", b"kept")
            leader = ensemble.leader()
            with timed("another leader"):
                leader.kill()
                assert ensemble.leader() is not leader
            wait_for(lambda: zookeeper.connected, "the client is connected again")
            assert zookeeper.retry(zookeeper.get, "/record")[0] == b"kept"
            leader.start()
            assert leader.mode() == "follower"
    finally:
        ensemble.stop()
