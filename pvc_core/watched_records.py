# SPDX-License-Identifier: Apache-2.0
"""watched_records: which records the watched copy of the cluster holds, and which changes of them are news.

A report comes from every node every few seconds and says that all is as it was, with other figures. Whoever decides
looks at those when there is something to decide; by themselves they are no reason to.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pvc_core import layout
from pvc_core.codec import Stored
from pvc_core.model import Ledger, Member, NodeRecord, NodeReport, Rule, Settings, VmRecord
from pvc_core.pause_record import MaintenanceRecord
from pvc_core.plan_record import PlanRecord

KINDS: Mapping[str, type[msgspec.Struct]] = {
    layout.NODES: NodeRecord,
    layout.LEDGERS: Ledger,
    layout.REPORTS: NodeReport,
    layout.MEMBERS: Member,
    layout.VMS: VmRecord,
    layout.RULES: Rule,
}
"""Records by the key above them."""
SINGLE_KINDS: Mapping[str, type[msgspec.Struct]] = {
    layout.SETTINGS: Settings,
    layout.PLAN: PlanRecord,
    layout.MAINTENANCE: MaintenanceRecord,
}
"""Records that there is one of."""


def is_routine(before: object, after: object) -> bool:
    """Whether a record has changed only as reports do all the time."""
    reports = [found.value for found in (before, after) if isinstance(found, Stored)]
    if len(reports) < 2 or not all(isinstance(report, NodeReport) for report in reports):
        return False
    was, now = reports
    return (was.session, was.hypervisor_connected) == (now.session, now.hypervisor_connected)
