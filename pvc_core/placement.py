# SPDX-License-Identifier: Apache-2.0
"""placement: which node a VM goes to: filters leave candidates, the VM's selector ranks them, the first one wins.

The same pipeline serves define, migrate, flush, recovery and every dry run, so that an answer to "why there?" is
the decision itself. It reads a snapshot and writes nothing: the caller reserves the place in a transaction
that carries the versions of that snapshot.

What a failing plugin does to a decision, which then is `degraded` and names it:
- a selector that raises or returns anything but a finite number for exactly the candidates is replaced by the
  cluster's default selector, then by `mem` computed here; so is one that is not installed;
- a filter that fails is left out, unless its entry says `fail_closed`: then no node passes.

The built-in `limit`, `ready`, `memory` and `rules` fail closed, and where one of them is blocked or missing nothing
is placed at all: neither a limit nor a hard rule is ever violated by a decision. What the cluster's rules prefer comes
before what the selector says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from pvc_core.capacity_view import CapacityView, with_vm, without_vm
from pvc_core.empty_nodes import EmptyNodes
from pvc_core.errors import NoCandidate, PluginError
from pvc_core.limits import is_within
from pvc_core.placement_drivers import PlacementDrivers
from pvc_core.placement_sentences import decision_sentence, degraded_sentence, reasons_by_node
from pvc_core.placement_steps import Ranked, Ranking, default_selector, filter_nodes, rank
from pvc_core.plugin_types import NodeCapacity, PlacementRequest, Rejection
from pvc_core.rule_verdicts import Course, groups_of, too_small_for_all, verdict
from pvc_core.rules import Rulebook
from pvc_core.snapshot import ClusterSnapshot

__all__ = ["Decision", "PlacementDrivers", "Placer", "Planner", "Ranked", "Rejection", "is_default_selector"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Where a VM goes and why. `node` is "" when no node may take it; then `ranking` is empty.

    ranking: the candidates, best first. rejections: every (node, filter) that said no, by node. selector: the one
    that ranked, which is not the one asked for when `degraded` says so. reason: one sentence for log and event.
    """

    vm: str
    uuid: str
    node: str = ""
    ranking: tuple[Ranked, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    selector: str = ""
    degraded: str = ""
    reason: str = ""

    def raise_if_none(self) -> str:
        """The node. Raises `NoCandidate` with a sentence per node when there is none."""
        if not self.node:
            raise NoCandidate(
                self.vm, tuple(f"{node}: {why}" for node, why in reasons_by_node(self.rejections).items())
            )
        return self.node


class Placer:
    """Places VMs with the drivers of a registry. Thread-safe; keeps no state but sums of what it has seen.

    on_plugin_failure: called with every failure of a plugin, its exception as the cause, for logs and events.
    """

    def __init__(
        self, drivers: PlacementDrivers, on_plugin_failure: Callable[[PluginError], None] | None = None
    ) -> None:
        self.drivers = drivers
        self.on_plugin_failure = on_plugin_failure
        self._view = CapacityView()
        self._rulebook: tuple[ClusterSnapshot, Rulebook] | None = None
        self._empty_nodes: tuple[ClusterSnapshot, EmptyNodes] | None = None

    def tell(self, failures: Iterable[PluginError]) -> None:
        """What plugins did wrong in one decision."""
        if self.on_plugin_failure is not None:
            for failure in failures:
                self.on_plugin_failure(failure)

    def capacities(self, snapshot: ClusterSnapshot) -> Mapping[str, NodeCapacity]:
        """Every node's capacity by name, in the order of the names."""
        return self._view.of(snapshot)

    def rulebook(self, snapshot: ClusterSnapshot) -> Rulebook:
        """The rules of the snapshot; `Rulebook.concerns` says whether any is about a VM."""
        latest = self._rulebook
        if latest is None or latest[0] is not snapshot:
            latest = self._rulebook = (snapshot, Rulebook(snapshot))
        return latest[1]

    def empty_nodes(self, snapshot: ClusterSnapshot) -> EmptyNodes:
        """Which nodes of the snapshot would take a VM if nothing were on them."""
        latest = self._empty_nodes
        if latest is not None and latest[0] is snapshot:
            return latest[1]
        empty = EmptyNodes(self.drivers, self.capacities(snapshot), snapshot.settings)
        if empty.is_said_by_numbers:  # else what is remembered of a VM holds for one request only
            self._empty_nodes = (snapshot, empty)
        return empty

    def place(self, request: PlacementRequest, snapshot: ClusterSnapshot, only: str = "") -> Decision:
        """Choose a node. `only`: an explicit target, the single node that is considered; every filter still applies.

        Raises `NotFound` when there is no node called `only`.
        """
        return self.planner(snapshot).place(request, only)

    def planner(self, snapshot: ClusterSnapshot) -> Planner:
        """For several decisions on one snapshot, each of which sees the ones before it."""
        return Planner(self, snapshot)

    def place_many(
        self, requests: Iterable[PlacementRequest], snapshot: ClusterSnapshot, behind: Collection[str] = ()
    ) -> tuple[Decision, ...]:
        """Choose a node for each: highest priority first, then the largest memory, then by name.

        behind: the UUIDs of VMs that come after all others of the same priority.

        VMs that hard rules keep together come one after the other, as early as the most urgent of them. The decisions
        come in that order, which is the order to carry them out; `Decision.uuid` says whose each is.
        """
        planner = self.planner(snapshot)
        return tuple(planner.place(request) for request in planner.in_order(requests, behind))


class Planner:
    """Decisions that know of one another: a planned VM counts on its target, and on its source until it arrived.

    What ledgers hold of VMs that are on their way counts as well, so a plan may be continued on a later snapshot.
    """

    def __init__(self, placer: Placer, snapshot: ClusterSnapshot) -> None:
        self._placer = placer
        self._snapshot = snapshot
        self._capacities = dict(placer.capacities(snapshot))
        self._rules = placer.rulebook(snapshot)
        self._course = Course()
        self._groups: dict[str, list[PlacementRequest]] = {}

    def place_all(self, requests: Iterable[PlacementRequest]) -> tuple[Decision, ...]:
        """As `Placer.place_many`, with the VMs planned so far."""
        return tuple(self.place(request) for request in self.in_order(requests))

    def in_order(
        self, requests: Iterable[PlacementRequest], behind: Collection[str] = ()
    ) -> tuple[PlacementRequest, ...]:
        """The requests in the order in which they are to be placed, now that they are known to be all."""
        ordered = tuple(sorted(requests, key=urgency))
        if behind:
            ordered = tuple(sorted(ordered, key=lambda one: (-one.metadata.priority, one.uuid in behind)))
        concerned = [request for request in ordered if self.is_under_rules(request)]
        if not concerned:
            return ordered
        self._groups = {one.uuid: group for group in groups_of(concerned, self._rules) for one in group}
        self._course.leaving |= {request.uuid for request in concerned if self._leaves(request)}
        return self._grouped(ordered)

    def is_under_rules(self, request: PlacementRequest) -> bool:
        """Whether any rule of the cluster is about this VM."""
        return self._rules.concerns(request.vm, request.metadata.tags)

    def _grouped(self, ordered: Sequence[PlacementRequest]) -> tuple[PlacementRequest, ...]:
        """The requests in their order, each followed by those that hard rules keep together with it."""
        grouped: dict[str, PlacementRequest] = {}
        for request in ordered:
            for one in (request, *self._groups.get(request.uuid, ())):
                grouped.setdefault(one.uuid, one)
        return tuple(grouped.values())

    def place(self, request: PlacementRequest, only: str = "") -> Decision:
        """As `Placer.place`, with the VMs planned so far; a place that is found is taken."""
        if only:
            self._snapshot.node(only)
        drivers, settings = self._placer.drivers, self._snapshot.settings
        nodes = self.nodes_for(request, only)
        if self.is_under_rules(request):
            request = self._with_rules(request)
        filtered = filter_nodes(drivers, request, nodes, settings)
        named = request.metadata.node_selector
        wanted = default_selector(settings) if is_default_selector(named) else named
        if filtered.candidates:
            ranking = rank(drivers, wanted, request, filtered.candidates, settings)
        else:
            ranking = Ranking(wanted, "", ())
        failures = filtered.failures + ranking.failures
        self._placer.tell(failures)
        decision = Decision(
            vm=request.vm,
            uuid=request.uuid,
            node=ranking.ranked[0].node if ranking.ranked else "",
            ranking=ranking.ranked,
            rejections=filtered.rejections,
            selector=ranking.selector,
            degraded=degraded_sentence(ranking, failures),
            reason=decision_sentence(request, filtered, ranking, only),
        )
        self.take(decision.node, request)
        return decision

    def lose(self, node: str) -> None:
        """Go on as if the daemon of this node were lost: it takes no VMs. What is placed there is not moved away."""
        self._capacities[node] = msgspec.structs.replace(self._capacities[node], alive=False)
        self._course.lost.add(node)

    def _with_rules(self, request: PlacementRequest) -> PlacementRequest:
        """The request with what the rules say, the rest of its group and the VMs planned so far in mind."""
        found = verdict(request, self._rules, self._snapshot, self._capacities, self._course)
        others = [other for other in self._groups.get(request.uuid, ()) if other.uuid != request.uuid]
        if others:
            for_all = self._nodes_for_all((request, *others), found.rejected)
            too_small = dict.fromkeys(self._capacities.keys() - for_all, too_small_for_all(others)) if for_all else {}
            found = replace(found, rejected={**too_small, **found.rejected})
        return replace(request, rules=found)

    def _nodes_for_all(self, group: Sequence[PlacementRequest], rejected: Mapping[str, str]) -> frozenset[str]:
        """The nodes that every VM of the group may go to and that have room for all of them together."""
        memory_mib, vcpus = sum(one.memory_mib for one in group), sum(one.vcpus for one in group)
        found = frozenset(self._capacities) - rejected.keys()
        for one in group:
            nodes = self.nodes_for(one)
            asked = replace(one, memory_mib=memory_mib, vcpus=vcpus)
            left = filter_nodes(self._placer.drivers, asked, nodes, self._snapshot.settings).candidates
            found &= {node.name for node in left}
        return found

    def _leaves(self, request: PlacementRequest) -> bool:
        """Whether the VM cannot stay where it is."""
        node = self._snapshot.nodes.get(request.current_node)
        labels = node.record.value.labels if node else {}
        return request.current_node in request.exclude or not is_within(
            request.metadata.node_limit, request.current_node, labels
        )

    @property
    def capacities(self) -> Mapping[str, NodeCapacity]:
        """Every node's capacity by name, with the VMs planned so far."""
        return self._capacities

    def own_nodes(self, request: PlacementRequest) -> dict[str, NodeCapacity]:
        """The nodes where this VM is or goes, by name, as they would be without it."""
        capacities = self._capacities
        vm = self._snapshot.vms.get(request.uuid)
        own = {request.current_node, vm.value.node, vm.value.target} if vm else {request.current_node}
        return {name: without_vm(capacities[name], self._snapshot, request.uuid) for name in own if name in capacities}

    def nodes_for(self, request: PlacementRequest, only: str = "") -> tuple[NodeCapacity, ...]:
        """The nodes to consider (`only`: this one), those that hold a reservation of this VM without it."""
        capacities, own_nodes = self._capacities, self.own_nodes(request)
        if only:
            return (own_nodes.get(only, capacities[only]),)
        return tuple({**capacities, **own_nodes}.values())

    def take(self, node: str, request: PlacementRequest) -> None:
        """From now on the VM counts on this node; "" when it has found none."""
        if node and request.uuid not in self._snapshot.nodes[node].reserved.vms:
            self._capacities[node] = with_vm(self._capacities[node], request)
        if self.is_under_rules(request):
            self._course.take(request, node, self._snapshot)
            group = self._groups.pop(request.uuid, [])
            group[:] = [other for other in group if other.uuid != request.uuid]


def is_default_selector(name: str) -> bool:
    """Whether this names no selector of its own but the cluster's default."""
    return name in ("", "none")


def urgency(request: PlacementRequest) -> tuple[int, int, str]:
    """The order in which VMs are placed: highest priority first, then the largest memory, then by name."""
    return (-request.metadata.priority, -request.memory_mib, request.vm)
