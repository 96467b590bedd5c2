# SPDX-License-Identifier: Apache-2.0
"""pause_record: the terms of a maintenance, and the record of that of the whole cluster."""

from __future__ import annotations

import msgspec

from pvc_core.layout import SCHEMA_VERSION


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of a maintenance, of the cluster or of one node.

    left_s: how long it still lasts; the leader counts it down on its own clock and writes it every minute, so that the
    next one goes on from there; None: until somebody ends it. ends_at: when that will be, for people.
    """

    reason: str = ""
    began_at: str = ""
    ends_at: str = ""
    left_s: float | None = None


class MaintenanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The maintenance of the whole cluster; without a pause there is none."""

    schema: int = SCHEMA_VERSION
    pause: Pause | None = None
