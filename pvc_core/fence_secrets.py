# SPDX-License-Identifier: Apache-2.0
"""fence_secrets: which parameters of a fence device nobody may read, and how what an agent says is kept free of them.

An agent is asked to keep them to itself, and its suite looks whether it does. But it may raise what some library
wrote into an exception, and a lost node's sentences go into events, logs and mails.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

MASK = "***"
"""What is shown instead of a secret."""
LEAST_CHARACTERS = 4
"""Of a value that is looked for in sentences: a shorter one is in every other of them, and hides nothing."""

_SECRET_BY_NAME = re.compile(r"pass|pw|secret|token|community|credential|(?<!pub)key", re.IGNORECASE)


def sounds_secret(name: str) -> bool:
    """Whether a parameter of this name may hold a secret, as far as can be told without its agent."""
    return _SECRET_BY_NAME.search(name) is not None


def is_secret(name: str, secrets: Collection[str]) -> bool:
    """Whether nobody may read a parameter again: its agent says so (`secrets`), or its name does."""
    return name in secrets or sounds_secret(name)


def without_secrets(text: str, device: Mapping[str, str], secrets: Collection[str]) -> str:
    """A sentence in which no secret parameter's value stands."""
    values = {value for name, value in device.items() if is_secret(name, secrets) and len(value) >= LEAST_CHARACTERS}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text
