# SPDX-License-Identifier: Apache-2.0
"""Wait for a condition with a deadline, because a fixed sleep is either too long or too short.

The machine that runs the lab may be ten times slower than usual; a condition that is polled costs
nothing on a fast one and is still right on a slow one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEFAULT_DEADLINE_S = 60.0
DEFAULT_INTERVAL_S = 0.02


class DeadlineExceededError(TimeoutError):
    """A condition did not become true in time; `what` says which one."""

    def __init__(self, what: str, deadline_s: float) -> None:
        super().__init__(f"not within {deadline_s:g} s: {what}")
        self.what = what
        self.deadline_s = deadline_s


def wait_for(
    condition: Callable[[], T | None],
    what: str,
    *,
    deadline_s: float = DEFAULT_DEADLINE_S,
    interval_s: float = DEFAULT_INTERVAL_S,
) -> T:
    """Poll `condition` until it returns something true, and return that.

    `what` names the awaited state in words; it is the message of DeadlineExceededError. An
    exception from the condition is not swallowed: a condition that may fail says so itself.
    """
    ends_at = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= ends_at:
            raise DeadlineExceededError(what, deadline_s)
        time.sleep(interval_s)
