# SPDX-License-Identifier: Apache-2.0
"""script: what happens to a simulated cluster and when: faults, and commands of its operator, a line each.

    - {at: 10, do: "power hv1 off"}
    - {at: 12, do: "migrate web1 hv2"}
    - {when: node_fenced hv1, after: 0.5, do: "leader kill"}

A line with `when` is done once, at the first such event of the run, or `after` so many seconds.
A line that cannot be meant is refused before anything runs; a command that the cluster refuses is an event of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import msgspec

from pvc_core.errors import InvalidInput
from pvc_core.snapshot_file import SnapshotFile
from pvc_core.yaml_text import read_yaml
from pvc_simulator.deeds import DEEDS, END, Deed
from pvc_simulator.event_patterns import Wanted, check_pattern


@dataclass(frozen=True)
class Line:
    """One line: when, what, and how that is done. With `when`, `at_s` is how long after the first such event."""

    at_s: float
    do: str
    deed: Deed
    words: tuple[str, ...]
    fields: Mapping[str, Any]
    when: Wanted | None = None

    @property
    def undoes(self) -> bool:
        """Whether it makes something well, or ends the run, and is no fault or command of its own."""
        if self.deed.verb == "maintenance":
            return "off" in self.words
        return self.deed is END or (bool(self.words) and self.words[-1] in ("on", "ok", "confirms", "start", "thaw"))

    def shown(self) -> dict[str, Any]:
        """As it stands in a file."""
        if self.when is not None:
            return {"when": self.when, "after": self.at_s, "do": self.do}
        return {"at": self.at_s, "do": self.do}


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    do: str
    at: float | None = None
    when: Wanted | None = None
    after: float = 0.0


def read_script(text: str, file: SnapshotFile, origin: str = "script.yaml") -> tuple[Line, ...]:
    """The lines in the order of their times. Raises `InvalidInput` naming the line and what is wrong with it."""
    found = read_yaml(text, origin)
    if not isinstance(found, list):
        raise InvalidInput(origin, "must be a list of lines such as {at: 10, do: 'power hv1 off'}")
    lines = []
    for number, entry in enumerate(found, 1):
        where = f"{origin}: line {number}"
        try:
            line = msgspec.convert(entry, _Entry)
        except msgspec.ValidationError as error:
            raise InvalidInput(where, str(error).lower()) from error
        lines.append(_line(line, file, where))
    timed = sorted((line for line in lines if line.when is None), key=lambda line: line.at_s)
    return (*timed, *(line for line in lines if line.when is not None))


def _line(entry: _Entry, file: SnapshotFile, where: str) -> Line:
    if (entry.at is None) == (entry.when is None):
        raise InvalidInput(where, "needs `at`, a time in seconds, or `when`, an event, and not both")
    for name, value in (("at", entry.at or 0.0), ("after", entry.after)):
        if value < 0:
            raise InvalidInput(f"{where}: {name}", "must not be negative", str(value))
    if entry.when is None:
        return parse_line(entry.at or 0.0, entry.do, file, where)
    check_pattern(entry.when, f"{where}: when")
    return replace(parse_line(entry.after, entry.do, file, where), when=entry.when)


def parse_line(at_s: float, do: str, file: SnapshotFile, where: str = "line") -> Line:
    """One line. Raises `InvalidInput`."""
    text, brace, fields_text = do.partition("{")
    words = text.split()
    if not words:
        raise InvalidInput(where, "says nothing to do")
    verb = words[0]
    matching = [deed for deed in DEEDS if deed.verb == verb]
    if not matching:
        near = get_close_matches(verb, [deed.verb for deed in DEEDS], 1)
        raise InvalidInput(where, f"cannot be done{f'; is {near[0]} meant?' if near else ''}", do)
    fields = _fields(brace + fields_text, where) if brace else {}
    for deed in matching:
        if deed.fits(words[1:], file) and bool(fields) == deed.has_fields:
            return Line(at_s, do, deed, tuple(words[1:]), fields)
    raise InvalidInput(where, f"cannot be done: {do!r}", allowed=tuple(deed.usage for deed in matching))


def _fields(text: str, where: str) -> Mapping[str, Any]:
    fields = read_yaml(text, where, text)
    if not isinstance(fields, dict) or not fields:
        raise InvalidInput(where, f"{text!r} must hold names with values")
    return fields


def ends_at_s(script: Sequence[Line]) -> float | None:
    """When the script ends the run; None: it does not say."""
    return next((line.at_s for line in script if line.deed is END and line.when is None), None)
