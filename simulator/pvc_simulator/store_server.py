# SPDX-License-Identifier: Apache-2.0
"""store_server: the simulated store's servers, taken as one: values, sessions and when those expire.

Time only goes on for sessions while the servers are there: after an outage of the whole store every session has its
full time again, as with ZooKeeper. A session belongs to a link, which knows whether its program can be heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Protocol

from pvc_core.ports import Check, Op, Set
from pvc_core.store_keys import parent_of
from pvc_simulator.scheduler import Scheduler
from pvc_simulator.store_tree import StoreTree

SESSION_TIMEOUT_S = 6.0
PING_EVERY_S = SESSION_TIMEOUT_S / 3

Committed = Callable[[Sequence[Op]], None]


class Client(Protocol):
    """What the servers know of whoever has a session."""

    def changed(self, key: str, *, is_set: bool) -> None:
        """A key it may be watching has been set, or else created or deleted."""

    def server_changed(self) -> None:
        """The servers are gone, or there again."""

    def expired(self, session_id: str) -> None:
        """The servers have ended a session, and the connection of whoever has it."""


class StoreServer:
    """Values and sessions, which end when nothing was heard for `session_timeout_s`."""

    def __init__(self, scheduler: Scheduler, random: Random, session_timeout_s: float = SESSION_TIMEOUT_S) -> None:
        self.tree = StoreTree()
        self.is_on = True
        self.clients: dict[Client, None] = {}
        self._scheduler = scheduler
        self._random = random
        self._session_timeout_s = session_timeout_s
        self._numbers = count(1)
        self._silent_since_s: dict[str, float | None] = {}
        """Session to when it was last heard, None: it is being heard."""
        self._listeners: list[Committed] = []
        self._watching: dict[str, dict[Client, int]] = {}

    def listen(self, listener: Committed) -> None:
        """Call it with the operations of each transaction that was made."""
        self._listeners.append(listener)

    def open_session(self) -> str:
        """A new session."""
        session_id = f"s{next(self._numbers)}"
        self._silent_since_s[session_id] = None
        return session_id

    def has_session(self, session_id: str) -> bool:
        """Whether it has neither been closed nor expired."""
        return session_id in self._silent_since_s

    def close_session(self, session_id: str) -> None:
        """End it now, with its ephemerals."""
        if self._silent_since_s.pop(session_id, 0.0) != 0.0:
            for key in self.tree.drop_owned(session_id):
                self._tell(key, is_set=False)

    def expire(self, session_id: str) -> None:
        """End it because it was not heard for too long."""
        self.close_session(session_id)
        for client in list(self.clients):
            client.expired(session_id)

    def heard(self, session_id: str) -> None:
        """Its program can be heard (again)."""
        if session_id in self._silent_since_s:
            self._silent_since_s[session_id] = None

    def silent(self, session_id: str) -> None:
        """Its program cannot be heard any more; its last ping came some time ago."""
        if self._silent_since_s.get(session_id, 0.0) is None:
            since_s = self._scheduler.now_s - self._random.uniform(0, PING_EVERY_S)
            self._silent_since_s[session_id] = since_s
            self._expire_later(session_id, since_s)

    def switch(self, *, on: bool) -> None:
        """Take all servers away, or bring them back."""
        if on == self.is_on:
            return
        self.is_on = on
        if on:
            for session_id in self._silent_since_s:
                self._silent_since_s[session_id] = self._scheduler.now_s
                self._expire_later(session_id, self._scheduler.now_s)
        for client in list(self.clients):
            client.server_changed()

    def commit(self, ops: Sequence[Op], session_id: str) -> tuple[int, ...]:
        """One transaction. Raises `Conflict`."""
        versions = self.tree.apply(ops, session_id)
        for listener in self._listeners:
            listener(ops)
        for op in ops:
            if not isinstance(op, Check):
                self._tell(op.key, is_set=isinstance(op, Set))
        return versions

    def forget(self, client: Client) -> None:
        """It is not there any more."""
        self.clients.pop(client, None)
        for watching in self._watching.values():
            watching.pop(client, None)

    def watch(self, what: str, client: Client) -> None:
        """Tell the client of changes of a key, or, of `key/`, of its children."""
        watching = self._watching.setdefault(what, {})
        watching[client] = watching.get(client, 0) + 1

    def unwatch(self, what: str, client: Client) -> None:
        """Once less."""
        watching = self._watching.get(what, {})
        count = watching.pop(client, 0) - 1
        if count > 0:
            watching[client] = count

    def _tell(self, key: str, *, is_set: bool) -> None:
        """A child that is new or gone is told to those who watch its parent, or it as a parent, too."""
        told = dict[Client, None]()
        for what in (key, f"{parent_of(key)}/", f"{key}/"):
            told.update(dict.fromkeys(self._watching.get(what, ())))
        for client in told:
            client.changed(key, is_set=is_set)

    def _expire_later(self, session_id: str, since_s: float) -> None:
        def expire() -> None:
            if self.is_on and self._silent_since_s.get(session_id) == since_s:
                self.expire(session_id)

        self._scheduler.at(since_s + self._session_timeout_s, expire)
