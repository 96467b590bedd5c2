# SPDX-License-Identifier: Apache-2.0
"""balance: which VMs should be elsewhere: within limits and rules first, then so that nodes are loaded evenly.

First what is violated is repaired with the fewest moves (`balance_repair`), however even the cluster is. Then it is
spread (`balance_spread`): how evenly nodes are loaded is one number, the score (`balance_score`). A cluster whose
score is no higher than the threshold is left alone; in any other as few VMs as possible are moved until it is, or
until no move is worth its cost. Both are looked for again on what has been found, until there is nothing more to do,
so that what is recommended once and carried out is followed by an empty plan, not by its undoing.

It never restarts a guest: a VM that cannot migrate live stays, even outside its limit. It touches only running VMs on
nodes in service, each at most once but for a VM that has to be parked where VMs wait for one another's places.
Whatever is done later leaves less violated than before, or as much and the cluster more even: nothing goes in circles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pvc_core.balance_columns import BalanceColumns, balance_columns
from pvc_core.balance_order import Move, Ordered, in_order
from pvc_core.balance_repair import Outside, Violated, repair
from pvc_core.balance_rules import rivals_of, within_rules
from pvc_core.balance_score import Evenness, NodeLoads, loads_of
from pvc_core.balance_spread import Terms, spread
from pvc_core.balance_violations import outcome
from pvc_core.model import Settings
from pvc_core.placement import Placer
from pvc_core.planner import Plan, Step
from pvc_core.snapshot import ClusterSnapshot

EFFORT = 1_000_000
"""How many terms the search for better moves looks at: a fraction of a second for 40 nodes, seconds for 1 000."""
ROUNDS = 8
"""How often what is left to do is looked for again."""
DEFAULTS = Settings()


@dataclass(frozen=True)
class BalanceGoal:
    """What a recommendation is to reach; the settings of the same names say more.

    threshold: a score that is balanced enough. margin: by how much a move lowers the score times the number of
    nodes in service, at least. max_moves: of one recommendation, repairs included.
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
    repaired: limits and rules that are violated now and will not be. unrepaired: a sentence for each that stays
    violated, with the reason; the VMs outside their limits among them stand in `plan.stay`. reason: one sentence
    about the whole.
    """

    plan: Plan
    score_before: float
    score_after: float
    repaired: tuple[str, ...] = ()
    unrepaired: tuple[str, ...] = ()
    reason: str = ""


def recommend(snapshot: ClusterSnapshot, placer: Placer, goal: BalanceGoal | None = None) -> Recommendation:
    """Which migrations would repair and balance this cluster, in steps that fit at every moment.

    goal: by default what the cluster's settings say. The same snapshot always gets the same answer.
    """
    goal = goal or BalanceGoal.of(snapshot.settings)
    columns = balance_columns(snapshot, placer, loads_of(snapshot, placer))
    found = _search(columns, goal)
    before, after = columns.loads.score, columns.after(found.moves).loads.score
    places = {columns.vms[move.vm].uuid: columns.loads.nodes[move.target] for move in found.moves}
    become = outcome(snapshot, placer, columns, found.in_vain, places)
    repairs = sum(1 for move in found.moves if move.vm in found.reasons)
    return Recommendation(
        plan=Plan(
            steps=tuple(_steps(columns, found)),
            stay=become.stay,
            complete=not become.unrepaired,
            proven=not found.moves and not become.unrepaired,
        ),
        score_before=before,
        score_after=after,
        repaired=become.repaired,
        unrepaired=become.unrepaired,
        reason=_why(before, after, goal, repairs, len(found.moves)),
    )


# ---------------------------------------------------------------------------------------------------- moves


@dataclass(frozen=True)
class _Found:
    """The moves, in an order in which they fit, with those that must be done before each.

    reasons: per VM that is moved for a violation, that one; None for one that makes room or follows. in_vain: the
    violations that stay, with the reason.
    """

    ordered: Ordered
    reasons: Mapping[int, Violated | None]
    in_vain: Mapping[Violated, str]

    @property
    def moves(self) -> tuple[Move, ...]:
        return self.ordered.moves


def _search(columns: BalanceColumns, goal: BalanceGoal) -> _Found:
    """Repair and spread in turns until nothing is left to do."""
    ordered, reasons = Ordered((), ()), dict[int, Violated | None]()
    in_vain: Mapping[Violated, str] = {}
    for _ in range(ROUNDS):
        now = columns.after(ordered.moves)
        most_moves = goal.max_moves - len(ordered.moves)
        if most_moves <= 0:
            break
        repairs = repair(now, most_moves)
        in_vain = repairs.in_vain
        more = [*repairs.moves, *_spread(now.after(repairs.moves), goal, most_moves - len(repairs.moves))]
        joined = _joined(columns, ordered.moves, now, more)
        if joined.moves == ordered.moves:
            break
        ordered, reasons = joined, {**reasons, **repairs.reasons}
    return _Found(ordered, reasons, in_vain)


def _spread(columns: BalanceColumns, goal: BalanceGoal, most_moves: int) -> list[Move]:
    """The moves that spread the VMs."""
    movables = replace(
        columns.movables,
        may=within_rules(columns.bonds, columns.movables.at, columns.movables.may, columns.loads.nodes),
        rivals=rivals_of(columns.bonds),
    )
    price = goal.margin / max(len(columns.loads.nodes), 1)
    terms = Terms(threshold=goal.threshold, price=price, most_moves=most_moves, effort=EFFORT)
    moves = [movables.move(vm, node) for vm, node in spread(columns.loads, movables, terms, columns.veto).items()]
    return _most_useful_first(columns.loads, moves)


def _joined(columns: BalanceColumns, done: Sequence[Move], now: BalanceColumns, more: Sequence[Move]) -> Ordered:
    """Further moves after those that are settled: every VM once if such moves have an order, else one after another.

    Those that have no order even then, because they wait for one another, are left out.
    """
    targets = {move.vm: move.target for move in (*done, *more)}
    straight = [columns.movables.move(vm, node) for vm, node in targets.items() if node != columns.movables.at[vm]]
    if len(straight) < len(done) + len(more):
        ordered = _in_order(columns, straight)
        if not ordered.stuck:
            return ordered
    possible = _in_order(now, more).moves
    ordered = _in_order(columns, [*done, *possible])
    return Ordered(ordered.moves, ordered.after)


def _in_order(columns: BalanceColumns, moves: Sequence[Move]) -> Ordered:
    return in_order(moves, columns.movables.room_mib, columns.movables.room_vcpus, rivals_of(columns.bonds))


def _most_useful_first(loads: NodeLoads, moves: Sequence[Move]) -> list[Move]:
    """So that much is gained early, also when the rest is never carried out."""
    even = Evenness(loads)
    return sorted(
        moves, key=lambda move: (even.score_after(move.memory_mib, move.vcpus, move.source, move.target), move.vm)
    )


# --------------------------------------------------------------------------------------------- the sentences


def _steps(columns: BalanceColumns, found: _Found) -> Iterator[Step]:
    nodes, even = columns.loads.nodes, Evenness(columns.loads)
    last = {move.vm: index for index, move in enumerate(found.moves)}
    for index, (move, after) in enumerate(zip(found.moves, found.ordered.after, strict=True)):
        if last[move.vm] != index:
            reason = f"is parked on {nodes[move.target]}, where it makes room"
        elif move.vm in found.reasons:
            reason = _what_for(columns, found.reasons[move.vm], move)
        else:
            reason = f"{_loaded(even, move.source)}, {_loaded(even, move.target)}"
        before = even.score
        even.move(move.memory_mib, move.vcpus, move.source, move.target)
        yield Step(
            vm=columns.vms[move.vm].name,
            source=nodes[move.source],
            target=nodes[move.target],
            after=after,
            reason=f"{reason}: the score goes from {before:.4f} to {even.score:.4f}",
        )


def _what_for(columns: BalanceColumns, violated: Violated | None, move: Move) -> str:
    source = columns.loads.nodes[move.source]
    if violated is None:
        return f"makes way on {source} for what repairs limits and rules"
    if isinstance(violated, Outside):
        return f"{source} is outside its limit"
    return f"rule {violated.rule.name} is broken on {source}"


def _loaded(even: Evenness, node: int) -> str:
    return f"{even.loads.nodes[node]} has {even.memory[node]:.0%} of its memory and {even.cpu[node]:.2f} vCPUs per core"


def _why(before: float, after: float, goal: BalanceGoal, repaired: int, moves: int) -> str:
    first = f"{_migrations(repaired)} for limits and rules; " if repaired else ""
    if moves == repaired:
        if after <= goal.threshold:
            return f"{first}balanced enough: the score {after:.4f} is no higher than the threshold {goal.threshold:g}"
        if moves < goal.max_moves:
            return f"{first}the score is {after:.4f}, and no move lowers it by what a move has to"
        return f"{first}as many as one plan may have"
    more = f"{_migrations(moves - repaired)}{' more' if repaired else ''}"
    verb = "lowers" if moves - repaired == 1 else "lower"
    end = "" if after <= goal.threshold or moves < goal.max_moves else ", as many as one plan may have"
    return f"{first}{more} {verb} the score from {before:.4f} to {after:.4f}{end}"


def _migrations(number: int) -> str:
    return "one migration" if number == 1 else f"{number} migrations"
