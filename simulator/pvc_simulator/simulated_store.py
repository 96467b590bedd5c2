# SPDX-License-Identifier: Apache-2.0
"""simulated_store: a program's session with the simulated store: requests take time, and the link can be cut.

A request may be cut off before it arrives or before its answer does, and the program cannot tell which. That the link
is silent is noticed late, that the servers have gone at once. Watches are those of the real drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

from pvc_core.errors import Conflict, StoreUnavailable
from pvc_core.layout import name_in
from pvc_core.ports import Clock, Create, Entry, Op, SessionState, Subscription
from pvc_core.store_keys import check_key, check_ops, check_parent, parent_of, with_parents
from pvc_core.store_listening import SessionStates
from pvc_core.store_renaming import Node, check_names, rename_ops
from pvc_core.store_watching import Stamped, WatchEngine
from pvc_simulator.scheduler import Process, Scheduler
from pvc_simulator.store_server import PING_EVERY_S, StoreServer
from pvc_simulator.virtual_threads import VirtualThreads

T = TypeVar("T")

LATENCY_S = (0.0003, 0.003)
"""One way, least and most."""
PIPELINED_S = (0.0, 0.001)
"""Between the first and the last of many reads that are sent at once."""
REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10.0
RECONNECT_S = (0.05, 0.6)
NOTICE_GONE_S = (0.01, 0.1)
NOTICE_SILENT_S = (PING_EVERY_S, 2 * PING_EVERY_S)


class SimulatedStore:
    """Implements `pvc_core.ports.ClusterStore`.

    process: the program. is_reachable: whether what its host sends gets to the servers now. Whoever changes that, or
    stops or continues the program, calls `link_changed`.
    """

    def __init__(
        self,
        server: StoreServer,
        scheduler: Scheduler,
        random: Random,
        process: Process,
        clock: Clock,
        is_reachable: Callable[[], bool],
    ) -> None:
        threads = VirtualThreads(scheduler, process)
        self._server = server
        self._scheduler = scheduler
        self._random = random
        self._process = process
        self._is_reachable = is_reachable
        self._states = SessionStates(threads)
        self._engine = WatchEngine(self, threads, clock)
        self._session_id = ""
        self._is_started = False
        self._is_closed = False
        self._was_linked = True
        self._connection = 0
        """Grows with every connection that is made or given up, so that what was meant for another is dropped."""

    # ------------------------------------------------------------------------------------------ the session

    def start(self) -> None:
        if self._is_closed:
            raise StoreUnavailable("the store has been closed")
        if self._is_started:
            return
        self._pass_latency()
        gives_up_s = self._scheduler.now_s + CONNECT_TIMEOUT_S
        while not self._is_linked():
            if self._scheduler.now_s >= gives_up_s:
                raise StoreUnavailable(f"no server answered within {CONNECT_TIMEOUT_S:g} s")
            self._scheduler.sleep(self._random.uniform(*RECONNECT_S))
        if self._is_closed:
            raise StoreUnavailable("the store has been closed")
        self._is_started = True
        self._states.start()
        self._engine.start()
        self._server.clients[self] = None
        self._welcome()

    def close(self) -> None:
        was_running, self._is_closed = self._is_started and not self._is_closed, True
        if not was_running:
            return
        if self._is_linked():
            self._server.close_session(self._session_id)
        self.vanish()
        self._states.close()
        self._engine.close()

    def vanish(self) -> None:
        """The program has died, or closed the store: nothing is heard of it any more."""
        self._connection += 1
        self._server.forget(self)
        self._server.silent(self._session_id)

    @property
    def session_state(self) -> SessionState:
        return self._states.state

    @property
    def session_id(self) -> str:
        return self._session_id

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return self._states.add_listener(listener)

    def link_changed(self) -> None:
        """The program can be heard, or cannot be heard any more."""
        is_linked = self._is_linked()
        if self not in self._server.clients:
            return
        if is_linked == self._was_linked:
            if not is_linked and not self._process.is_stopped:  # one that was stopped has not noticed it then
                self._notice_later()
            return
        self._was_linked = is_linked
        self._connection += 1
        if is_linked:
            if self._states.state is SessionState.CONNECTED and self._server.has_session(self._session_id):
                self._server.heard(self._session_id)
                self._engine.everything_changed()
            else:
                self._later(RECONNECT_S, self._reconnect)
        else:
            if self._server.is_on:
                self._server.silent(self._session_id)
            self._notice_later()

    def _notice_later(self) -> None:
        if self._states.state is SessionState.CONNECTED:
            self._later(NOTICE_SILENT_S if self._server.is_on else NOTICE_GONE_S, self._suspend)

    def server_changed(self) -> None:
        """The servers are gone, or there again."""
        self.link_changed()

    def expired(self, session_id: str) -> None:
        """The servers have given the session up, and its connection with it."""
        if session_id == self._session_id and self._is_linked():
            self._connection += 1
            self._later(NOTICE_GONE_S, self._broke)

    def _broke(self) -> None:
        self._suspend()
        self._later(RECONNECT_S, self._reconnect)

    def _is_linked(self) -> bool:
        return self._server.is_on and not self._process.is_stopped and self._is_reachable()

    def _later(self, between_s: tuple[float, float], action: Callable[[], None]) -> None:
        connection = self._connection

        def act() -> None:
            if connection == self._connection:
                action()

        self._scheduler.after(self._random.uniform(*between_s), act)

    def _suspend(self) -> None:
        if not self._process.is_stopped:
            self._states.change(SessionState.SUSPENDED)

    def _reconnect(self) -> None:
        """Go on with the session, or begin another if it is over."""
        if self._server.has_session(self._session_id):
            self._server.heard(self._session_id)
            self._states.change(SessionState.CONNECTED)
            self._engine.everything_changed()
        else:
            self._states.change(SessionState.LOST)
            self._welcome()

    def _welcome(self) -> None:
        self._session_id = self._server.open_session()
        self._states.change(SessionState.CONNECTED)
        self._engine.everything_changed()

    # ------------------------------------------------------------------------------------------ requests

    def ensure(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        wanted = with_parents(keys)
        tree = self._server.tree
        missing = self._request(lambda: [key for key in wanted if tree.stamped(key) is None])

        def create() -> None:
            for key in missing:
                if tree.stamped(key) is None:  # nobody else has created it meanwhile
                    self._server.commit((Create(key, b""),), self._session_id)

        if missing:
            self._request(create)

    def get(self, key: str) -> Entry | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        for key in keys:
            check_key(key)
        return {key: stamped.entry for key, stamped in self.read_keys(keys).items()}

    def children(self, key: str) -> tuple[str, ...]:
        check_parent(key)
        return tuple(name_in(child) for child in self.list_keys(key, fresh=True))

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        check_ops(ops)
        if not ops:
            return ()
        return self._request(lambda: self._server.commit(ops, self._session_id))

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        check_names(source, destination)
        self.transaction(rename_ops(self._subtree(source), source, destination, also, self._session_id))

    def _subtree(self, key: str) -> list[Node]:
        """The key and everything below it, parents first, one level after the other as they are by then."""
        nodes: list[Node] = []
        level = [key]
        while level:
            found = self._request(lambda level=level: self._server.tree.nodes(level))  # type: ignore[misc]
            nodes += [node for node, _ in found]
            level = sorted(child for _, below in found for child in below)
        return nodes

    def _request(self, answer: Callable[[], T]) -> T:
        self._check_connected()
        connection = self._connection
        self._pass_latency()
        self._check_arrived(connection)
        if not self._server.has_session(self._session_id):  # the program was stopped for long, and is about to learn it
            raise StoreUnavailable("the session has expired")
        try:
            given: T | Conflict = answer()
        except Conflict as conflict:
            given = conflict
        self._pass_latency()
        self._check_arrived(connection)
        if isinstance(given, Conflict):
            raise given
        return given

    def _pass_latency(self) -> None:
        self._scheduler.sleep(self._random.uniform(*LATENCY_S))

    def _check_arrived(self, connection: int) -> None:
        """Nothing comes over a connection that was cut; the program learns that when it has noticed."""
        if connection == self._connection and self._is_linked():
            return
        ends_s = self._scheduler.now_s + REQUEST_TIMEOUT_S
        while self._states.state is SessionState.CONNECTED and not self._is_linked() and self._scheduler.now_s < ends_s:
            self._scheduler.sleep(0.25)
        raise StoreUnavailable("the connection broke while the answer was outstanding")

    def _check_connected(self) -> None:
        if self._is_closed or not self._is_started:
            raise StoreUnavailable("the store has been closed" if self._is_closed else "the store is not started")
        if self._states.state is not SessionState.CONNECTED:
            raise StoreUnavailable(f"the session is {self._states.state.value}")

    # ------------------------------------------------------------------------------------------ watches

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        check_key(key)
        self._check_connected()
        return self._interested(key, lambda: self._engine.watch(key, listener))

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        check_parent(parent)
        self._check_connected()
        return self._interested(f"{parent}/", lambda: self._engine.mirror(parent, listener))

    def _interested(self, what: str, begin: Callable[[], Subscription]) -> Subscription:
        self._server.watch(what, self)
        try:
            subscription = begin()
        except BaseException:
            self._server.unwatch(what, self)
            raise
        return _Interest(subscription, lambda: self._server.unwatch(what, self))

    def changed(self, key: str, *, is_set: bool) -> None:
        """As the servers tell it: late, and not at all over a link that is cut."""
        if self._is_linked() and self._states.state is SessionState.CONNECTED:
            self._later(LATENCY_S, lambda: self._tell(key, is_set))

    def _tell(self, key: str, is_set: bool) -> None:
        self._engine.key_changed(key)
        if not is_set:
            self._engine.children_changed(parent_of(key))
            self._engine.children_changed(key)

    # What the watch engine asks for. Nothing to arm: the servers tell of every change.

    def read_key(self, key: str, fresh: bool) -> Stamped | None:
        return self.read_keys([key]).get(key)

    def read_keys(self, keys: Sequence[str]) -> Mapping[str, Stamped]:
        """In their order, and not all at the same moment: others may write in between."""
        tree, found = self._server.tree, dict[str, Stamped]()
        first = self._random.randint(1, len(keys)) if keys else 0

        def read(some: Sequence[str]) -> None:
            found.update((key, stamped) for key in some if (stamped := tree.stamped(key)))

        def answer() -> None:
            read(keys[:first])
            if first < len(keys):
                self._scheduler.sleep(self._random.uniform(*PIPELINED_S))
                read(keys[first:])

        self._request(answer)
        return found

    def list_keys(self, parent: str, fresh: bool) -> Sequence[str]:
        return self._request(lambda: self._server.tree.child_keys(parent))


class _Interest:
    """A subscription whose end the servers are told."""

    def __init__(self, subscription: Subscription, forget: Callable[[], None]) -> None:
        self._subscription = subscription
        self._forget: Callable[[], None] | None = forget

    def cancel(self) -> None:
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()
        self._subscription.cancel()
