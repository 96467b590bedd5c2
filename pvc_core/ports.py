# SPDX-License-Identifier: Apache-2.0
"""ports: what PVC needs from the world outside, as Protocols: a store, a hypervisor, a watchdog, a clock.

Everything that decides is pure; everything that acts is handed one of these by a constructor. Drivers are
plugins; each port has a conformance suite in `pvc_core.testing` that every driver passes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from pvc_core.guest_holds import HoldsGuests
from pvc_core.host_secrets import HostSecret

# ---------------------------------------------------------------------------------------------- the store


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value and version as read. Versions count up from 0 with every set of the key."""

    key: str
    data: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Check:
    """The transaction holds only if the key exists with exactly this version."""

    key: str
    version: int


@dataclass(frozen=True, slots=True)
class Create:
    """Create a key that does not exist, under a parent that does. Ephemeral: it goes with this session."""

    key: str
    data: bytes
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class Set:
    """Replace the value of a key that has exactly this version."""

    key: str
    data: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key that has exactly this version and no children."""

    key: str
    version: int


Op = Check | Create | Set | Delete


class SessionState(enum.Enum):
    """CONNECTED: usable. SUSPENDED: no answer, the session may live on. LOST: ephemerals are gone."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"


class Subscription(Protocol):
    """A running watch."""

    def cancel(self) -> None:
        """No call of the listener begins after this returns (unless called from the listener itself)."""


class ClusterStore(Protocol):
    """A small tree of versioned values with transactions, ephemerals and watches.

    Thread-safe. A driver is built from its URL by the `pvc_stores` hook and does nothing before `start`.
    Every call may raise `StoreUnavailable`; it does so within `request_timeout_s`, never blocks for ever.
    Listeners run on a thread of the driver, one at a time per subscription; they may call the store.
    """

    def start(self) -> None:
        """Connect. Raises `StoreUnavailable` when no server answers within the connect timeout."""

    def close(self) -> None:
        """End the session: its ephemerals vanish now, watches end. Idempotent."""

    @property
    def session_state(self) -> SessionState: ...

    @property
    def session_id(self) -> str:
        """Names the session; another one after LOST and reconnect. Empty before the first connection."""

    def add_session_listener(self, listener: Callable[[SessionState], None]) -> Subscription:
        """Call the listener with every change of the session's state."""

    def ensure(self, keys: Sequence[str]) -> None:
        """Create the keys (and parents) that are missing, with empty values; leave the others alone."""

    def get(self, key: str) -> Entry | None:
        """The newest committed value (not a lagging replica's), or None when the key does not exist. One request."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The entries that exist, by key; pipelined, not a loop of round trips."""

    def children(self, key: str) -> tuple[str, ...]:
        """The names (last parts) of the key's children, sorted; empty when the key does not exist."""

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        """All or nothing. Returns per op the key's version afterwards (0 for Create, -1 for Delete).

        Raises `Conflict` naming the first key that did not hold (wrong version, missing, there already, missing
        parent, has children), `TooLarge` before anything is sent. When the connection breaks while the answer is
        outstanding it raises `StoreUnavailable`, and the caller must read to learn what happened.
        """

    def rename(self, source: str, destination: str, also: Sequence[Op] = ()) -> None:
        """Replace `source` and all below it by `destination` with the same data, and do `also`, in one transaction.

        Raises `Conflict` when the source is missing, the destination exists, or anything below the source changed
        meanwhile (also a child added), `TooLarge` with the size when the subtree does not fit one transaction,
        always before or without touching anything.
        """

    def watch(self, key: str, listener: Callable[[Entry | None], None]) -> Subscription:
        """Call the listener with the key's value now and whenever it has changed (None: it does not exist).

        Level-triggered: quick changes may be reported as one, the last one never goes missing, also when it
        happened while the connection was away. The first call is made before `watch` returns.
        """

    def mirror(self, parent: str, listener: Callable[[Mapping[str, Entry | None]], None]) -> Subscription:
        """Keep a copy of the direct children of `parent`, data included: call the listener with what changed.

        Keys map to their new entries, None for deleted ones. The first call holds all of them (it is made, even
        if empty, before `mirror` returns). Same promise as `watch`.
        """


# ----------------------------------------------------------------------------------------- the hypervisor


class DomainState(enum.Enum):
    """What a domain does on one host. PAUSED also for an incoming migration that has not switched over."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that is active on this host."""

    uuid: str
    name: str
    state: DomainState
    memory_mib: int = 0
    vcpus: int = 0
    cpu_time_ns: int = 0
    job_active: bool = False
    """An outgoing migration is under way."""
    paused_by_migration: bool = False
    """PAUSED by a migration, not by a person or an error: a copy that has not arrived, or an original during it."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of an active domain: the guest's device, such as `vda`, and the hypervisor's alias for it."""

    device: str
    alias: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host itself. `memory_available_mib` is what could be given to guests now, as the kernel sees it."""

    memory_total_mib: int
    memory_available_mib: int
    cores: int
    load_1m: float
    hypervisor_version: str


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """How far a live migration is, in percent of the data, and what remains in MiB."""

    percent: int
    remaining_mib: int


class DomainEventKind(enum.Enum):
    """POWERED_OFF: the guest powered off, asked to or not. STOPPED: it was terminated. CRASHED: it ended otherwise.

    DISKS: a disk came or went. OTHER: look again.
    """

    STARTED = "started"
    POWERED_OFF = "powered-off"
    STOPPED = "stopped"
    CRASHED = "crashed"
    DISKS = "disks"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """Something happened to a domain on this host; the reader lists again, the event only says when and why."""

    uuid: str
    kind: DomainEventKind
    detail: str = ""


class Hypervisor(HoldsGuests, Protocol):
    """The hypervisor of this host. Domains are transient: the record, not the host, keeps the definition.

    Thread-safe, domains side by side; it reconnects. Failures are `HypervisorError`s; `connection_lost`: no answer.
    """

    def start(self) -> None:
        """Connect and begin to deliver events. Does not fail when the hypervisor is away: it keeps trying."""

    def close(self) -> None:
        """Disconnect. Guests run on."""

    @property
    def connected(self) -> bool: ...

    def add_listener(self, listener: Callable[[DomainEvent | None], None]) -> Subscription:
        """Call with each event, and with None when events may have been missed (connected again): list anew."""

    def host(self) -> HostFacts: ...

    def domains(self) -> tuple[Domain, ...]:
        """All active domains, also those PVC does not know, with statistics, in one bulk call."""

    def create(self, xml: str) -> None:
        """Start a domain from its XML. Raises `HypervisorError`, also when one with that UUID is active already."""

    def shutdown(self, uuid: str) -> None:
        """Ask the guest to power off (ACPI); returns at once. No error when the domain is gone."""

    def destroy(self, uuid: str) -> None:
        """Terminate now; returns when the domain is gone. No error when it is gone already."""

    def disks(self, uuid: str) -> tuple[Disk, ...]:
        """All disks of an active domain, those of its definition too. Raises when it is not active here."""

    def attach_disk(self, uuid: str, xml: str) -> None:
        """Give a running domain one more disk, from its `<disk>` element; an alias in it that begins with `ua-` stays.

        Raises `HypervisorError`, also when it has such a device already.
        """

    def detach_disk(self, uuid: str, device: str, timeout_s: float) -> None:
        """Take a disk away from a running domain; returns when the guest has let go of it. No error when it has none.

        Raises `HypervisorError` when it has not let go within `timeout_s`: it may do so later, which an event tells.
        """

    def ensure_secret(self, secret: HostSecret) -> None:
        """Keep this secret for disks that name it, also instead of one known by its UUID or name; never on disk.

        It is forgotten when the hypervisor ends. Raises `HypervisorError`, which does not tell the key.
        """

    def migration_uri(self, node: str) -> str:
        """Where another host's hypervisor reaches `node`'s, from this host's configuration."""

    def migrate(
        self,
        uuid: str,
        target: str,
        max_downtime_ms: int,
        timeout_s: float,
        on_progress: Callable[[MigrationProgress], None],
    ) -> None:
        """Move the running domain live to node `target`; blocks until it runs there and is gone here.

        Raises `HypervisorError` when it failed or was cancelled or took longer than `timeout_s`; then it still runs
        here, unless `connection_lost`: then look with `domains` and `peer_domain_state`.
        """

    def cancel_migration(self, uuid: str) -> None:
        """Make a running `migrate` of this domain end with an error. No error when there is none (any more)."""

    def peer_domain_state(self, target: str, uuid: str) -> DomainState | None:
        """What the domain does on node `target`: None when it is not active there. Raises when unreachable."""


# --------------------------------------------------------------------------------------------- the watchdog


class Watchdog(Protocol):
    """A timer outside this process that ends the whole host, guests and all, unless it is fed in time.

    It goes on when this process hangs, is stopped, or dies in whatever way: only `disarm` ends it. Used by one thread.
    """

    def arm(self, timeout_s: float) -> float:
        """Start the timer, or begin its time anew; one that an earlier life of this process has left is taken over.

        Returns after how many seconds without food it ends the host: no fewer than asked for. Raises `WatchdogError`,
        also for one that would not outlive this process or could not be disarmed.
        """

    def feed(self) -> None:
        """Begin the time anew. Raises `WatchdogError`, also when it is not armed."""

    def disarm(self) -> None:
        """Stop the timer. Idempotent. Raises `WatchdogError` when it may go on."""


# ------------------------------------------------------------------------------------------------ the clock


class Clock(Protocol):
    """Monotonic seconds for decisions, and wall-clock time for people."""

    def monotonic_s(self) -> float: ...

    def utc_iso(self) -> str:
        """Now, as 2026-01-31T12:00:00Z. Never compared between hosts."""

    def utc_ms(self) -> int:
        """Now, in milliseconds since 1970, to sort what people read. Nothing is decided by it."""


# -------------------------------------------------------------------------------------------------- threads


class Lock(Protocol):
    """One thread at a time is inside. Not reentrant."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Event(Protocol):
    """A flag that threads wait for."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Whether it is set; waits at most so long until it is."""


class Condition(Lock, Protocol):
    """A lock that may be let go of until something has changed."""

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Whether it was notified; waits at most so long for that."""

    def wait_for(self, predicate: Callable[[], object], timeout_s: float | None = None, /) -> object:
        """The predicate's last answer; waits at most so long until it is true."""

    def notify_all(self) -> None: ...


class Thread(Protocol):
    """A thread that has been started. The end of the process does not wait for it."""

    def is_alive(self) -> bool: ...

    def join(self, timeout_s: float | None = None, /) -> None:
        """Wait until it has ended, at most so long. At once on the thread itself."""


class Threads(Protocol):
    """Threads and what they wait for: those of the operating system, or a simulator's, on its clock."""

    def start(self, name: str, body: Callable[[], None]) -> Thread:
        """Run it on a thread of its own. Raises `RuntimeError` when there can be no more."""

    def lock(self) -> Lock: ...

    def event(self) -> Event: ...

    def condition(self) -> Condition: ...
