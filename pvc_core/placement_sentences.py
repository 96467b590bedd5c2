# SPDX-License-Identifier: Apache-2.0
"""placement_sentences: what a decision of placement says of itself: why this node, or why none.

One sentence for log, event and command. On a large cluster it stays one: nodes that are rejected for the same reasons
come together, and of many such groups the smallest are told, because they hold what is special.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pvc_core.errors import PluginError
from pvc_core.placement_steps import Filtered, Ranked, Ranking
from pvc_core.plugin_types import PlacementRequest, Rejection
from pvc_core.rules import listed

NODES_IN_A_SENTENCE = 3
REASONS_IN_A_SENTENCE = 8


def degraded_sentence(ranking: Ranking, failures: Iterable[PluginError]) -> str:
    """Which plugins did not do their part, and who ranked instead; "" when all did."""
    problems = [f"the selector {name} is not installed" for name in ranking.missing]
    problems += [failure.sentence() for failure in failures]
    if ranking.missing or ranking.failures:
        problems.append(f"{ranking.selector} ranked instead")
    return "; ".join(problems)


def decision_sentence(request: PlacementRequest, filtered: Filtered, ranking: Ranking, only: str = "") -> str:
    """Why the best candidate is that, or why there is none. only: the node that the request named."""
    if not ranking.ranked:
        return no_candidate_sentence(alike(reasons_by_node(filtered.rejections)))
    best = ranking.ranked[0]
    if only:
        return f"{best.node} was named and passes every filter"
    if len(ranking.ranked) == 1:
        return f"selector {ranking.selector}: {best.node} is the only candidate"
    preferred = [one for one in ranking.ranked if one.preference == best.preference]
    ruled = _by_rules(request, preferred) if len(preferred) < len(ranking.ranked) else ""
    if ruled and len(preferred) == 1:
        return ruled
    quality = f"has {ranking.summary}" if ranking.summary else "scores highest"
    ruled = f"{ruled}; " if ruled else ""
    sentence = f"{ruled}selector {ranking.selector}: {best.node} of {len(preferred)} candidates {quality}"
    equals = [other.node for other in preferred[1:] if other.raw == best.raw]
    if not equals:
        return sentence
    tie_break = "the VM is there already" if best.node == request.current_node else "first by name"
    return f"{sentence}, as {_listed(equals)}; {tie_break}"


def _by_rules(request: PlacementRequest, preferred: Sequence[Ranked]) -> str:
    """That rules come before the selector, and which nodes they leave it."""
    names = request.rules.preferred_by
    rules = f"rule {names[0]} prefers" if len(names) == 1 else f"rules {listed(names)} prefer"
    return f"{rules} {_listed([one.node for one in preferred])}"


def _listed(nodes: Sequence[str], number: int = 0) -> str:
    """Some of the nodes by name. number: how many there are, when `nodes` are only the first ones."""
    more = max(number, len(nodes)) - NODES_IN_A_SENTENCE
    return ", ".join(nodes[:NODES_IN_A_SENTENCE]) + (f" and {more} more" if more > 0 else "")


# ------------------------------------------------------------------------------------------------ why none


@dataclass(frozen=True, slots=True)
class Alike:
    """Nodes that are rejected for the same reasons: how many, and the first ones by name, as many as are told."""

    why: str
    number: int
    first: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, str]:
        """The smallest groups come first."""
        return (self.number, self.first[0])


def alike(reasons: Mapping[str, str]) -> list[Alike]:
    """The nodes, given with the reasons for their rejection in the order of their names, as groups: smallest first."""
    groups: dict[str, list[str]] = {}
    for node, why in reasons.items():
        groups.setdefault(why, []).append(node)
    found = (Alike(why, len(nodes), tuple(nodes[:NODES_IN_A_SENTENCE])) for why, nodes in groups.items())
    return sorted(found, key=lambda group: group.rank)


def no_candidate_sentence(groups: Sequence[Alike], nodes: int | None = None) -> str:
    """Why no node takes the VM. nodes: how many there are in all, when `groups` are only the smallest groups."""
    if not groups:
        return "no candidate: the cluster has no node"
    told = groups[:REASONS_IN_A_SENTENCE]
    parts = [f"{_listed(group.first, group.number)}: {group.why}" for group in told]
    in_all = sum(group.number for group in groups) if nodes is None else nodes
    unnamed = in_all - sum(group.number for group in told)
    return f"no candidate: {'; '.join([*parts, f'{unnamed} more nodes rejected'] if unnamed else parts)}"


def reasons_by_node(rejections: Iterable[Rejection]) -> dict[str, str]:
    """All that speaks against each node, in the order of the rejections."""
    reasons: dict[str, list[str]] = {}
    for rejection in rejections:
        reasons.setdefault(rejection.node, []).append(rejection.reason)
    return {node: " and ".join(why) for node, why in reasons.items()}
