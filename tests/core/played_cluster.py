# SPDX-License-Identifier: Apache-2.0
"""played_cluster: a cluster in memory, played step by step, that checks after each what must always hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pvc_core import changes, layout, leader
from pvc_core.changes import Change
from pvc_core.codec import Stored, decode, encode
from pvc_core.commands import Commands
from pvc_core.errors import Conflict, NoCandidate, Refused
from pvc_core.leader import LeaderAction
from pvc_core.model import Ledger, Member, NodeMode, NodeRecord, NodeReport, Rule, Settings, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plan_record import PlanRecord
from pvc_core.ports import Create, Delete, Entry, Op, Set
from pvc_core.registry import Registry
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.testing.builders import a_node, a_snapshot, a_vm
from pvc_core.testing.manual_clock import ManualClock
from pvc_core.testing.played_agents import PlayedAgents, entries_of, reports
from pvc_core.vm_states import OFF, VmEvent

S, E = VmState, VmEvent
Play = Callable[..., Any]


# ----------------------------------------------------------------------------------------- what always holds


def misfits(snapshot: ClusterSnapshot) -> list[str]:
    """What is wrong with the cluster as it stands: ledgers that do not equal the records, nodes that are too full."""
    found = []
    for name, node in snapshot.nodes.items():
        reserved: dict[str, Any] = {}
        for vm in (stored.value for stored in snapshot.vms.values()):
            if name in (vm.node, vm.target):
                reserved[vm.uuid] = changes.reservation_of(vm, incoming=vm.node != name)
        if node.reserved.vms != reserved:
            found.append(f"the ledger of {name} holds {node.reserved.vms}, the records say {reserved}")
        if node.report is not None:
            room_mib = node.report.value.memory_total_mib - snapshot.settings.memory_reserve_mib
            if node.reserved.memory_mib > room_mib:
                found.append(f"{name} has {room_mib} MiB for VMs, {node.reserved.memory_mib} are reserved")
    return found


# ------------------------------------------------------------------------------------- a cluster played in memory


class PlayedCluster(PlayedAgents):
    """Records in memory; commands, a leader and agents that act on them in turns, one transaction at a time.

    It is the store and the view of the real `Commands`. Its agents do at once what they are asked to, but for
    the VMs (by name) in `stubborn` (never power off), `immovable` (migrations fail) and `unstartable`.
    """

    def __init__(
        self,
        registry: Registry,
        nodes: Iterable[NodeView] = (),
        vms: Iterable[VmRecord] = (),
        settings: Settings | None = None,
        entries: dict[str, Entry] | None = None,
    ) -> None:
        super().__init__()
        self.registry = registry
        self.clock = ManualClock()
        self.entries = dict(entries) if entries is not None else entries_of(a_snapshot(nodes, vms, settings))
        self.placer = Placer(registry)
        self.commands = Commands(self, self, registry, self.clock)  # type: ignore[arg-type]
        self.reports_lag = False
        self.counts_slots = True
        self.lag: Callable[[], int] | None = None
        self.log: list[LeaderAction] = []
        self.history: list[dict[str, Entry]] = []
        self.after_transaction: Callable[[], None] = lambda: None

    # ------------------------------------------------------------------------------- as a store and a view

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        return {key: self.entries[key] for key in keys if key in self.entries}

    def transaction(self, ops: Sequence[Op]) -> tuple[int, ...]:
        after = dict(self.entries)
        versions = []
        for op in ops:
            current = after.get(op.key)
            if isinstance(op, Create):
                if current is not None:
                    raise Conflict(op.key, "exists")
                after[op.key] = Entry(op.key, op.data, 0)
            elif current is None or current.version != op.version:
                raise Conflict(op.key)
            elif isinstance(op, Set):
                after[op.key] = Entry(op.key, op.data, op.version + 1)
            elif isinstance(op, Delete):
                del after[op.key]
            versions.append(after[op.key].version if op.key in after else -1)
        self._check_limits(after)
        if after == self.entries:
            return tuple(versions)
        self.entries = after
        self.history.append(dict(after))
        self.check()
        self.after_transaction()
        return tuple(versions)

    def commit(self, decide: Callable[[ClusterSnapshot], Change]) -> Change:
        """As the view does: on what is seen first, and after a conflict on what is there."""
        for seen in (self.seen(), self.entries):
            change = decide(self.snapshot(seen))
            try:
                if change.ops or change.seen:
                    self.transaction(change.ops or change.seen)
                return change
            except Conflict as conflict:
                if self.lag is None:
                    raise AssertionError("nobody was faster, and yet there is a conflict") from conflict
                if conflict.key in change.on_conflict:
                    raise change.on_conflict[conflict.key] from conflict
        raise AssertionError("a conflict on fresh data, with nobody else around")

    def seen(self) -> dict[str, Entry]:
        """What a watched copy may hold: each kind of record is up to `lag` transactions old."""
        if self.lag is None or not self.history:
            return self.entries
        seen = dict(self.entries)
        for parent in (layout.NODES, layout.VMS, layout.LEDGERS):
            old = self.history[max(0, len(self.history) - 1 - self.lag())]
            seen = {key: entry for key, entry in seen.items() if not key.startswith(f"{parent}/")}
            seen |= {key: entry for key, entry in old.items() if key.startswith(f"{parent}/")}
        return seen

    def snapshot(self, entries: Mapping[str, Entry] | None = None) -> ClusterSnapshot:
        entries = self.entries if entries is None else entries

        def all_of(parent: str, kind: type[Any]) -> dict[str, Stored[Any]]:
            found = [entry for key, entry in entries.items() if key.startswith(f"{parent}/")]
            return {layout.name_in(entry.key): decode(entry, kind) for entry in found}

        ledgers, reports = all_of(layout.LEDGERS, Ledger), all_of(layout.REPORTS, NodeReport)
        members, settings = all_of(layout.MEMBERS, Member), entries[layout.SETTINGS]
        return ClusterSnapshot(
            nodes={
                name: NodeView(record, ledgers.get(name), reports.get(name), members.get(name))
                for name, record in sorted(all_of(layout.NODES, NodeRecord).items())
            },
            vms=all_of(layout.VMS, VmRecord),
            rules=all_of(layout.RULES, Rule),
            plan=decode(entries[layout.PLAN], PlanRecord) if layout.PLAN in entries else None,
            settings=decode(settings, Settings).value,
            settings_version=settings.version,
        )

    # ---------------------------------------------------------------------------------------- looking at it

    def vm(self, name: str) -> VmRecord:
        return self.snapshot().vm(name).value

    def node(self, name: str) -> NodeRecord:
        return self.snapshot().node(name).record.value

    def on(self, node: str) -> list[str]:
        """The names of the VMs of a node."""
        return [vm.value.name for vm in self.snapshot().vms_by_node.get(node, ())]

    def state(self) -> dict[str, tuple[str, str, bool]]:
        """State, node and held of every VM by name, and the mode of every node."""
        snapshot = self.snapshot()
        vms = {vm.value.name: (vm.value.state.value, vm.value.node, vm.value.held) for vm in snapshot.vms.values()}
        return {**vms, **{name: (node.mode.value, "", False) for name, node in snapshot.nodes.items()}}

    def done(self, *kinds: type[LeaderAction]) -> list[LeaderAction]:
        """What the leader did, of these kinds."""
        return [action for action in self.log if isinstance(action, kinds)]

    def check(self) -> None:
        snapshot = self.snapshot()
        wrong = misfits(snapshot)
        assert not wrong, wrong
        for node in snapshot.nodes.values():
            if node.mode is NodeMode.FLUSHED and node.record.value.drain is not None and node.is_alive:
                unnoticed = _running_unnoticed(node, snapshot)
                assert not unnoticed, f"{unnoticed} run on {node.name}, which is flushed"
        if not self.counts_slots:
            return
        migrating = [vm.value for vm in snapshot.vms.values() if vm.value.state is S.MIGRATING]
        for name in snapshot.nodes:
            assert sum(vm.node == name for vm in migrating) <= snapshot.settings.max_parallel_migrations
            assert sum(vm.target == name for vm in migrating) <= snapshot.settings.max_parallel_migrations

    def _check_limits(self, after: dict[str, Entry]) -> None:
        """Wherever a VM is sent that it was not before lies within its limit."""
        for key, entry in after.items():
            if key.startswith(f"{layout.VMS}/") and entry is not self.entries.get(key):
                new = decode(entry, VmRecord).value
                old = decode(self.entries[key], VmRecord).value if key in self.entries else None
                known = {old.node, old.target} if old else set()
                for node in {new.node, new.target} - known - {""}:
                    assert node in (new.metadata.node_limit or (node,)), f"{new.name} is sent to {node}"

    # --------------------------------------------------------------------------------------------- playing

    def happens(self, name: str, event: VmEvent) -> None:
        """An agent records an event."""
        snapshot = self.snapshot()
        stored = snapshot.vm(name)
        ledgers = changes.ledgers_of(snapshot, stored.value.node, stored.value.target)
        self.transaction(changes.of_event(stored, event, f"{event}", self.clock.utc_iso(), ledgers).ops)

    def agents_act(self, at_most: int | None = None) -> int:
        """Each agent finishes what it is at, in the order of the VMs' names; how many did."""
        count = 0
        alive = {name for name, node in self.snapshot().nodes.items() if node.is_alive}
        for name in sorted(stored.value.name for stored in self.snapshot().vms.values()):
            event = self.next_event(self.vm(name)) if self.vm(name).node in alive else None
            if event is not None and (at_most is None or count < at_most):
                self.happens(name, event)
                count += 1
        return count

    def nodes_report(self) -> None:
        """Every node reports what runs on it now; all guests are busy, and the load average knows it already."""
        for stored, report in reports(self.snapshot()):
            self.entries[stored.key] = Entry(stored.key, encode(report), stored.version + 1)

    def decisions(self) -> tuple[LeaderAction, ...]:
        """What the leader would do now."""
        return leader.decide(self.snapshot(self.seen()), self.placer, self.registry.recovery_policies)

    def leader_acts(self) -> int:
        """One round of the leader; how many actions it has written."""
        count = 0
        for action in self.decisions():
            try:
                change = leader.change_for(action, self.snapshot(self.seen()), self.placer, self.clock.utc_iso())
                if change.ops:
                    self.transaction(change.ops)
            except (Refused, NoCandidate):
                break
            except Conflict as conflict:
                if self.lag is None:
                    raise AssertionError("nobody was faster, and yet there is a conflict") from conflict
                break
            self.log.append(action)
            count += 1
        return count

    def plays(self, rounds: int = 200, agents_at_most: int | None = None) -> None:
        """Leader and agents in turns until neither has anything to do."""
        for _ in range(rounds):
            led = self.leader_acts()
            acted = self.agents_act(agents_at_most)
            if not self.reports_lag:
                self.nodes_report()
            if not (led or acted):
                return
        raise AssertionError(f"it never comes to rest; the last actions: {self.log[-4:]}")

    def again_from(self, entries: dict[str, Entry]) -> PlayedCluster:
        """The same cluster, guests and all, with another leader that knows only what was in the store then."""
        other = PlayedCluster(self.registry, entries=entries)
        other.stubborn, other.immovable, other.unstartable = self.stubborn, self.immovable, self.unstartable
        return other


def _running_unnoticed(node: NodeView, snapshot: ClusterSnapshot) -> list[str]:
    """VMs that run on a flushed node, or come to it, without its report saying so."""
    vms = [vm.value for vm in snapshot.vms.values() if node.name in (vm.value.node, vm.value.target)]
    return [vm.name for vm in vms if vm.state not in OFF and vm.uuid not in leader.drain_of(node).stayed]


# ------------------------------------------------------------------------------------ scenes


def nodes(*names: str, **more: Any) -> list[Any]:
    return [a_node(name, **more) for name in names]


def twelve(**more: Any) -> list[VmRecord]:
    return [a_vm(f"web{n:02}", memory_mib=256, **more) for n in range(1, 13)]


def flushed(play: Play, vms: list[VmRecord], *others: str, settings: Settings | None = None) -> Any:
    """A cluster of hv1 and others, in which hv1 has been flushed."""
    cluster = play(nodes("hv1", *(others or ("hv2",))), vms, settings)
    cluster.commands.flush("hv1")
    cluster.plays()
    cluster.log.clear()
    return cluster


def scene(play: Play) -> Any:
    """Something of everything: limits, priorities, a stubborn guest, an immovable one, policies, VMs that are off."""
    vms = [
        a_vm("a1", memory_mib=256, node_limit=("hv1", "hv2")),
        a_vm("a2", memory_mib=256, node_limit=("hv1", "hv3")),
        a_vm("a3", memory_mib=256, node_limit=("hv1", "hv3"), priority=5),
        a_vm("alone", memory_mib=256, node_limit=("hv1",)),
        a_vm("stays", memory_mib=256, node_limit=("hv1",), recovery_policy="stay"),
        a_vm("stuck", memory_mib=256, node_limit=("hv1", "hv2")),
        a_vm("auto", memory_mib=256, state="stopped", node_autostart=True),
        a_vm("off", memory_mib=256, state="stopped"),
        a_vm("visitor", memory_mib=256, home="hv2", node_limit=("hv1", "hv2")),
        a_vm("abroad", memory_mib=256, node="hv2", home="hv1", node_limit=("hv1", "hv2")),
    ]
    cluster = play(nodes("hv1", "hv2", "hv3"), vms)
    cluster.immovable = {"stuck"}
    return cluster
