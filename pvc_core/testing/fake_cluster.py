# SPDX-License-Identifier: Apache-2.0
"""fake_cluster: a whole cluster in a test: real store, commands, placement and leader; nodes that only pretend.

    def test_a_database_goes_to_the_rack_with_the_fast_disks() -> None:
        with FakeCluster([a_node("hv1"), a_node("hv2", labels={"disks": "fast"})]) as cluster:
            cluster.define("db1", node_selector="acme")
            assert cluster.node_of("db1") == "hv2"
            assert cluster.explain("db1").selector == "acme"
            assert cluster.plugin_failures == []

The plugins are the installed ones and those given. Every method returns when the cluster has come to rest: VMs that
start run, migrations have arrived, a drain is over. No daemon, no hypervisor, no root, no network, no waiting.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from pvc_core import changes, layout, leader
from pvc_core.changes import Change
from pvc_core.cluster_view import ClusterView
from pvc_core.codec import encode
from pvc_core.commands import Commands
from pvc_core.errors import NoCandidate, PluginError, Refused
from pvc_core.event_log import EventLog
from pvc_core.events import Event
from pvc_core.journal import Journal
from pvc_core.model import DrainReport, NodeMode, Settings, VmMetadata, VmRecord
from pvc_core.notifications import Notifier
from pvc_core.placement import Decision, Placer
from pvc_core.ports import Create, Delete, Set
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.testing.builders import a_node, a_snapshot
from pvc_core.testing.driver_suite import installed
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.played_agents import PlayedAgents, entries_of, reports, xml
from pvc_core.vm_states import VmEvent

THREE_NODES = ("hv1", "hv2", "hv3")
MOST_ROUNDS = 200
MOST_EVENTS = 10_000


class FakeCluster:
    """A cluster to try a plugin on. `agents` says how the guests behave, `commands` is everything an operator can ask.

    nodes: names, or nodes made by `a_node` with what matters of them. vms: made by `a_vm`, there from the beginning.
    registry: the plugins, `Registry.load()` unless given; one that has neither PVC's filters nor its stores will not
    do, see `registry_with`.
    """

    def __init__(
        self,
        nodes: Iterable[str | NodeView] = THREE_NODES,
        vms: Iterable[VmRecord] = (),
        settings: Settings | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.registry = registry or installed()
        self.plugin_failures: list[PluginError] = []
        """Every time that a plugin raised, hung or returned nonsense, in order."""
        self.agents = PlayedAgents()
        with ExitStack() as undo:
            folder = undo.enter_context(TemporaryDirectory(prefix="pvc-fake-cluster-", ignore_cleanup_errors=True))
            self._store = self.registry.open_store(f"sqlite://{folder}/store.db?synchronous=normal")
            undo.callback(self._store.close)
            self._store.start()
            self._clock = ManualClock()
            self._store.ensure(layout.DIRECTORIES)
            views = [node if isinstance(node, NodeView) else a_node(node) for node in nodes]
            self._idle = {view.name: view.report.value for view in views if view.report is not None}
            for entry in entries_of(a_snapshot(views, vms, settings)).values():
                self._store.transaction([Create(entry.key, entry.data)])
            journal = Journal(self._clock, lambda: "operator")
            view = self._view = ClusterView(self._store, self._clock, journal)
            undo.callback(view.close)
            # Not through `self`, which then nobody could let go of.
            journal.listen(Notifier(self.registry, lambda: view.settings, self.plugin_failures.append).tell)
            view.start()
            self._close = weakref.finalize(self, undo.pop_all().close)
        self.commands = Commands(self._view, self._store, self.registry, self._clock, self.plugin_failures.append)
        self._placer = Placer(self.registry, self.plugin_failures.append)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget it all. Also done when nobody holds the cluster any more."""
        self._close()

    # ------------------------------------------------------------------------------------------ asking

    def define(
        self,
        name: str,
        *,
        memory_mib: int = 512,
        vcpus: int = 1,
        target: str = "",
        start: bool = True,
        **metadata: Any,
    ) -> Decision:
        """A new VM, started; how its place was chosen. `metadata`: the fields of `VmMetadata`.

        Raises what the command raises: `NoCandidate`, `InvalidInput` ...
        """
        wanted = VmMetadata(**{field: _plain(value) for field, value in metadata.items()})
        outcome = self.commands.define(xml(name, memory_mib, vcpus), wanted, target=target, start=start)
        self.settle()
        assert outcome.decision is not None
        return outcome.decision

    def change(self, vm: str, **metadata: Any) -> VmRecord:
        """Change metadata, as `pvc vm meta`."""
        self.commands.change_metadata(vm, metadata)
        return self.vm(vm)

    def configure(self, **settings: Any) -> None:
        """Change settings of the cluster; a plugin's own are given as `plugins={"acme": {"zone": "busy"}}`."""
        self.commands.change_settings(settings)

    def explain(self, vm: str) -> Decision:
        """Where the VM would be placed now, and why, as `pvc vm explain`."""
        return self.commands.questions().explain(vm)

    def migrate(self, vm: str, target: str = "") -> VmRecord:
        """Move a running VM for a time; its record on arrival."""
        self.commands.migrate(vm, target)
        self.settle()
        return self.vm(vm)

    def flush(self, node: str) -> DrainReport:
        """Drain a node to the end; the report says what stayed and why."""
        self.commands.flush(node)
        self.settle()
        return leader.drain_of(self.snapshot().node(node))

    def ready(self, node: str) -> DrainReport:
        """Take a node back into service; its VMs have come home."""
        self.commands.ready(node)
        self.settle()
        return leader.drain_of(self.snapshot().node(node))

    def lose(self, node: str) -> None:
        """The node's daemon is gone without a word."""
        self._view.commit(partial(self._gone, node))
        self.settle()

    # ---------------------------------------------------------------------------------------- looking at it

    def snapshot(self) -> ClusterSnapshot:
        """The cluster as it is."""
        return self._view.snapshot()

    def vm(self, name: str) -> VmRecord:
        """A VM's record."""
        return self.snapshot().vm(name).value

    def events(self, **fields: str) -> tuple[Event, ...]:
        """What has happened, oldest first; only those whose fields are these: `events(vm="web1", kind="vm_held")`.

        Plugins have been told of each by their hooks, on this thread.
        """
        found = EventLog(self._store).last(MOST_EVENTS).events
        return tuple(event for event in found if all(getattr(event, name) == fields[name] for name in fields))

    def node_of(self, vm: str) -> str:
        """Where a VM is."""
        return self.vm(vm).node

    def vms_on(self, node: str) -> tuple[str, ...]:
        """The names of a node's VMs, sorted."""
        return tuple(vm.value.name for vm in self.snapshot().vms_by_node.get(node, ()))

    def mode_of(self, node: str) -> NodeMode:
        """Whether a node is ready, flushed ..."""
        return self.snapshot().node(node).mode

    # ------------------------------------------------------------------------------------------- playing

    def settle(self) -> None:
        """Leader and agents act in turns, and the nodes report, until nobody has anything to do."""
        for _ in range(MOST_ROUNDS):
            acted = self._leader_acts() + self._agents_act()
            self._nodes_report()
            if not acted:
                return
        raise AssertionError("the cluster does not come to rest; is there a VM that always moves on?")

    def _agents_act(self) -> int:
        count = 0
        for name in sorted(stored.value.name for stored in self.snapshot().vms.values()):
            event = self.agents.next_event(self.vm(name))
            if event is not None:
                self._view.commit(partial(self._found_out, name, event))
                count += 1
        return count

    def _found_out(self, name: str, event: VmEvent, snapshot: ClusterSnapshot) -> Change:
        stored = snapshot.vm(name)
        ledgers = changes.ledgers_of(snapshot, stored.value.node, stored.value.target)
        return changes.of_event(stored, event, f"{event}", self._clock.utc_iso(), ledgers)

    def _gone(self, node: str, snapshot: ClusterSnapshot) -> Change:
        member = snapshot.node(node).member
        return Change((Delete(member.key, member.version),) if member else (), "lost")

    def _leader_acts(self) -> int:
        count = 0
        for action in leader.decide(self.snapshot(), self._placer, self.registry.recovery_policies):
            snapshot = self.snapshot()
            try:
                change = leader.change_for(action, snapshot, self._placer, self._clock.utc_iso())
            except (Refused, NoCandidate):
                break  # what it was decided on has changed by the actions before it: decide again
            count += 1
            if not self._view.try_commit(change, snapshot):
                break  # a watch lagged behind; what it is about has been read anew, and there still is something to do
        return count

    def _nodes_report(self) -> None:
        self._view.commit(self._reported)

    def _reported(self, snapshot: ClusterSnapshot) -> Change:
        """The reports that are not what the nodes would say now."""
        news = [(stored, report) for stored, report in reports(snapshot, self._idle) if report != stored.value]
        return Change(tuple(Set(stored.key, encode(report), stored.version) for stored, report in news), "reported")


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
