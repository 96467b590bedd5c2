# SPDX-License-Identifier: Apache-2.0
"""placement_steps: which nodes the filters leave, and in which order a selector ranks them, whatever plugins do.

Two steps of a placement as functions over plugins' drivers. A driver that fails costs its own contribution
and nothing else, with one exception: a filter that fails closed leaves no node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsFloat

import msgspec

from pvc_core.errors import InvalidInput, PluginError
from pvc_core.model import Settings
from pvc_core.placement_drivers import PlacementDrivers, request_for
from pvc_core.plugin_configuration import settings_for_plugins
from pvc_core.plugin_types import FilterEntry, NodeCapacity, PlacementRequest, Rejection, SelectorEntry
from pvc_core.selector_expression import SelectorExpression, parse_selector

REQUIRED_FILTERS = ("limit", "ready", "memory", "rules")
"""Without these nothing is placed: limits and hard rules hold, also where their plugin is blocked or broken."""


ROOM_FILTERS = frozenset({"memory", "vcpus"})
"""They reject for want of room, which comes back when VMs leave."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """One candidate's place in the ranking. `raw`: what the selector said; `score`: that, from 0 (worst) to 100.

    parts: of a selector expression, the score by each of its selectors; `raw` is then their weighted mean.
    preference: the points of the cluster's rules, which come before the score.
    """

    node: str
    score: float
    raw: float
    parts: dict[str, float] = {}
    preference: float = 0.0


@dataclass(frozen=True, slots=True)
class Filtered:
    """What the filters left, and which of them failed."""

    candidates: tuple[NodeCapacity, ...]
    rejections: tuple[Rejection, ...]
    failures: tuple[PluginError, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates, best first, the selector that ranked them, and the problems of those that were to."""

    selector: str
    summary: str
    ranked: tuple[Ranked, ...]
    failures: tuple[PluginError, ...] = ()
    missing: tuple[str, ...] = ()


class CoreMem:
    """The selector `mem` as the core computes it when no plugin can: it needs nothing but a subtraction."""

    def score(self, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> Mapping[str, float]:
        return {node.name: float(node.free_mib) for node in candidates}


CORE_MEM = SelectorEntry("mem", "the most free memory", CoreMem())


# -------------------------------------------------------------------------------------------------- filter


@dataclass(slots=True)
class _Verdicts:
    """Rejections by node, in the filters' order."""

    nodes: Sequence[NodeCapacity]
    by_node: dict[str, list[Rejection]] = field(default_factory=dict)

    def reject(self, node: str, reason: str, plugin: str) -> None:
        self.by_node.setdefault(node, []).append(Rejection(node, reason, plugin))

    def reject_all(self, reason: str, plugin: str) -> None:
        for node in self.nodes:
            self.reject(node.name, reason, plugin)


def filter_nodes(
    drivers: PlacementDrivers,
    request: PlacementRequest,
    nodes: Sequence[NodeCapacity],
    settings: Settings,
) -> Filtered:
    """Ask every filter about every node; a node passes when none rejects it."""
    verdicts = _Verdicts(nodes)
    failures = []
    for name in REQUIRED_FILTERS:
        if name not in drivers.filters:
            verdicts.reject_all(f"the filter {name} is not loaded, and nothing is placed without it", "core")
    shown = settings_for_plugins(settings)
    for entry in drivers.filters.values():
        try:
            reasons = _rejected_by(entry, drivers, request, nodes, settings, shown)
        except PluginError as failure:
            failures.append(failure)
            if entry.fail_closed:
                verdicts.reject_all(f"the filter {entry.name} failed: {failure.problem}", entry.name)
            continue
        for node in nodes if reasons else ():
            if node.name in reasons:
                verdicts.reject(node.name, _reason_text(reasons[node.name]), entry.name)
    rejected = verdicts.by_node
    return Filtered(
        candidates=tuple(node for node in nodes if node.name not in rejected),
        rejections=tuple(rejection for node in sorted(rejected) for rejection in rejected[node]),
        failures=tuple(failures),
    )


def _rejected_by(
    entry: FilterEntry,
    drivers: PlacementDrivers,
    request: PlacementRequest,
    nodes: Sequence[NodeCapacity],
    settings: Settings,
    shown: Settings,
) -> Mapping[str, object]:
    """Node names with reasons; names that were not asked about do not matter. Raises `PluginError`."""
    plugin = entry.plugin or entry.name
    asked = request_for(plugin, request, drivers, settings)

    def answer() -> dict[str, object]:
        reasons = entry.filter.reject(asked, nodes, shown)
        if not isinstance(reasons, Mapping):
            raise TypeError(f"filter {entry.name} returned {type(reasons).__name__} instead of a mapping")
        return dict(reasons)

    return drivers.calls.ask(plugin, answer)


def _reason_text(reason: object) -> str:
    return reason if isinstance(reason, str) and reason else "rejected without a reason"


# --------------------------------------------------------------------------------------------------- score


def rank(
    drivers: PlacementDrivers,
    wanted: str,
    request: PlacementRequest,
    candidates: Sequence[NodeCapacity],
    settings: Settings,
) -> Ranking:
    """Rank by the wanted selectors; where none of them can, by the cluster's default, and at last by the core's `mem`.

    Of an expression, a selector that is missing or fails is left out, and the others rank.
    """
    failures: list[PluginError] = []
    missing: list[str] = []
    for text in dict.fromkeys((wanted, default_selector(settings))):
        expression = _parsed(text)
        scored: dict[str, dict[str, float]] = {}
        for name in expression.names:
            entry = drivers.selectors.get(name)
            if entry is None:
                missing.append(name)
                continue
            try:
                scored[name] = scores_by(entry, drivers, request, candidates, settings)
            except PluginError as failure:
                failures.append(failure)
        if scored:
            return _ranking(expression, scored, drivers, request, tuple(failures), tuple(missing))
    raw = {node.name: float(node.free_mib) for node in candidates}
    return Ranking(CORE_MEM.name, CORE_MEM.summary, _ordered(raw, request), tuple(failures), tuple(missing))


def default_selector(settings: Settings) -> str:
    """The selector of VMs that name none."""
    return CORE_MEM.name if settings.default_selector in ("", "none") else settings.default_selector


def _parsed(text: str) -> SelectorExpression:
    """An expression that a record holds, whatever it is: one that makes no sense is a selector nobody has."""
    try:
        return parse_selector(text)
    except InvalidInput:
        return SelectorExpression(((text, 1.0),))


def _ranking(
    expression: SelectorExpression,
    scored: Mapping[str, dict[str, float]],
    drivers: PlacementDrivers,
    request: PlacementRequest,
    failures: tuple[PluginError, ...],
    missing: tuple[str, ...],
) -> Ranking:
    """The ranking by what the selectors of an expression said, those that failed left out."""
    if len(scored) == 1:
        ((name, raw),) = scored.items()
        return Ranking(name, drivers.selectors[name].summary, _ordered(raw, request), failures, missing)
    left = SelectorExpression(tuple((name, weight) for name, weight in expression.parts if name in scored))
    shares = {name: _normalised(raw) for name, raw in scored.items()}
    total = sum(weight for _, weight in left.parts)
    raw = {
        node: sum(weight * shares[name][node] for name, weight in left.parts) / total
        for node in next(iter(shares.values()))
    }
    ranked = tuple(
        msgspec.structs.replace(one, parts={name: share[one.node] for name, share in shares.items()})
        for one in _ordered(raw, request)
    )
    return Ranking(str(left), f"the best weighted mean of {left}", ranked, failures, missing)


def scores_by(
    entry: SelectorEntry,
    drivers: PlacementDrivers,
    request: PlacementRequest,
    candidates: Sequence[NodeCapacity],
    settings: Settings,
) -> dict[str, float]:
    """A finite number for exactly the candidates. Raises `PluginError` for anything else."""
    plugin = entry.plugin or entry.name
    asked = request_for(plugin, request, drivers, settings)

    def answer() -> dict[str, float]:
        scores = entry.selector.score(asked, candidates)
        if not isinstance(scores, Mapping):
            raise TypeError(f"selector {entry.name} returned {type(scores).__name__} instead of a mapping")
        unknown = [str(node) for node in scores if node not in names]
        if unknown:
            raise ValueError(f"selector {entry.name} scored {', '.join(unknown)}, no candidate")
        unscored = [node for node in names if node not in scores]
        if unscored:
            raise ValueError(f"selector {entry.name} has no score for {', '.join(unscored)}")
        return {node: _finite(entry.name, node, scores[node]) for node in names}

    names = {node.name: None for node in candidates}
    return drivers.calls.ask(plugin, answer)


def _finite(selector: str, node: str, score: object) -> float:
    if type(score) is float:
        number = score
    elif isinstance(score, SupportsFloat):
        number = float(score)
    else:
        raise TypeError(f"selector {selector} scored {node} with {type(score).__name__} instead of a number")
    if not math.isfinite(number):
        raise ValueError(f"selector {selector} scored {node} with {number}")
    return number + 0.0  # -0.0 becomes 0.0, which reads better


def _ordered(raw: Mapping[str, float], request: PlacementRequest) -> tuple[Ranked, ...]:
    """Best first: what the rules prefer, then by the score; equals: where the VM is, then by name."""
    scores, points = _normalised(raw), request.rules.preferences
    if points:
        order = sorted(raw, key=lambda node: (-points.get(node, 0.0), -raw[node], node != request.current_node, node))
        return tuple(Ranked(node, scores[node], raw[node], preference=points.get(node, 0.0)) for node in order)
    best_first = sorted(raw, key=lambda node: (-raw[node], node != request.current_node, node))
    return tuple(Ranked(node, scores[node], raw[node]) for node in best_first)


def _normalised(raw: Mapping[str, float]) -> dict[str, float]:
    """From 0 (the worst) to 100 (the best); all are 100 when all are equal."""
    if not raw:
        return {}
    low, high = min(raw.values()), max(raw.values())
    # Halved, because the difference of two finite numbers need not be finite.
    span = high / 2 - low / 2
    if span == 0:
        return dict.fromkeys(raw, 100.0)
    return {node: (score / 2 - low / 2) / span * 100 for node, score in raw.items()}
