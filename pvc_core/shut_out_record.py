# SPDX-License-Identifier: Apache-2.0
"""shut_out_record: how far it is with shutting a node's clients out of a storage backend, as its record keeps it."""

from __future__ import annotations

from typing import Literal

import msgspec


class ShutOut(msgspec.Struct, frozen=True, kw_only=True):
    """A storage backend that is told to shut a node's clients out, or was, and has not let them in again since.

    Written before the backend is asked, so that whoever leads then knows what may have been done. fence: the number of
    the fence that it is for. state: "given-up" when the node was off anyway and the recovery did not wait any longer.
    attempts: how often the backend did not confirm. problem: what it said last.
    """

    fence: int
    state: Literal["asking", "confirmed", "given-up"] = "asking"
    attempts: int = 0
    problem: str = ""
