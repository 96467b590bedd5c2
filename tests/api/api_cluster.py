# SPDX-License-Identifier: Apache-2.0
"""api_cluster: a cluster for the API's tests: the embedded store, nodes that are only records, and a client.

The nodes have no daemons: a test says itself what an agent or the leader would do (`happens`, `put`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import structlog

from pvc_api.app import create_app
from pvc_api.authentication import BearerAuthenticator, Role, acting
from pvc_api.conditional import ConditionalView
from pvc_api.connection import Connection
from pvc_api.event_stream import EventTail
from pvc_api.services import Services
from pvc_api.tokens import TokenBook
from pvc_api.waiting import Waiter
from pvc_core import changes, layout
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.event_log import EventLog
from pvc_core.journal import Journal, Notes
from pvc_core.model import VmRecord
from pvc_core.notifications import Notifier
from pvc_core.ports import ClusterStore, Create, Set
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.system_clock import SystemClock
from pvc_core.testing.builders import a_snapshot
from pvc_core.testing.counting_store import CountingStore
from pvc_core.vm_states import VmEvent

PREFIX = "/api/v1"


def xml(name: str = "web1", memory_mib: int = 512, vcpus: int = 1, uuid: str = "") -> str:
    """The smallest definition that is one."""
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    return (
        f"<domain type='kvm'><name>{name}</name>{identity}"
        f"<memory unit='MiB'>{memory_mib}</memory><vcpu>{vcpus}</vcpu></domain>"
    )


class ManualClock:
    """A clock whose wall time is set by the test; monotonic time is the machine's."""

    def __init__(self) -> None:
        self.now = "2026-01-31T12:00:00Z"
        self._machine = SystemClock()

    def monotonic_s(self) -> float:
        return self._machine.monotonic_s()

    def utc_iso(self) -> str:
        return self.now

    def utc_ms(self) -> int:
        return self._machine.utc_ms()


class ApiProcess:
    """One API process on a store: what a worker builds, with a log that the test can read."""

    def __init__(self, store: ClusterStore, registry: Registry) -> None:
        self.clock = ManualClock()
        self.log = structlog.testing.LogCapture()
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.BoundLogger)
        self.store = CountingStore(store)
        self.journal = Journal(self.clock, lambda: acting().author)
        self.notes = Notes(self.store, self.journal, self.clock)
        self.notifier = Notifier(registry, lambda: self.view.settings, self.notes.plugin_failed)
        self.journal.listen(self.notifier)
        self.view = ConditionalView(self.store, self.clock, self.journal)
        self.tokens = TokenBook(self.store, self.clock, self.journal)
        self.waiter = Waiter(self.view, self.clock, slots=4)
        self.services = Services(
            commands=Commands(self.view, self.store, registry, self.clock, self.notes.plugin_failed),
            view=self.view,
            store=self.store,
            registry=registry,
            authenticator=BearerAuthenticator(self.tokens),
            tokens=self.tokens,
            waiter=self.waiter,
            event_tail=EventTail(EventLog(self.store), self.view, self.waiter, self.clock),
            on_plugin_failure=self.notes.plugin_failed,
            clock=self.clock,
            log=log,
            audit_log=log,
        )
        self.connection = Connection(self.store, self.view, self.tokens, log)
        self.app = create_app(self.services)

    def client(self, token: str = "") -> httpx.Client:
        """A client of this process; `token` is a whole secret."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            transport=httpx.WSGITransport(self.app, raise_app_exceptions=True),
            base_url=f"http://api{PREFIX}",
            headers=headers,
        )

    def token(self, role: Role) -> str:
        """The secret of a new token."""
        return self.tokens.create(f"{role}-token", role)[1]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of this event."""
        return [dict(entry) for entry in self.log.entries if entry["event"] == name]


class Cluster:
    """The embedded store in a folder, seen from the outside of the API."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "store.db"
        self.url = f"sqlite://{folder}/store.db?synchronous=normal"
        self.registry = Registry.load(disabled_env="")
        self.store = self.registry.open_store(self.url)
        self.store.start()
        self.store.ensure(layout.DIRECTORIES)
        self.view = ClusterView(self.store, SystemClock())
        self.view.start()

    def close(self) -> None:
        self.view.close()
        self.store.close()

    @property
    def snapshot(self) -> ClusterSnapshot:
        """The cluster as it is in the store now."""
        parents = (layout.VMS, layout.NODES, layout.LEDGERS)
        self.view.refresh([f"{parent}/{name}" for parent in parents for name in self.store.children(parent)])
        return self.view.snapshot()

    def goes_away(self) -> None:
        """The store cannot be reached by anybody, until `comes_back`."""
        self.file.rename(self.file.with_suffix(".away"))

    def comes_back(self) -> None:
        """The store answers again."""
        self.file.with_suffix(".away").rename(self.file)

    def put(self, key: str, value: msgspec.Struct | bytes, *, ephemeral: bool = False) -> None:
        """Write a key, whatever it held."""
        data = value if isinstance(value, bytes) else encode(value)
        there = self.store.get(key)
        self.store.transaction([Set(key, data, there.version) if there else Create(key, data, ephemeral)])

    def has(self, nodes: list[NodeView], vms: list[VmRecord] | None = None) -> None:
        """Put these nodes and VMs into the store, with all that belongs to them."""
        made = a_snapshot(nodes, vms or [])
        for node in made.nodes.values():
            self.put(node.record.key, node.record.value)
            if node.ledger:
                self.put(node.ledger.key, node.ledger.value)
            if node.report:
                self.put(node.report.key, node.report.value)
            if node.member:
                self.put(node.member.key, node.member.value, ephemeral=True)
        for stored in made.vms.values():
            self.put(stored.key, stored.value)
            self.put(layout.vm_name(stored.value.name), stored.value.uuid.encode())
            definition = xml(stored.value.name, stored.value.memory_mib, stored.value.vcpus, stored.value.uuid)
            self.put(layout.definition(stored.value.uuid), definition.encode())

    def happens(self, vm: str, event: VmEvent) -> None:
        """What the agent of the VM's node finds out."""

        def decide(snapshot: ClusterSnapshot) -> Change:
            stored = snapshot.vm(vm)
            ledgers = changes.ledgers_of(snapshot, stored.value.node, stored.value.target)
            return changes.of_event(stored, event, f"{event} in a test", "now", ledgers)

        self.snapshot  # noqa: B018 - so that the decision is made on the newest records
        self.view.commit(decide)


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until it holds, as watches have told everybody; fail when it does not in time."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline_s, f"it did not come true within {within_s} s"
        time.sleep(0.01)
