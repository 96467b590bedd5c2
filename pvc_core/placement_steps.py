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

from pvc_core.errors import PluginError
from pvc_core.model import Settings
from pvc_core.plugin_calls import ask
from pvc_core.plugin_types import FilterEntry, NodeCapacity, PlacementRequest, Rejection, SelectorEntry

REQUIRED_FILTERS = ("limit", "ready", "memory")
"""Without these nothing is placed: a limit is hard, also on a node where its plugin is blocked or broken."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """One candidate's place in the ranking. `raw`: what the selector said; `score`: that, from 0 (worst) to 100."""

    node: str
    score: float
    raw: float


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
    filters: Mapping[str, FilterEntry],
    request: PlacementRequest,
    nodes: Sequence[NodeCapacity],
    settings: Settings,
) -> Filtered:
    """Ask every filter about every node; a node passes when none rejects it."""
    verdicts = _Verdicts(nodes)
    failures = []
    for name in REQUIRED_FILTERS:
        if name not in filters:
            verdicts.reject_all(f"the filter {name} is not loaded, and nothing is placed without it", "core")
    for entry in filters.values():
        try:
            reasons = _rejected_by(entry, request, nodes, settings)
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
    entry: FilterEntry, request: PlacementRequest, nodes: Sequence[NodeCapacity], settings: Settings
) -> Mapping[str, object]:
    """Node names with reasons; names that were not asked about do not matter. Raises `PluginError`."""
    plugin = entry.plugin or entry.name

    def answer() -> dict[str, object]:
        reasons = entry.filter.reject(request, nodes, settings)
        if not isinstance(reasons, Mapping):
            raise TypeError(f"filter {entry.name} returned {type(reasons).__name__} instead of a mapping")
        return dict(reasons)

    return ask(plugin, answer)


def _reason_text(reason: object) -> str:
    return reason if isinstance(reason, str) and reason else "rejected without a reason"


# --------------------------------------------------------------------------------------------------- score


def rank(
    selectors: Mapping[str, SelectorEntry],
    wanted: str,
    default: str,
    request: PlacementRequest,
    candidates: Sequence[NodeCapacity],
) -> Ranking:
    """Rank by the wanted selector; where it is missing or fails, by the default, and at last by the core's `mem`."""
    failures: list[PluginError] = []
    missing: list[str] = []
    for name in dict.fromkeys((wanted, default)):
        entry = selectors.get(name)
        if entry is None:
            missing.append(name)
            continue
        try:
            raw = _scores_by(entry, request, candidates)
        except PluginError as failure:
            failures.append(failure)
            continue
        return Ranking(entry.name, entry.summary, _ordered(raw, request), tuple(failures), tuple(missing))
    raw = _scores_by(CORE_MEM, request, candidates)
    return Ranking(CORE_MEM.name, CORE_MEM.summary, _ordered(raw, request), tuple(failures), tuple(missing))


def _scores_by(entry: SelectorEntry, request: PlacementRequest, candidates: Sequence[NodeCapacity]) -> dict[str, float]:
    """A finite number for exactly the candidates. Raises `PluginError` for anything else."""

    def answer() -> dict[str, float]:
        scores = entry.selector.score(request, candidates)
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
    return ask(entry.plugin or entry.name, answer)


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
    """Best first; equals: where the VM is, then by name. Scores run from 0 to 100; all are 100 when all are equal."""
    if not raw:
        return ()
    low, high = min(raw.values()), max(raw.values())
    # Halved, because the difference of two finite numbers need not be finite.
    span = high / 2 - low / 2
    best_first = sorted(raw, key=lambda node: (-raw[node], node != request.current_node, node))
    if span == 0:
        return tuple(Ranked(node, 100.0, raw[node]) for node in best_first)
    return tuple(Ranked(node, (raw[node] / 2 - low / 2) / span * 100, raw[node]) for node in best_first)
