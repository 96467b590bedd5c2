# SPDX-License-Identifier: Apache-2.0
"""bindings: the part of libvirt's Python bindings that the driver uses, with types, errors and deadlines.

The bindings have no types, print every error and wait for ever for a server that accepts a connection and then says
nothing. Everything that touches them goes through here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import libvirt
import structlog

from pvc_core.errors import HypervisorError
from pvc_core.ports import DomainState

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 10.0
_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_COUNT = 3
_EVENT_LOOP_RETRY_S = 1.0

_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
}


class LibvirtDomain(Protocol):
    """What the driver asks of a virDomain."""

    def UUIDString(self) -> str: ...
    def name(self) -> str: ...
    def state(self) -> list[int]: ...
    def maxMemory(self) -> int: ...
    def shutdownFlags(self, flags: int) -> int: ...
    def destroyFlags(self, flags: int) -> int: ...
    def suspend(self) -> int: ...
    def resume(self) -> int: ...
    def fsFreeze(self, mountpoints: None = None, flags: int = 0) -> int: ...
    def fsThaw(self, mountpoints: None = None, flags: int = 0) -> int: ...
    def getTime(self, flags: int = 0) -> dict[str, int]: ...
    def agentSetResponseTimeout(self, timeout_s: int, flags: int = 0) -> int: ...
    def jobStats(self) -> dict[str, Any]: ...
    def abortJob(self) -> int: ...
    def XMLDesc(self, flags: int) -> str: ...
    def attachDeviceFlags(self, xml: str, flags: int) -> int: ...
    def detachDeviceAlias(self, alias: str, flags: int) -> int: ...
    def migrateSetMaxDowntime(self, downtime_ms: int, flags: int) -> int: ...
    def migrateToURI3(self, uri: str, parameters: Mapping[str, object], flags: int) -> int: ...


class LibvirtSecret(Protocol):
    """What the driver asks of a virSecret."""

    def UUIDString(self) -> str: ...
    def setValue(self, value: bytes, flags: int = 0) -> int: ...
    def undefine(self) -> int: ...


class LibvirtConnection(Protocol):
    """What the driver asks of a virConnect."""

    def close(self) -> int: ...
    def isAlive(self) -> int: ...
    def setKeepAlive(self, interval_s: int, count: int) -> int: ...
    def getType(self) -> str: ...
    def getVersion(self) -> int: ...
    def getLibVersion(self) -> int: ...
    def getInfo(self) -> list[Any]: ...
    def getMemoryStats(self, cell: int) -> dict[str, int]: ...
    def createXML(self, xml: str, flags: int) -> LibvirtDomain: ...
    def lookupByUUIDString(self, uuid: str) -> LibvirtDomain: ...
    def secretDefineXML(self, xml: str, flags: int = 0) -> LibvirtSecret: ...
    def secretLookupByUUIDString(self, uuid: str) -> LibvirtSecret: ...
    def secretLookupByUsage(self, kind: int, name: str) -> LibvirtSecret: ...
    def getAllDomainStats(self, stats: int, flags: int) -> list[tuple[LibvirtDomain, dict[str, Any]]]: ...
    def domainEventRegisterAny(
        self, domain: None, event: int, callback: Callable[..., None], opaque: object
    ) -> int: ...
    def domainEventDeregisterAny(self, registration: int) -> int: ...
    def registerCloseCallback(self, callback: Callable[..., None], opaque: object) -> int: ...
    def unregisterCloseCallback(self) -> int: ...


class _EventLoop:
    """The thread that runs libvirt's event loop. One per process, because libvirt's is."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._started = False

    def start(self) -> None:
        """Must come before the first connection."""
        with self._starting:
            if self._started:
                return
            libvirt.registerErrorHandler(_say_nothing, None)
            libvirt.virEventRegisterDefaultImpl()
            threading.Thread(target=self._run, name="libvirt-events", daemon=True).start()
            self._started = True

    def _run(self) -> None:
        while True:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError as error:
                log.error("libvirt_event_loop_failed", problem=str(error))
                time.sleep(_EVENT_LOOP_RETRY_S)


_EVENT_LOOP = _EventLoop()


def _say_nothing(_context: None, _error: object) -> None:
    """Errors are raised as exceptions; the bindings print them too unless told otherwise."""


def open_connection(uri: str) -> LibvirtConnection:
    """Connect, with keepalives, in bounded time; `HypervisorError` with `connection_lost` when nobody answers."""
    _EVENT_LOOP.start()
    attempt = _Attempt(uri)
    threading.Thread(target=attempt.run, name="libvirt-open", daemon=True).start()
    return attempt.result()


class _Attempt:
    """One attempt to connect on a thread of its own; a connection that comes too late is closed."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._changing = threading.Condition()
        self._abandoned = False
        self._connection: LibvirtConnection | None = None
        self._problem = ""

    def run(self) -> None:
        connection: LibvirtConnection | None = None
        problem = ""
        try:
            connection = cast(LibvirtConnection, libvirt.open(self._uri))
            connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            problem = _message(error)
        with self._changing:
            self._connection, self._problem = connection, problem
            self._changing.notify()
            if self._abandoned and connection is not None:
                connection.close()

    def result(self) -> LibvirtConnection:
        with self._changing:
            self._changing.wait_for(lambda: self._connection or self._problem, CONNECT_TIMEOUT_S)
            self._abandoned = True
            if self._problem:
                raise HypervisorError(self._problem, connection_lost=True)
            if self._connection is None:
                problem = f"{self._uri} did not answer within {CONNECT_TIMEOUT_S:g} s"
                raise HypervisorError(problem, connection_lost=True)
            return self._connection


@contextmanager
def session(uri: str) -> Iterator[LibvirtConnection]:
    """A connection for one piece of work."""
    connection = open_connection(uri)
    try:
        with as_hypervisor_error(connection):
            yield connection
    finally:
        connection.close()


@contextmanager
def as_hypervisor_error(connection: LibvirtConnection) -> Iterator[None]:
    """Raise libvirt's errors as `HypervisorError`; the connection is lost when it is no longer alive.

    Not by the error's code: the same codes come when our libvirt cannot reach the one of a migration's target.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorError(_message(error), connection_lost=not is_alive(connection)) from error


def release(connection: LibvirtConnection, registrations: Iterable[int]) -> None:
    """Close a connection with callbacks, each of which would otherwise keep it open; it may be dead already.

    libvirt forgets the callbacks of a dead connection too, but complains that it cannot tell the server.
    """
    steps: list[Callable[[], object]] = [partial(connection.domainEventDeregisterAny, each) for each in registrations]
    for step in (*steps, connection.unregisterCloseCallback, connection.close):
        try:
            step()
        except libvirt.libvirtError as error:
            log.debug("libvirt_connection_not_released_cleanly", problem=_message(error))


def is_alive(connection: LibvirtConnection) -> bool:
    try:
        return connection.isAlive() == 1
    except libvirt.libvirtError:
        return False  # it cannot even tell


def find_domain(connection: LibvirtConnection, uuid: str) -> LibvirtDomain | None:
    """The domain, active or not; None when the host does not know it."""
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if is_gone(error):
            return None
        raise


def is_gone(error: libvirt.libvirtError) -> bool:
    """Whether the error only says that there is no such domain."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def is_not_possible_now(error: libvirt.libvirtError) -> bool:
    """Whether the domain is not in the state for what was asked: not running, without a job, or gone."""
    return is_gone(error) or bool(error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID)


def state_of(domain: LibvirtDomain | None) -> DomainState | None:
    """None for a domain that is gone or not active."""
    if domain is None:
        return None
    try:
        return state_from(domain.state()[0])
    except libvirt.libvirtError as error:
        if is_gone(error):
            return None
        raise


def state_from(number: int) -> DomainState | None:
    """libvirt's number of a state; None for a domain that is off."""
    return _STATES.get(number)


def is_active(domain: LibvirtDomain) -> bool:
    return state_of(domain) is not None


def is_migrating_away(domain: LibvirtDomain) -> bool:
    """Whether an outgoing migration is under way, whoever began it. May wait for the domain's other work."""
    try:
        job = domain.jobStats()
    except libvirt.libvirtError as error:
        if is_not_possible_now(error) or error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return False  # not running, or on its way to this host
        raise
    return is_outgoing(job)


def is_outgoing(job: Mapping[str, Any]) -> bool:
    """Whether what `jobStats` says is of a migration away from this host."""
    active = job.get("type", libvirt.VIR_DOMAIN_JOB_NONE) in (
        libvirt.VIR_DOMAIN_JOB_BOUNDED,
        libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    )
    return active and job.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT


def _message(error: libvirt.libvirtError) -> str:
    return " ".join((error.get_error_message() or str(error)).split())
