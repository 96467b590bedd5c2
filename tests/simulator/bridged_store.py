# SPDX-License-Identifier: Apache-2.0
"""bridged_store: a simulated store as real threads see it, and as other processes do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from multiprocessing.connection import Client, Connection, Listener
from threading import Thread
from typing import Any, TypeVar, cast

from pvc_core.ports import ClusterStore, Entry, Op, SessionState, Subscription
from pvc_core.testing.store_harness import DEADLINE_S
from pvc_core.testing.store_suite import StoreHarness
from pvc_simulator.scheduler import Process
from pvc_simulator.simulated_store import SimulatedStore
from pvc_simulator.store_server import StoreServer
from pvc_simulator.virtual_threads import VirtualClock
from simulator.real_time import SPEED, RealTime

T = TypeVar("T")

SESSION_TIMEOUT_S = 4.0
"""Of real time: a busy machine must not take a short cut for a long one."""


class BridgedStore:
    """Implements `pvc_core.ports.ClusterStore`: a simulated program that does with its store what it is told."""

    _numbers = count(1)

    def __init__(self, world: RealTime, server: StoreServer) -> None:
        self._world = world
        self.is_reachable = True
        self.process = Process(world.scheduler, f"program-{next(self._numbers)}")
        clock = VirtualClock(world.scheduler)
        self.inner = SimulatedStore(
            server, world.scheduler, world.random, self.process, clock, lambda: self.is_reachable
        )

    def link(self, *, is_reachable: bool) -> None:
        """Cut the program off from the servers, or not any more."""

        def change() -> None:
            self.is_reachable = is_reachable
            self.inner.link_changed()

        self._world.act(change)

    def kill(self) -> None:
        """SIGKILL."""

        def kill() -> None:
            self.process.kill()
            self.inner.vanish()

        self._world.act(kill)

    def start(self) -> None:
        self._call(self.inner.start)

    def close(self) -> None:
        self._call(self.inner.close)

    @property
    def session_state(self) -> SessionState:
        return self.inner.session_state

    @property
    def session_id(self) -> str:
        return self.inner.session_id

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        return self._subscribed(lambda: self.inner.add_session_listener(self._world.listener(listener)))

    def ensure(self, keys: Sequence[str]) -> None:
        self._call(lambda: self.inner.ensure(keys))

    def get(self, key: str) -> Entry | None:
        return self._call(lambda: self.inner.get(key))

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        return self._call(lambda: self.inner.get_many(keys))

    def children(self, key: str) -> tuple[str, ...]:
        return self._call(lambda: self.inner.children(key))

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        return self._call(lambda: self.inner.transaction(ops))

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        self._call(lambda: self.inner.rename(source, destination, also))

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        return self._subscribed(lambda: self.inner.watch(key, self._world.listener(listener)))

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        return self._subscribed(lambda: self.inner.mirror(parent, self._world.listener(listener)))

    def _call(self, body: Callable[[], T]) -> T:
        return self._world.call(self.process, body)

    def _subscribed(self, begin: Callable[[], Subscription]) -> Subscription:
        return BridgedSubscription(self._world, self.process, self._call(begin))


class BridgedSubscription:
    """Implements `pvc_core.ports.Subscription`."""

    def __init__(self, world: RealTime, process: Process, inner: Subscription) -> None:
        self._world = world
        self._process = process
        self._inner = inner

    def cancel(self) -> None:
        self._world.call(self._process, self._inner.cancel)


class RemoteStore:
    """A program in another process of the operating system: the calls that need no listener, answered over a pipe.

    The simulated program dies with the process.
    """

    def __init__(self, address: Any, key: bytes) -> None:
        self._pipe = Client(address, authkey=key)

    def start(self) -> None:
        self._ask("start")

    def close(self) -> None:
        self._ask("close")

    def get(self, key: str) -> Entry | None:
        return cast("Entry | None", self._ask("get", key))

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        return cast("tuple[int, ...]", self._ask("transaction", ops))

    def _ask(self, method: str, *arguments: object) -> object:
        self._pipe.send((method, arguments))
        answer, error = self._pipe.recv()
        if error is not None:
            raise error
        return answer


def open_remote(address: Any, key: bytes) -> ClusterStore:
    """What an opener does in another process."""
    return cast("ClusterStore", RemoteStore(address, key))


class SimulatedStoreHarness(StoreHarness):
    """The store's suite on the simulator's store."""

    _KEY = b"of this test only"

    def __init__(self, store: type[BridgedStore] = BridgedStore) -> None:
        super().__init__()
        self.world = RealTime()
        self.server = StoreServer(self.world.scheduler, self.world.random, SESSION_TIMEOUT_S * SPEED)
        self._store = store
        self._listener = Listener(authkey=self._KEY)
        self._programs: list[Thread] = []
        Thread(target=self._accept, name="remote-programs", daemon=True).start()

    @property
    def opener(self) -> Callable[[], ClusterStore]:
        return partial(open_remote, self._listener.address, self._KEY)

    def build_store(self) -> BridgedStore:
        return self._store(self.world, self.server)

    def new_store(self) -> BridgedStore:
        store = super().new_store()
        assert isinstance(store, BridgedStore)
        return store

    def expire_session(self, store: ClusterStore) -> None:
        self.world.act(lambda: self.server.expire(store.session_id))

    def disconnect(self, store: ClusterStore) -> None:
        assert isinstance(store, BridgedStore)
        store.link(is_reachable=False)

    def reconnect(self, store: ClusterStore) -> None:
        assert isinstance(store, BridgedStore)
        store.link(is_reachable=True)

    def close(self) -> None:
        super().close()
        self._listener.close()
        for program in self._programs:
            program.join(DEADLINE_S)
        self.world.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                pipe = self._listener.accept()
                program = Thread(target=self._serve, args=(pipe,), name="remote-program", daemon=True)
                program.start()
                self._programs.append(program)

    def _serve(self, pipe: Connection) -> None:
        store = self.build_store()
        with suppress(EOFError, ConnectionError):
            while True:
                method, arguments = pipe.recv()
                try:
                    reply = (getattr(store, method)(*arguments), None)
                except Exception as error:  # noqa: BLE001  # raised again in the other process
                    reply = (None, error)
                pipe.send(reply)
        store.kill()
