# SPDX-License-Identifier: Apache-2.0
"""durations: how a time is typed and written: 90m, 12h, 7d."""

from __future__ import annotations

import math
import re
from typing import Any

import click

_SECONDS_OF_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """A time such as 12h or 90d, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d{1,9})([smhd])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a number followed by s, m, h or d, such as 12h or 90d.", param, ctx)
        return int(match[1]) * _SECONDS_OF_UNIT[match[2]]


def about(seconds: float) -> str:
    """A time for people, in one unit and rounded up: 45 s, 90 min, 3 h, 7 days."""
    for unit, size_s, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        count = math.ceil(seconds / size_s)
        if count <= most:
            return f"{count} {unit}"
    return f"{math.ceil(seconds / 86_400)} days"
