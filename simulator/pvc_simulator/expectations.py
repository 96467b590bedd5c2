# SPDX-License-Identifier: Apache-2.0
"""expectations: what a scenario says must come of it, and what of that did not.

    final: {vms: {web1: {node: hv2, state: running}}, nodes: {hv1: {liveness: lost}}}
    events: [node_lost hv1, {kind: node_fenced, node: hv1}, vm_started web1]
    never: [vm_failed]
    within: [{from: power hv1 off, to: vm_started web1, seconds: 15, at_least: 6}]
    times: {vm_started web1: 1}

An event is a kind with any of the names it is about, or fields of it (`reason`: a part of the sentence), or the words
of a line of the script. A value may be a list of those that are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pvc_core.errors import InvalidInput
from pvc_core.yaml_text import read_yaml
from pvc_simulator.event_patterns import Wanted, check_pattern, matches, shown
from pvc_simulator.observer import Seen
from pvc_simulator.run import Outcome


class _Final(msgspec.Struct, forbid_unknown_fields=True):
    vms: dict[str, dict[str, Any]] = {}
    nodes: dict[str, dict[str, Any]] = {}


class _Within(msgspec.Struct, forbid_unknown_fields=True, rename={"begins": "from", "ends": "to"}):
    begins: Wanted
    ends: Wanted
    seconds: float
    at_least: float = 0.0


class Expected(msgspec.Struct, forbid_unknown_fields=True):
    """The file `expected.yaml`; every field is optional."""

    final: _Final = msgspec.field(default_factory=_Final)
    events: list[Wanted] = []
    never: list[Wanted] = []
    within: list[_Within] = []
    times: dict[str, int] = {}


def read_expected(text: str, origin: str = "expected.yaml") -> Expected:
    """Raises `InvalidInput` naming what cannot be meant."""
    found = read_yaml(text, origin) or {}
    try:
        expected = msgspec.convert(found, Expected)
    except msgspec.ValidationError as error:
        raise InvalidInput(origin, str(error).lower()) from error
    for wanted in (
        *expected.events,
        *expected.never,
        *expected.times,
        *(each for pair in expected.within for each in _ends(pair)),
    ):
        check_pattern(wanted, origin)
    return expected


def _ends(pair: _Within) -> tuple[Wanted, Wanted]:
    return pair.begins, pair.ends


@dataclass(frozen=True)
class _Position:
    index: int
    at_s: float


def unmet(expected: Expected, outcome: Outcome) -> list[str]:
    """A sentence for everything that did not come as it was to."""
    return [
        *_unmet_final("VM", expected.final.vms, outcome.vms),
        *_unmet_final("node", expected.final.nodes, outcome.nodes),
        *_unmet_order(expected.events, outcome.seen),
        *(
            f"{shown(wanted)} was never to happen, and did at {seen.at_s:.1f} s: {seen.reason}"
            for wanted in expected.never
            for seen in outcome.seen
            if matches(wanted, seen)
        ),
        *_unmet_times(expected.within, outcome.seen),
        *(
            f"{wanted} happened {count} times, and was to happen {number} times"
            for wanted, number in expected.times.items()
            if (count := sum(matches(wanted, seen) for seen in outcome.seen)) != number
        ),
    ]


def _unmet_final(
    what: str, expected: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    for name, fields in expected.items():
        if fields is None or name not in found:
            yield f"there is no {what} {name} in the end"
            continue
        for field, wanted in fields.items():
            if field not in found[name]:
                yield f"{what} {name}: there is no {field} to compare with"
            elif found[name][field] not in (wanted if isinstance(wanted, list) else [wanted]):
                yield f"{what} {name}: {field} is {found[name][field]} in the end, and was to be {wanted}"


def _unmet_order(expected: Sequence[Wanted], seen: Sequence[Seen]) -> Iterator[str]:
    after = -1
    for wanted in expected:
        position = _first(wanted, seen, after + 1)
        if position is None:
            before = f" after {seen[after].at_s:.1f} s ({seen[after].kind})" if after >= 0 else ""
            yield f"{shown(wanted)} did not happen{before}"
            return
        after = position.index


def _unmet_times(expected: Sequence[_Within], seen: Sequence[Seen]) -> Iterator[str]:
    for pair in expected:
        begins = _first(pair.begins, seen, 0)
        ends = _first(pair.ends, seen, begins.index + 1) if begins else None
        if begins is None or ends is None:
            yield f"{shown(pair.begins if begins is None else pair.ends)} did not happen"
        elif ends.at_s - begins.at_s > pair.seconds:
            took_s = ends.at_s - begins.at_s
            late = f"{took_s:.1f} s after {shown(pair.begins)}, and was to come within {pair.seconds:g} s"
            yield f"{shown(pair.ends)} came {late}"
        elif ends.at_s - begins.at_s < pair.at_least:
            early = f"{ends.at_s - begins.at_s:.1f} s after {shown(pair.begins)}, before {pair.at_least:g} s were over"
            yield f"{shown(pair.ends)} came {early}"


def _first(wanted: Wanted, seen: Sequence[Seen], start: int) -> _Position | None:
    for index in range(start, len(seen)):
        if matches(wanted, seen[index]):
            return _Position(index, seen[index].at_s)
    return None
