# SPDX-License-Identifier: Apache-2.0
"""node_views: nodes as the API shows them: the record, the last report, the ledger, and the drain under way."""

from __future__ import annotations

from typing import cast

from pvc_api.drain_views import drain_view
from pvc_api.views import Liveness, NodeView
from pvc_core import snapshot as core
from pvc_core.model import NodeReport

NO_REPORT = NodeReport(
    node="", memory_total_mib=0, memory_available_mib=0, cores=0, load_1m=0.0, hypervisor_connected=False
)
"""Of a node that has never reported: nothing is known of it."""


def is_report_stale(node: core.NodeView, cluster: core.ClusterSnapshot) -> bool:
    """Whether what is known of the node is too old to place VMs by."""
    return node.report is None or node.report_age_s > cluster.settings.report_stale_s


def view_of(node: core.NodeView, cluster: core.ClusterSnapshot) -> NodeView:
    """A node as the API shows it."""
    record, reserved = node.record.value, node.reserved
    report = node.report.value if node.report else NO_REPORT
    return NodeView(
        name=record.name,
        mode=record.mode,
        liveness=cast(Liveness, node.liveness),
        coordinator=record.coordinator,
        maintenance=record.maintenance,
        pause=record.pause,
        fenced=record.fenced,
        labels=record.labels,
        address=record.address,
        watchdog_s=record.watchdog_s,
        reason=record.reason,
        changed_at=record.changed_at,
        version=node.record.version,
        memory_total_mib=report.memory_total_mib,
        memory_available_mib=report.memory_available_mib,
        memory_reserved_mib=reserved.memory_mib,
        vcpus_reserved=reserved.vcpus,
        cores=report.cores,
        load_1m=report.load_1m,
        vms=len(reserved.vms),
        hypervisor=report.hypervisor,
        hypervisor_version=report.hypervisor_version,
        hypervisor_connected=report.hypervisor_connected,
        report_stale=is_report_stale(node, cluster),
        daemon_version=node.member.value.version if node.member else "",
        drain=drain_view(node, cluster),
        fence=record.fence,
        unknown_domains=report.unknown_domains,
    )
