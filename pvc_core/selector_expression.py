# SPDX-License-Identifier: Apache-2.0
"""selector_expression: what stands wherever a selector is named: one name, or several with weights: `mem:2,load:1`.

Every selector ranks on a scale of its own, so what is added up are its scores from 0 (the worst candidate) to 100
(the best), each times its weight. A name without a weight has the weight 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pvc_core.errors import InvalidInput

MOST_WEIGHT = 1000.0


@dataclass(frozen=True)
class SelectorExpression:
    """Selectors with their weights, each once, in the order in which they were written."""

    parts: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        if self.is_single:
            return self.parts[0][0]
        return ",".join(f"{name}:{weight:g}" for name, weight in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The selectors that it names."""
        return tuple(name for name, _ in self.parts)

    @property
    def is_single(self) -> bool:
        """It is one selector, whose weight does not matter."""
        return len(self.parts) == 1


@lru_cache(maxsize=256)
def parse_selector(text: str, field: str = "node_selector") -> SelectorExpression:
    """The expression that a text means. Raises `InvalidInput` naming `field` and what is wrong with it."""
    parts: dict[str, float] = {}
    for part in text.split(","):
        name, colon, weight = (piece.strip() for piece in part.partition(":"))
        if not name:
            raise InvalidInput(field, "needs a selector's name before each weight, such as mem:2,load:1", text)
        if name in parts:
            raise InvalidInput(field, f"names {name} twice", text)
        parts[name] = _weight(weight, field, text) if colon else 1.0
    return SelectorExpression(tuple(parts.items()))


def _weight(text: str, field: str, expression: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MOST_WEIGHT:  # also false for NaN
        problem = f"the weight {text or '(none)'} is not a number above 0, at most {MOST_WEIGHT:g}"
        raise InvalidInput(field, problem, expression)
    return weight


def check_selector(text: str, known: Iterable[str], field: str = "node_selector") -> str:
    """The expression as it is kept, if every selector in it is known. Raises `InvalidInput` with those that are."""
    expression, names = parse_selector(text, field), sorted(known)
    for name in expression.names:
        if name not in names:
            raise InvalidInput(field, "is not registered by any plugin", name, names)
    return str(expression)
