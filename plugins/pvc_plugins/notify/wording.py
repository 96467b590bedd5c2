# SPDX-License-Identifier: Apache-2.0
"""wording: events in words: a line for each, and a headline for several."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import Event
from pvc_core.events import Severity


def worst(events: Sequence[Event]) -> Event:
    """The most severe; of several the first."""
    return max(events, key=lambda event: tuple(Severity).index(event.severity))


def line(event: Event) -> str:
    """One event: `critical: node_lost hv2: its session ended 2 s ago`."""
    return _one_line(f"{event.severity}: {_what(event)}: {event.reason}")


def headline(events: Sequence[Event], cluster: str) -> str:
    """What stands above them: the worst, and how many others there are."""
    first, others = worst(events), len(events) - 1
    more = f" and {others} more event{'s' if others > 1 else ''}" if others else ""
    return _one_line(f"[{cluster}] {first.severity}: {_what(first)}{more}")


def left_out(count: int) -> str:
    """That some are missing; "" when none is."""
    return f"{count} earlier events are not told: too many waited. See: pvc events" if count else ""


def _what(event: Event) -> str:
    place = f"{event.node} -> {event.target}" if event.node and event.target else event.node
    about = event.vm and place and f"{event.vm} ({place})"
    return f"{event.kind} {about or event.vm or place or event.plugin}".strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
