# SPDX-License-Identifier: Apache-2.0
"""balance: which VMs should be elsewhere, so that nodes are loaded evenly: a recommendation that may be carried out.

How evenly is one number, the score (`balance_score`). A cluster whose score is no higher than the threshold is left
alone; in any other as few VMs as possible are moved until it is, or until no move is worth its cost. What is
recommended once and carried out is not taken back by the next recommendation: that one finds nothing to do.

It never restarts a guest: a VM that cannot migrate live stays. It touches only running VMs on nodes in service, and
each at most once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from pvc_core.balance_order import Move, Ordered, in_order
from pvc_core.balance_rules import bonds_of, within_rules
from pvc_core.balance_score import Evenness, NodeLoads, loads_of
from pvc_core.balance_spread import Movables, Terms, spread
from pvc_core.model import Settings, VmRecord, VmState
from pvc_core.placement import Placer
from pvc_core.plan_columns import BY_NUMBERS, Veto, columns_of, veto_of
from pvc_core.planner import Plan, Step
from pvc_core.plugin_types import PlacementRequest
from pvc_core.snapshot import ClusterSnapshot

EFFORT = 1_000_000
"""How many terms the search for better moves looks at: a fraction of a second for 40 nodes, seconds for 1 000."""
ROUNDS = 3
"""How often moves that wait for one another are looked at again without those that do."""
UNLIMITED = 10**9
DEFAULTS = Settings()


@dataclass(frozen=True)
class BalanceGoal:
    """What a recommendation is to reach; the settings of the same names say more.

    threshold: a score that is balanced enough. margin: by how much a move lowers the score times the number of
    nodes in service, at least. max_moves: of one recommendation.
    """

    threshold: float = DEFAULTS.balance_threshold
    margin: float = DEFAULTS.balance_margin
    max_moves: int = DEFAULTS.balance_max_moves

    @classmethod
    def of(cls, settings: Settings) -> BalanceGoal:
        """What the cluster's settings say."""
        return cls(settings.balance_threshold, settings.balance_margin, settings.balance_max_moves)


@dataclass(frozen=True)
class Recommendation:
    """A plan, and what it is good for. plan: empty when nothing is worth doing; its steps are migrations.

    score_before, score_after: how uneven the nodes in service are loaded now and once all is done; 0 is perfect.
    repaired, unrepaired: of limits and rules that are violated now, those that will be kept and those that will not;
    empty so far, as a balance only spreads. reason: one sentence about the whole.
    """

    plan: Plan
    score_before: float
    score_after: float
    repaired: tuple[str, ...] = ()
    unrepaired: tuple[str, ...] = ()
    reason: str = ""


def recommend(snapshot: ClusterSnapshot, placer: Placer, goal: BalanceGoal | None = None) -> Recommendation:
    """Which migrations would balance this cluster, in steps that fit at every moment.

    goal: by default what the cluster's settings say. The same snapshot always gets the same answer.
    """
    goal = goal or BalanceGoal.of(snapshot.settings)
    loads = loads_of(snapshot, placer)
    before = loads.score
    cluster = _cluster_of(snapshot, placer, loads)
    ordered = _spread(cluster, goal)
    steps = tuple(_steps(cluster, ordered))
    after = _evenness_after(loads, ordered.moves).score
    return Recommendation(
        plan=Plan(steps=steps, proven=not steps),
        score_before=before,
        score_after=after,
        reason=_why(before, after, goal, len(steps)),
    )


@dataclass(frozen=True)
class _Cluster:
    """The nodes in service and the VMs on them that may be moved, by index."""

    loads: NodeLoads
    vms: tuple[VmRecord, ...]
    movables: Movables
    veto: Veto | None


def _cluster_of(snapshot: ClusterSnapshot, placer: Placer, loads: NodeLoads) -> _Cluster:
    node_index = {name: index for index, name in enumerate(loads.nodes)}
    vms = sorted((vm.value for vm in snapshot.vms.values() if _may_move(vm.value, node_index)), key=lambda vm: vm.name)
    requests = [PlacementRequest.for_vm(vm) for vm in vms]
    has_own_filters = not placer.drivers.filters.keys() <= BY_NUMBERS
    asked = requests if has_own_filters else [_without_rules(request) for request in requests]
    columns = columns_of(asked, snapshot, placer)
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    for there in columns.may:
        if there not in known:
            known[there] = tuple(node_index[columns.nodes[node]] for node in there if columns.nodes[node] in node_index)
    in_columns = [columns.index(name) for name in loads.nodes]
    at = tuple(node_index[vm.node] for vm in vms)
    bonds = bonds_of(placer.rulebook(snapshot), vms, node_index)
    may, rivals = within_rules(bonds, at, [known[there] for there in columns.may], loads.nodes)
    movables = Movables(
        at=at,
        memory_mib=tuple(vm.memory_mib for vm in vms),
        vcpus=tuple(vm.vcpus for vm in vms),
        may=may,
        rivals=rivals,
        room_mib=tuple(columns.free_mib[node] for node in in_columns),
        room_vcpus=(UNLIMITED,) * len(loads.nodes),
    )
    veto = None
    if has_own_filters:
        all_filters = veto_of(requests, snapshot, placer, placer.capacities(snapshot))

        def veto(vm: int, node: int, come: Collection[int], gone: Collection[int]) -> bool:
            return all_filters(vm, in_columns[node], come, gone)

    return _Cluster(loads, tuple(vms), movables, veto)


def _without_rules(request: PlacementRequest) -> PlacementRequest:
    """The request of a VM that no rule is about: rules have columns of their own."""
    return replace(request, vm="", metadata=msgspec.structs.replace(request.metadata, tags=()))


def _may_move(vm: VmRecord, in_service: dict[str, int]) -> bool:
    return vm.state is VmState.RUNNING and vm.node in in_service and vm.metadata.migration_method != "shutdown"


# -------------------------------------------------------------------------------------------------- moves


def _spread(cluster: _Cluster, goal: BalanceGoal) -> Ordered:
    """The moves that spread the VMs, those before others that have more to give."""
    loads, movables = cluster.loads, cluster.movables
    ordered = in_order((), (), ())
    for _ in range(ROUNDS):
        terms = Terms(
            threshold=goal.threshold,
            price=goal.margin / max(len(loads.nodes), 1),
            most_moves=goal.max_moves - len(ordered.moves),
            effort=EFFORT,
        )
        found = spread(loads, movables, terms, cluster.veto)
        moves = [
            Move(vm, movables.at[vm], node, movables.memory_mib[vm], movables.vcpus[vm]) for vm, node in found.items()
        ]
        moves = [*ordered.moves, *_most_useful_first(loads, moves)]
        ordered = in_order(moves, cluster.movables.room_mib, cluster.movables.room_vcpus)
        if not ordered.stuck:
            break
        loads, movables = _done(cluster, ordered.moves)
    return ordered


def _most_useful_first(loads: NodeLoads, moves: Sequence[Move]) -> list[Move]:
    """So that much is gained early, also when the rest is never carried out."""
    even = Evenness(loads)
    return sorted(
        moves, key=lambda move: (even.score_after(move.memory_mib, move.vcpus, move.source, move.target), move.vm)
    )


def _done(cluster: _Cluster, moves: Sequence[Move]) -> tuple[NodeLoads, Movables]:
    """The cluster after the moves; what was moved stays."""
    loads, movables = cluster.loads, cluster.movables
    used_mib, used_vcpus = list(loads.used_mib), list(loads.used_vcpus)
    room_mib, room_vcpus, at, may = (
        list(movables.room_mib),
        list(movables.room_vcpus),
        list(movables.at),
        list(movables.may),
    )
    for move in moves:
        for node, sign in ((move.source, -1), (move.target, 1)):
            used_mib[node] += sign * move.memory_mib
            used_vcpus[node] += sign * move.vcpus
            room_mib[node] -= sign * move.memory_mib
            room_vcpus[node] -= sign * move.vcpus
        at[move.vm], may[move.vm] = move.target, ()
    return (
        replace(loads, used_mib=tuple(used_mib), used_vcpus=tuple(used_vcpus)),
        replace(movables, room_mib=tuple(room_mib), room_vcpus=tuple(room_vcpus), at=tuple(at), may=tuple(may)),
    )


# --------------------------------------------------------------------------------------------- the sentences


def _steps(cluster: _Cluster, ordered: Ordered) -> Iterator[Step]:
    nodes, even = cluster.loads.nodes, Evenness(cluster.loads)
    for move, after in zip(ordered.moves, ordered.after, strict=True):
        loaded = f"{_loaded(even, move.source)}, {_loaded(even, move.target)}"
        before = even.score
        even.move(move.memory_mib, move.vcpus, move.source, move.target)
        yield Step(
            vm=cluster.vms[move.vm].name,
            source=nodes[move.source],
            target=nodes[move.target],
            after=after,
            reason=f"{loaded}: the score goes from {before:.4f} to {even.score:.4f}",
        )


def _loaded(even: Evenness, node: int) -> str:
    """With the reserve counted as assigned."""
    return f"{even.loads.nodes[node]} has {even.memory[node]:.0%} of its memory and {even.cpu[node]:.2f} vCPUs per core"


def _evenness_after(loads: NodeLoads, moves: Sequence[Move]) -> Evenness:
    even = Evenness(loads)
    for move in moves:
        even.move(move.memory_mib, move.vcpus, move.source, move.target)
    even.add_up()
    return even


def _why(before: float, after: float, goal: BalanceGoal, moves: int) -> str:
    if before <= goal.threshold:
        return f"balanced enough: the score {before:.4f} is no higher than the threshold {goal.threshold:g}"
    if not moves:
        return f"the score is {before:.4f}, and no move lowers it by what a move has to"
    much = f"{moves} migrations lower" if moves > 1 else "one migration lowers"
    end = "" if after <= goal.threshold or moves < goal.max_moves else ", as many as one plan may have"
    return f"{much} the score from {before:.4f} to {after:.4f}{end}"
