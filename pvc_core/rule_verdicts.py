# SPDX-License-Identifier: Apache-2.0
"""rule_verdicts: what the cluster's rules say of every node for one VM: these never, those rather.

A hard rule binds to members that run or are about to; to members that are off even a hard rule is a preference.
Who is to be kept apart is avoided wherever it is, where it goes and, until it has arrived, where it comes from.
Who is to be together with others follows them to where they will be: a member on a node that is being drained or
is lost, or that leaves its node in the same plan or in the one that is being carried out, keeps nobody there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from pvc_core.model import NodeMode, Rule, VmRecord, VmState
from pvc_core.plugin_types import PlacementRequest, RuleVerdict
from pvc_core.rules import Rulebook, is_active, is_member, listed, sides
from pvc_core.snapshot import ClusterSnapshot

BROKEN_POINTS = 100.0
"""What breaking a soft rule counts against a node, per other member."""


@dataclass
class Course:
    """What is decided but not in the snapshot: VMs by UUID with the nodes they are to go to, and what becomes free.

    leaving: VMs that have no new place yet and do not stay where they are. gone: VMs that are imagined to have left
    where the snapshot has them. newcomers: VMs with a place that the snapshot does not have. lost: nodes that are
    imagined to be lost.
    """

    placed: dict[str, str] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    newcomers: list[VmRecord] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def take(self, request: PlacementRequest, node: str, snapshot: ClusterSnapshot) -> None:
        """The VM is to go to this node; with "" it has found none."""
        if not node:
            return
        self.placed[request.uuid] = node
        self.leaving.discard(request.uuid)
        if request.uuid not in snapshot.vms:
            self.newcomers.append(_newcomer(request, node))


NO_COURSE = Course()


def _newcomer(request: PlacementRequest, node: str) -> VmRecord:
    return VmRecord(
        uuid=request.uuid,
        name=request.vm,
        state=VmState.STARTING,
        node=node,
        home=node,
        memory_mib=request.memory_mib,
        vcpus=request.vcpus,
        metadata=request.metadata,
    )


def verdict(
    request: PlacementRequest, book: Rulebook, snapshot: ClusterSnapshot, nodes: Collection[str], course: Course
) -> RuleVerdict:
    """What the rules about the requested VM say of these nodes."""
    weighing = _Weighing(request, snapshot, nodes, course)
    for rule in book.rules_of(request.vm, request.metadata.tags):
        known = (vm for vm in book.members(rule) if vm.uuid != request.uuid)
        others = (*known, *(vm for vm in course.newcomers if is_member(vm, rule)))
        if rule.kind == "apart":
            weighing.apart(rule, others)
        elif rule.kind == "together":
            weighing.together(rule, others)
        else:
            weighing.prefer(rule)
    return RuleVerdict(weighing.rejected, weighing.preferences, tuple(weighing.preferred_by))


@dataclass
class _Weighing:
    """The verdict as it grows, rule by rule."""

    request: PlacementRequest
    snapshot: ClusterSnapshot
    nodes: Collection[str]
    course: Course
    rejected: dict[str, str] = field(default_factory=dict)
    preferences: dict[str, float] = field(default_factory=dict)
    preferred_by: dict[str, None] = field(default_factory=dict)

    def apart(self, rule: Rule, others: Iterable[VmRecord]) -> None:
        """Nodes where another member is, or will be, are rejected or avoided."""
        for vm in others:
            for node in self._sides(vm):
                if rule.hard and self._binds(vm):
                    self._reject(node, f"rule {rule.name} keeps it apart from {self._whereabouts(vm, node)}")
                else:
                    self._prefer(rule, node, -BROKEN_POINTS)

    def together(self, rule: Rule, others: Iterable[VmRecord]) -> None:
        """Nodes where the other members will not be are rejected or avoided."""
        places = {vm.name: (vm, destination(vm, self.snapshot, self.course)) for vm in others}
        followed = {name: (vm, node) for name, (vm, node) in places.items() if node}
        binding = {name: (vm, node) for name, (vm, node) in followed.items() if rule.hard and self._binds(vm)}
        if binding:
            allowed = {node for _, node in binding.values()}
            vm, node = next(iter(binding.values()))
            more = f", and {len(binding) - 1} more" if len(binding) > 1 else ""
            reason = f"rule {rule.name} keeps it together with {self._whereabouts(vm, node)}{more}"
            for other in self.nodes:
                if other not in allowed:
                    self._reject(other, reason)
        there = Counter(node for name, (_, node) in followed.items() if name not in binding)
        for node in self.nodes if there else ():
            missed = there.total() - there[node]
            if missed:
                self._prefer(rule, node, -BROKEN_POINTS * missed)

    def prefer(self, rule: Rule) -> None:
        """Nodes have the weights that the rule gives them."""
        for node, weight in rule.nodes.items():
            if node in self.nodes and weight:
                self._prefer(rule, node, weight)

    def _sides(self, vm: VmRecord) -> frozenset[str]:
        planned = frozenset(node for node in (self.course.placed.get(vm.uuid),) if node)
        return planned if vm.uuid in self.course.gone else planned | sides(vm)

    def _binds(self, vm: VmRecord) -> bool:
        return is_active(vm) or vm.uuid in self.course.placed

    def _reject(self, node: str, reason: str) -> None:
        if node in self.nodes:
            self.rejected.setdefault(node, reason)

    def _prefer(self, rule: Rule, node: str, points: float) -> None:
        if node in self.nodes:
            self.preferences[node] = self.preferences.get(node, 0.0) + points
            self.preferred_by[rule.name] = None

    def _whereabouts(self, vm: VmRecord, node: str) -> str:
        """The VM, and how it stands to the node."""
        going_to = self.course.placed.get(vm.uuid, vm.target)
        if going_to == node and vm.node != node:
            return f"{vm.name}, which is going to {node}"
        if going_to and going_to != node:
            return f"{vm.name}, which has not left {node} yet"
        return f"{vm.name}, which is on {node}"


def destination(vm: VmRecord, snapshot: ClusterSnapshot, course: Course = NO_COURSE) -> str:
    """Where the VM will be when everything under way is done; "" when it leaves its node and nobody knows where to."""
    if vm.uuid in course.placed:
        return course.placed[vm.uuid]
    if vm.uuid in course.leaving:
        return ""
    if vm.uuid in snapshot.planned_targets:
        return snapshot.planned_targets[vm.uuid]
    node = vm.node if vm.cancelling or not vm.target else vm.target
    home = snapshot.nodes.get(vm.home)
    if home is not None and vm.home != node and home.mode is NodeMode.UNFLUSHING and is_active(vm):
        drain = home.record.value.drain
        if drain is None or not (drain.leaves_running or vm.uuid in drain.stayed):
            return vm.home
    return "" if _is_being_left(vm, node, snapshot, course.lost) else node


def _is_being_left(vm: VmRecord, node: str, snapshot: ClusterSnapshot, lost: Collection[str]) -> bool:
    """Whether the node's VMs go elsewhere: it is drained, and not just this VM has to stay; or it is lost."""
    view = snapshot.nodes.get(node)
    if view is None or node in lost or view.liveness == "lost" or view.record.value.fenced:
        return True
    if view.mode is not NodeMode.FLUSHING:
        return False
    drain = view.record.value.drain
    return drain is None or vm.uuid not in drain.stayed


# ----------------------------------------------------------------------------------------- VMs that go together


def groups_of(requests: Iterable[PlacementRequest], book: Rulebook) -> tuple[list[PlacementRequest], ...]:
    """Those of the VMs that hard rules keep together with others of them, group by group."""
    by_rule: dict[str, list[PlacementRequest]] = {}
    for request in requests:
        group = [request]
        for rule in book.rules_of(request.vm, request.metadata.tags):
            if rule.kind != "together" or not rule.hard:
                continue
            joined = by_rule.setdefault(rule.name, group)
            if joined is not group:
                joined += group
                by_rule.update({name: joined for name, other in by_rule.items() if other is group})
                group = joined
    groups = {id(group): group for group in by_rule.values() if len(group) > 1}
    return tuple(groups.values())


def too_small_for_all(others: Collection[PlacementRequest]) -> str:
    """Why a node is not taken that may take the VM, but not those that are kept together with it."""
    return f"cannot take {listed([other.vm for other in others])} as well, which rules keep together with it"
