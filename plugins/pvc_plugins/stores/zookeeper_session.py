# SPDX-License-Identifier: Apache-2.0
"""zookeeper_session: one kazoo client that answers in bounded time, reconnects for ever, and fails in our words.

kazoo queues requests while it is not connected and waits for ever by default; a caller of the store must get
`StoreUnavailable` instead, and soon. Requests go out pipelined: the server answers those of one session in
order, so a `sync` sent right before a read makes it current without a round trip of its own. For the same
reason a write whose answer did not come in time is settled, one way or the other, before the next read that
this session gets an answer to.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import structlog
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import make_digest_acl

from pvc_core.errors import StoreUnavailable
from pvc_core.ports import SessionState
from pvc_core.store_listening import SessionStates
from pvc_plugins.stores.zookeeper_options import ZooKeeperAddress
from pvc_plugins.stores.zookeeper_sockets import SocketHandler

log = structlog.get_logger(__name__)
# The client library's own lines would stand as plain text in a JSON log; what matters of them is logged here.
logging.getLogger("kazoo").addHandler(logging.NullHandler())

REFUSALS = (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError, NoChildrenForEphemeralsError)
"""Answers that say how the keys are; every other error says that the store cannot be used."""

Send = Callable[[KazooClient], Any]
"""Sends one request without waiting and returns kazoo's AsyncResult."""

_IN_FLIGHT_MAX = 2000
_LOOK_AT_SESSION_S = 0.25
_RESTART_DELAY_S = 1.0


class ZooKeeperSession:
    """The connection, its state, and pipelined requests."""

    def __init__(self, address: ZooKeeperAddress, states: SessionStates, on_connected: Callable[[], None]) -> None:
        """`on_connected` runs on kazoo's thread after each connection made; it must not wait for anything."""
        self._address = address
        self._states = states
        self._on_connected = on_connected
        self._client: KazooClient | None = None
        self._closing = False
        self.session_id = ""

    def start(self) -> None:
        """Connect, or raise `StoreUnavailable` after the connect timeout."""
        if self._closing:
            raise StoreUnavailable("the store has been closed")
        if self._client is not None:
            return
        client = self._client = self._new_client()
        welcomed = threading.Event()
        client.add_listener(partial(self._on_kazoo_state, client, welcomed))
        timeout_s = self._address.options.connect_timeout_s
        client.start_async()
        # kazoo's own event comes before its listeners are called: whoever went on then would find no session here.
        if not welcomed.wait(timeout_s):
            self.end()
            raise StoreUnavailable(f"no server of {self._address.hosts} answered within {timeout_s:g} s")

    def close(self) -> None:
        """End the session now. Idempotent."""
        self._closing = True
        self.end()

    def end(self) -> None:
        """End the session now; `start` makes another one."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            client.stop()
            client.close()
        except KazooException as error:  # its thread is stuck in a connection attempt and ends after that
            log.warning("store_close_incomplete", problem=str(error))
        self._states.change(SessionState.LOST)

    @property
    def is_started(self) -> bool:
        """Whether there is a session, or one is being made."""
        return self._client is not None

    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """ZooKeeper's ID and password of the session, with which another client can take it over."""
        client_id: tuple[int, bytes] | None = self._client.client_id if self._client else None
        return client_id

    def request(self, send: Send) -> Any:
        """The answer to one request. Raises `StoreUnavailable`, or one of `REFUSALS`."""
        (answer,) = self.pipeline([send])
        if isinstance(answer, REFUSALS):
            raise answer
        return answer

    def pipeline(self, sends: Iterable[Send]) -> Iterator[Any]:
        """The answers in order, a refusal as the exception object; up to 2000 requests are under way at once.

        Raises `StoreUnavailable` when one is not answered within the request timeout.
        """
        client = self._connected_client()
        under_way: deque[Any] = deque()
        for send in sends:
            under_way.append(send(client))
            if len(under_way) >= _IN_FLIGHT_MAX:
                yield self._answer(under_way.popleft())
        while under_way:
            yield self._answer(under_way.popleft())

    def _answer(self, result: Any) -> Any:
        deadline_s = time.monotonic() + self._address.options.request_timeout_s
        while not result.wait(_LOOK_AT_SESSION_S):
            # kazoo fails what was sent when the connection breaks; what it queued since then only waits.
            self._connected_client()
            if time.monotonic() >= deadline_s:
                raise StoreUnavailable(f"no answer within {self._address.options.request_timeout_s:g} s")
        try:
            return result.get_nowait()
        except REFUSALS as refusal:
            return refusal
        except NoAuthError as error:
            raise StoreUnavailable("access to a key is denied by its ACL") from error
        except (KazooException, KazooTimeoutError) as error:
            raise StoreUnavailable(f"{type(error).__name__} {error}".strip()) from error

    def _connected_client(self) -> KazooClient:
        if self._client is None:
            raise StoreUnavailable("the store has been closed" if self._closing else "the store is not started")
        if self._states.state is not SessionState.CONNECTED:
            raise StoreUnavailable(f"the session is {self._states.state.value}")
        return self._client

    def _new_client(self) -> KazooClient:
        o = self._address.options
        arguments: dict[str, Any] = {"hosts": self._address.hosts, "timeout": o.session_timeout_s}
        if o.user:
            arguments["auth_data"] = [("digest", f"{o.user}:{o.password}")]
            arguments["default_acl"] = [make_digest_acl(o.user, o.password, all=True)]
        handler = SocketHandler(self._address.tls_context(), o.session_timeout_s / 12, self._answer_limit_s)
        retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1.5, max_delay=0.5, sleep_func=handler.sleep_func)
        return KazooClient(handler=handler, connection_retry=retry, **arguments)

    def _answer_limit_s(self) -> float:
        """How long one server may take to welcome us.

        kazoo notices after two thirds of the session timeout that a server has died. The last third has to do
        for a dead and a silent server and one that answers. With no session to save, patience is better: a new
        one has to be written to the disks of most servers.
        """
        o = self._address.options
        if self._states.state is SessionState.SUSPENDED:
            return o.session_timeout_s / 5
        return o.connect_timeout_s / 2 / len(self._address.hosts.split(","))

    def _on_kazoo_state(self, client: KazooClient, welcomed: threading.Event, state: str) -> None:
        """Runs on kazoo's connection thread: must not wait for anything."""
        if self._has_ended(client):  # and it says so only now
            return
        if state == KazooState.CONNECTED:
            self.session_id = f"{client.client_id[0] & 0xFFFF_FFFF_FFFF_FFFF:x}"
            self._states.change(SessionState.CONNECTED)
            self._on_connected()
            welcomed.set()
        elif state == KazooState.SUSPENDED:
            self._states.change(SessionState.SUSPENDED)
        else:
            self._states.change(SessionState.LOST)
            if client.client_state in (KeeperState.CLOSED, KeeperState.AUTH_FAILED) and not self._closing:
                # Its loop died of an error nobody foresaw, such as an answer that is not ZooKeeper's.
                client.handler.spawn(self._restart, client)

    def _restart(self, client: KazooClient) -> None:
        log.warning("store_connection_restarts", client_state=client.client_state)
        time.sleep(_RESTART_DELAY_S)
        client.start_async()
        if self._has_ended(client):  # meanwhile; stopping twice does no harm
            client.stop()

    def _has_ended(self, client: KazooClient) -> bool:
        return client is not self._client
