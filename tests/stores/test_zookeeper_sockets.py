# SPDX-License-Identifier: Apache-2.0
"""A server that does not answer is given up in time to reach another one before the session is over."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pvc_core.ports import SessionState
from pvc_core.testing.store_suite import Recorder
from pvc_lab.zookeeper import ZooKeeperServer
from pvc_plugins.stores.zookeeper import ZooKeeperStore
from pvc_plugins.stores.zookeeper_sockets import SocketHandler
from stores.tcp_proxy import TcpProxy

FOR_EVER_S = 3600.0


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_the_wait_for_the_first_answer_of_a_server_is_limited(silent: socket.socket) -> None:
    handler = SocketHandler(None, FOR_EVER_S, lambda: 0.05)
    with handler.create_connection(silent.getsockname(), timeout=FOR_EVER_S) as connection:
        assert handler.select([connection], [], [], FOR_EVER_S) == ([], [], [])


def test_later_answers_may_take_their_time(silent: socket.socket) -> None:
    handler = SocketHandler(None, FOR_EVER_S, lambda: 0.05)
    wakeup, _other_end = socket.socketpair()
    with wakeup, _other_end, handler.create_connection(silent.getsockname(), timeout=FOR_EVER_S) as connection:
        handler.select([connection, wakeup], [], [], 0)
        began_s = time.monotonic()
        handler.select([connection], [], [], 0.3)
        assert time.monotonic() - began_s >= 0.3


def test_the_wait_for_a_host_that_is_off_is_limited() -> None:
    handler = SocketHandler(None, 0.05, lambda: FOR_EVER_S)
    with socket.socket() as full, ExitStack() as connections:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # nobody accepts: soon connections are not even answered

        def connect_until_it_fails() -> None:
            for _ in range(100):
                connections.enter_context(handler.create_connection(full.getsockname(), timeout=FOR_EVER_S))

        with pytest.raises(TimeoutError):
            connect_until_it_fails()


@pytest.mark.zookeeper
def test_a_silent_server_among_others_costs_nobody_the_session(zookeeper: ZooKeeperServer) -> None:
    target = (zookeeper.host, zookeeper.port)
    with TcpProxy(target) as silent, TcpProxy(target) as healthy:
        silent.freeze()
        url = f"zookeeper://{silent.hosts},{healthy.hosts}/silent?session_timeout_s=10&connect_timeout_s=8"
        store, states = ZooKeeperStore(url), Recorder[SessionState]()
        store.start()
        session_id = store.session_id
        store.add_session_listener(states)
        for _ in range(3):
            healthy.cut()
            states.wait_for_last(SessionState.SUSPENDED)
            healthy.mend()
            states.wait_for_last(SessionState.CONNECTED)
        assert store.session_id == session_id
        store.close()
