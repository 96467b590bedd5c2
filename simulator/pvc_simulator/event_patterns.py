# SPDX-License-Identifier: Apache-2.0
"""event_patterns: which event a scenario means: a kind with names, fields of it, or the words of a line of a script."""

from __future__ import annotations

from typing import Any

from pvc_core.errors import InvalidInput
from pvc_core.events import EventKind
from pvc_simulator.observer import COMMAND_REFUSED, SCRIPT, Seen

KINDS = frozenset({*EventKind, COMMAND_REFUSED, SCRIPT})
FIELDS = ("kind", "vm", "node", "target", "reason", "plugin", "by")

Wanted = str | dict[str, Any]


def check_pattern(wanted: Wanted, origin: str) -> None:
    """Raises `InvalidInput` for what can be no event."""
    if isinstance(wanted, str):
        if not wanted.strip():
            raise InvalidInput(origin, "names no event")
        return
    for field in wanted:
        if field not in FIELDS:
            raise InvalidInput(origin, f"{field!r} is no field of an event", allowed=FIELDS)
    if "kind" in wanted and wanted["kind"] not in KINDS:
        raise InvalidInput(origin, "is no kind of event", str(wanted["kind"]), tuple(sorted(KINDS)))


def matches(wanted: Wanted, seen: Seen) -> bool:
    """Whether this is such an event."""
    if isinstance(wanted, str):
        kind, *names = wanted.split()
        if kind not in KINDS:
            return seen.kind == SCRIPT and seen.reason == " ".join(wanted.split())
        return seen.kind == kind and all(name in (seen.vm, seen.node, seen.target, seen.plugin) for name in names)
    for field, value in wanted.items():
        found = getattr(seen, field)
        if not (str(value) in found if field == "reason" else found in (value if isinstance(value, list) else [value])):
            return False
    return True


def shown(wanted: Wanted) -> str:
    """For people."""
    return wanted if isinstance(wanted, str) else ", ".join(f"{field}: {value}" for field, value in wanted.items())
