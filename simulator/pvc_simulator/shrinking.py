# SPDX-License-Identifier: Apache-2.0
"""shrinking: the fewest lines of a script that still break the same invariant, so that a person can see why.

Larger and larger parts that do not matter are left out first, then single lines (Zeller and Hildebrandt, "Simplifying
and Isolating Failure-Inducing Input", 2002).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pvc_simulator.chaos import Play
from pvc_simulator.invariants import Broken
from pvc_simulator.run import Outcome
from pvc_simulator.script import Line, parse_line

AFTERWARDS_S = 1.0


def shrink(play: Play, outcome: Outcome, budget_s: float = 120.0) -> Play:
    """The same play with fewer lines. budget_s: of real time, after which the best so far has to do."""
    if not outcome.broken:
        return play
    first = outcome.broken[0]
    gives_up_s = time.monotonic() + budget_s

    def breaks(candidate: Play) -> bool:
        return any(broken.invariant == first.invariant for broken in candidate.run().broken)

    best = play
    cut = _cut(play, first)
    if cut is not play and breaks(cut):
        best = cut
    part = max(1, len(best.script) // 2)
    while part >= 1 and time.monotonic() < gives_up_s:
        smaller = _without_a_part(best, part, breaks, gives_up_s)
        if smaller is None:
            part //= 2
        else:
            best = smaller
            part = min(part, max(1, len(best.script) // 2))
    return best


def _cut(play: Play, first: Broken) -> Play:
    """Nothing that comes after the first violation matters to it."""
    if first.at_s >= play.rest_s:
        return play
    lines = [line for line in play.script if line.at_s <= first.at_s]
    end_s = first.at_s + AFTERWARDS_S
    return replace(play, script=(*lines, parse_line(end_s, "end", play.file)), checks_rest=False)


def _without_a_part(play: Play, part: int, breaks: Callable[[Play], bool], gives_up_s: float) -> Play | None:
    """The play without some part of that many lines, if it still breaks."""
    lines: Sequence[Line] = play.script
    for start in range(0, len(lines), part):
        if time.monotonic() >= gives_up_s:
            return None
        left = [line for index, line in enumerate(lines) if not start <= index < start + part or line.do == "end"]
        if len(left) < len(lines):
            candidate = replace(play, script=tuple(left))
            if breaks(candidate):
                return candidate
    return None
