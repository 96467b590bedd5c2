# SPDX-License-Identifier: Apache-2.0
"""connection: one connection of this process to the cluster, made when it is needed and anew when it may be stuck.

No question waits longer than is configured: neither of Ceph's libraries has a limit of its own. A connection on which
something has timed out is given up, because one that is older than a restart of the OSDs may never be served again.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pvc_core.errors import PvcError, StorageUnavailable
from pvc_storage_backends.ceph import bindings
from pvc_storage_backends.ceph.failures import CLUSTER, STALE, Subject, errno_of, explained, meaning
from pvc_storage_backends.ceph.options import Options

NO_QUORUM = "its monitors have no quorum: as long as that lasts, nothing can be made or changed"
_LEFT_TO_A_PARENT: list[object] = []
"""Connections that this process has by a fork. To end one would be to end it for the parent, and would hang."""


class _Session:
    """A connection with those who are using it; the last one of a connection that was given up ends it."""

    def __init__(self, rados: Any) -> None:
        self.rados = rados
        self.process_id = os.getpid()
        self.users = 0
        self.is_given_up = False
        _OPEN.add(self)


_OPEN: weakref.WeakSet[_Session] = weakref.WeakSet()


def _end_idle_sessions() -> None:
    """Ceph's library crashes a process that ends while it has a connection; one in use has a thread in the library."""
    for session in tuple(_OPEN):
        if session.process_id == os.getpid() and not session.users:
            session.rados.shutdown()


atexit.register(_end_idle_sessions)


class Connection:
    """Thread-safe. on_connect: called with each new connection before anybody else has it."""

    def __init__(self, options: Options, on_connect: Callable[[Any], None]) -> None:
        self._options = options
        self.timeout_s = options.timeout_s
        self._on_connect = on_connect
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._failure: tuple[float, PvcError] | None = None

    @contextmanager
    def using(self, subject: Subject = CLUSTER) -> Iterator[Any]:
        """The librados connection. What Ceph raises meanwhile is a `PvcError` about the subject."""
        session = self._taken()
        try:
            with explained(subject):
                try:
                    yield session.rados
                except Exception as error:
                    if errno_of(error) in STALE:
                        self._give_up(session)
                    raise
        finally:
            self._put_back(session)

    def command(self, prefix: str, *, to: str = "mon", subject: Subject = CLUSTER, **arguments: object) -> Any:
        """What a monitor, or the manager (`to="mgr"`), answers: parsed JSON, or its text when it is none.

        Raises a `PvcError` about the subject; `StorageUnavailable` without quorum.
        """
        with self.using(subject) as rados:
            code, answer, said = ask(rados, prefix, to, arguments)
            if code:
                if code in STALE:
                    self.reset()
                raise meaning(code, subject, said)
        return answer

    def reset(self) -> None:
        """Make a new connection next time."""
        session = self._session
        if session is not None:
            self._give_up(session)

    # ------------------------------------------------------------------------------------------------- parts

    def _taken(self) -> _Session:
        asked_at = time.monotonic()
        while True:
            with self._lock:
                session = self._session
                if session is not None and session.process_id != os.getpid():
                    _LEFT_TO_A_PARENT.append(session)
                    session = self._session = None
                if session is not None:
                    session.users += 1
                    return session
            self._connect(asked_at)

    def _connect(self, asked_at: float) -> None:
        """Make the connection, once for all who wait for it: also its failure is that of all of them."""
        with self._connecting:
            if self._session is not None:
                return
            if self._failure is not None and self._failure[0] >= asked_at:
                raise self._failure[1]
            try:
                self._session = _Session(self._connected())
            except PvcError as error:
                self._failure = (time.monotonic(), error)
                raise

    def _connected(self) -> Any:
        options = self._options
        if not os.access(options.conf, os.R_OK):
            raise StorageUnavailable("ceph", f"the configuration file {options.conf} cannot be read")
        rados_module = bindings.load().rados
        limits = dict.fromkeys(
            ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"), f"{options.timeout_s:.0f}"
        )
        # Clones of a volume need no snapshot that the operator sees.
        settings = {**limits, "rbd_default_clone_format": "2"}
        if options.keyring:
            settings["keyring"] = options.keyring
        with explained():
            rados = rados_module.Rados(name=f"client.{options.user}", conffile=options.conf, conf=settings)
            try:
                rados.connect()
                self._on_connect(rados)
            except BaseException:
                rados.shutdown()
                raise
        return rados

    def _give_up(self, session: _Session) -> None:
        with self._lock:
            session.is_given_up = True
            if self._session is session:
                self._session = None
            ends = session.users == 0
        if ends:
            session.rados.shutdown()

    def _put_back(self, session: _Session) -> None:
        with self._lock:
            session.users -= 1
            ends = session.is_given_up and session.users == 0
        if ends:
            session.rados.shutdown()


def ask(rados: Any, prefix: str, to: str, arguments: dict[str, object]) -> tuple[int, Any, str]:
    """A command's positive error number (0: done), what it answers, and what it says of itself."""
    query = json.dumps({"prefix": prefix, "format": "json", **arguments})
    code, output, said = getattr(rados, f"{to}_command")(query, b"")
    return abs(code), parsed(output.decode()), said


def parsed(text: str) -> Any:
    """The first JSON document of an answer: `osd blocklist ls` gives two; the text itself when it is none."""
    try:
        return json.JSONDecoder().raw_decode(text.strip())[0]
    except json.JSONDecodeError:
        return text.strip()
