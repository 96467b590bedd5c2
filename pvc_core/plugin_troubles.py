# SPDX-License-Identifier: Apache-2.0
"""plugin_troubles: what a plugin did wrong in one process, as the process's report and the API show it."""

from __future__ import annotations

from typing import Literal

import msgspec

CircuitState = Literal["closed", "open", "half-open"]
"""Whether a plugin is asked (closed), left out (open), or about to be tried again (half-open)."""


class PluginTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin did wrong in one process. strikes: failures in a row. failures: all since it started.

    hanging: calls that were given up and have not come back.
    """

    circuit: CircuitState = "closed"
    strikes: int = 0
    failures: int = 0
    hanging: int = 0
    last_error: str = ""
    last_error_at: str = ""
