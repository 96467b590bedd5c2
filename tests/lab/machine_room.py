# SPDX-License-Identifier: Apache-2.0
"""The machine room for tests of lost nodes: four hypervisors with BMCs, an ensemble, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lab_support import clean_up, is_at_work, ticking
from operators import Operator
from pvc_core import layout
from pvc_core.election import holder_of
from pvc_core.event_log import EventLog
from pvc_core.events import Event, EventKind
from pvc_core.model import FenceStep, NodeMode, Settings, VmState
from pvc_core.ports import SessionState
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_lab.cluster_node import ClusterNode
from pvc_lab.guest_image import ticks
from pvc_lab.real_cluster import RealCluster
from pvc_lab.tour_cluster import ConsoleMark, pvc
from pvc_lab.waiting import wait_for
from pvc_lab.zookeeper_ensemble import ZooKeeperEnsemble

SESSION_TIMEOUT_S = 2.0
WATCHDOG_TIMEOUT_S = 3.0
SETTINGS = Settings(
    fence_grace_s=1.0, fence_retry_s=0.5, watchdog_margin_s=1.0, report_interval_s=1.0, autoready_delay_s=0.5
)
"""Everything that is waited for is waited for less long than by default."""
EVENTS_LOOKED_AT = 500


class MachineRoom:
    """A cluster whose parts break, and an operator who looks at it."""

    def __init__(self, cluster: RealCluster, operator: Operator) -> None:
        self.cluster = cluster
        self.operator = operator
        self._events = EventLog(operator.store)
        self._since = ""

    @staticmethod
    def of_four_nodes(root: Path) -> RealCluster:
        """The cluster, not up yet."""
        options = {"session_timeout_s": SESSION_TIMEOUT_S}
        return RealCluster(root, 4, workers=1, store_members=3, store_options=options, bmcs=True)

    def tidy(self) -> None:
        """As before the first test: nothing is broken, no VM, every node ready."""
        if self.cluster.lab.store_machines:
            self._mend_ensemble()
        self.cluster.make_whole()
        watchdogs_s = self.cluster.configuration.watchdogs_s
        had_watchdogs = [self.cluster.nodes[name] for name in watchdogs_s]
        watchdogs_s.clear()
        self.wait_for_store()
        self._restart_daemons(had_watchdogs)
        clean_up(self.operator, SETTINGS)
        for console in (self.cluster.lab.root / "consoles").iterdir():
            console.unlink()
        self._since = self._events.ids()[-1]

    def _mend_ensemble(self) -> None:
        for server in self.ensemble.servers:
            if server.process is None or server.process.poll() is not None:
                server.launch()
        self.ensemble.wait_until_serving()

    # ---------------------------------------------------------------------------------------------- parts

    @property
    def ensemble(self) -> ZooKeeperEnsemble:
        store = self.cluster.lab.zookeeper
        assert isinstance(store, ZooKeeperEnsemble)
        return store

    def leader(self) -> ClusterNode:
        """The node whose daemon leads."""
        holder = wait_for(lambda: holder_of(self.operator.store.get(layout.LEADER_HOLDER)), "a leader")
        return self.cluster.nodes[holder.candidate]

    def followers(self) -> tuple[ClusterNode, ...]:
        """The others, in order."""
        leader = self.leader()
        return tuple(node for node in self.cluster.nodes.values() if node is not leader)

    def give_watchdogs(self, *nodes: ClusterNode) -> None:
        """From now on, and until the next test, these nodes reset themselves when they have lost the store."""
        for node in nodes:
            self.cluster.configuration.watchdogs_s[node.name] = WATCHDOG_TIMEOUT_S
        self._restart_daemons(nodes)

    def _restart_daemons(self, nodes: Iterable[ClusterNode]) -> None:
        """They are at work again, in other sessions than before."""
        before = {node.name: self._session(self.operator.view.snapshot(), node.name) for node in nodes}
        for node in nodes:
            node.restart_daemon()

        def are_back(snapshot: ClusterSnapshot) -> bool:
            return all(
                self._session(snapshot, name) not in ("", session) and is_at_work(snapshot.node(name))
                for name, session in before.items()
            )

        self.wait(are_back, f"the daemons of {', '.join(before)} to be back")
        self.wait_ready()

    def _session(self, snapshot: ClusterSnapshot, node: str) -> str:
        member = snapshot.node(node).member
        return member.value.session if member else ""

    def wait_armed(self, *nodes: ClusterNode) -> None:
        """Until these nodes have promised that they do."""
        self.wait(lambda s: all(s.node(node.name).record.value.watchdog_s > 0 for node in nodes), "armed watchdogs")

    def wait_for_store(self) -> None:
        """Until this operator, too, is connected again."""
        wait_for(lambda: self.operator.store.session_state is SessionState.CONNECTED, "the operator's session")

    def pvc(self, *words: str) -> str:
        """What an operator types; it has to succeed."""
        result = pvc(list(words), self.cluster.environment)
        assert result.returncode == 0, result.stderr
        return result.stdout

    # --------------------------------------------------------------------------------------------- guests

    def run_guests(self, placed: Mapping[str, ClusterNode]) -> dict[str, ConsoleMark]:
        """Guests that boot and count, by name on these nodes; where their consoles are."""
        for name, node in placed.items():
            self.operator.define_xml(self.cluster.definition(name), target=node.name)
        self.operator.wait_state(*placed)
        return {name: ticking(self.cluster, name) for name in placed}

    def wait_restarted(self, marks: Mapping[str, ConsoleMark], *lost: ClusterNode) -> None:
        """Until these guests run, on nodes that were not lost, and count in another boot than before."""
        gone = {node.name for node in lost}

        def restarted(snapshot: ClusterSnapshot) -> bool:
            records = [snapshot.vm(name).value for name in marks]
            return all(record.state is VmState.RUNNING and record.node not in gone for record in records)

        self.wait(restarted, f"{', '.join(marks)} to run on other nodes than {', '.join(gone)}")
        for name, mark in marks.items():
            wait_for(
                lambda name=name, mark=mark: self.cluster.console(name).boot_id not in ("", mark.boot_id),
                f"{name} to boot again",
            )
            assert self.cluster.active_on(name) == (self.operator.vm(name).node,)

    def boots_of(self, name: str) -> int:
        """How often a guest has booted, by its console."""
        return len({tick.boot_id for tick in ticks(self.cluster.lab.console_path(name))})

    # -------------------------------------------------------------------------------------------- history

    def wait(self, predicate: Callable[[ClusterSnapshot], bool], what: str) -> None:
        self.operator.wait(predicate, what)

    def wait_step(self, node: ClusterNode, *steps: FenceStep) -> None:
        """Until the fence of a node is at one of these steps."""
        self.wait(lambda s: (f := s.node(node.name).record.value.fence) is not None and f.step in steps, f"{steps}")

    def wait_refused(self, node: ClusterNode) -> None:
        """Until it stands there that nothing confirms that a node is off."""

        def is_refused(snapshot: ClusterSnapshot) -> bool:
            fence = snapshot.node(node.name).record.value.fence
            return fence is not None and fence.step is FenceStep.FENCING and fence.attempts > 0

        self.wait(is_refused, f"{node.name} not to be fenced")

    def wait_ready(self) -> None:
        """Until every node is in service and takes VMs."""

        def is_ready(node: NodeView) -> bool:
            return node.is_alive and node.mode is NodeMode.READY and not node.record.value.left and is_at_work(node)

        self.wait(lambda s: all(is_ready(node) for node in s.nodes.values()), "nodes ready")

    def events(self, kind: EventKind) -> list[Event]:
        """Those of this test, oldest first."""
        return [e for e in self._events.last(EVENTS_LOOKED_AT, since=self._since).events if e.kind == kind]

    def nodes_in(self, kind: EventKind) -> set[str]:
        """The nodes to which it happened in this test."""
        return {event.node for event in self.events(kind)}
