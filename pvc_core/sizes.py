# SPDX-License-Identifier: Apache-2.0
"""sizes: how the size of a volume is typed and written: 20GiB, 1.5T.

A unit is always typed: of two storage tools that people use, one takes a bare number for bytes and one for MiB.
"""

from __future__ import annotations

import re
from fractions import Fraction

from pvc_core.errors import InvalidInput

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
MAX_BYTES = 2**62
_SIZE = re.compile(r"(?P<number>[0-9]{1,19}(?:\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z]*)")
_BYTES_OF_UNIT = {unit.lower(): 1024**power for power, unit in enumerate(UNITS)}
_BYTES_OF_UNIT |= {unit[0].lower(): size_bytes for unit, size_bytes in zip(UNITS, _BYTES_OF_UNIT.values(), strict=True)}
_ALLOWED = (*UNITS[1:], "K, M, G, T and P, which mean the same", UNITS[0])


def parse_size(text: str, field: str = "size") -> int:
    """The bytes that a text such as `20GiB`, `20G` or `1.5 tib` means. Raises `InvalidInput` for `field`."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(field, "is not a number and a unit, such as 20GiB or 1.5T", text[:80])
    if not found["unit"]:
        raise InvalidInput(field, "needs a unit", text[:80], _ALLOWED)
    unit_bytes = _BYTES_OF_UNIT.get(found["unit"].lower())
    if unit_bytes is None:
        raise InvalidInput(field, f"has an unknown unit {found['unit']}", text[:80], _ALLOWED)
    size_bytes = Fraction(found["number"]) * unit_bytes
    if size_bytes.denominator != 1:
        raise InvalidInput(field, "is no whole number of bytes", text[:80])
    if not 0 < size_bytes <= MAX_BYTES:
        raise InvalidInput(field, f"must be more than 0 and at most {MAX_BYTES} bytes", text[:80])
    return int(size_bytes)


def size_words(size_bytes: int) -> str:
    """A size for people, in the largest unit that it reaches: 512 B, 20 GiB, 1.5 TiB."""
    power = 0
    while power + 1 < len(UNITS) and size_bytes >= 1024 ** (power + 1):
        power += 1
    return f"{size_bytes / 1024**power:.4g} {UNITS[power]}"
