# SPDX-License-Identifier: Apache-2.0
"""What lab tests ask of a guest's console, and how they leave a cluster for the next test."""

from __future__ import annotations

from operators import Operator
from pvc_core.errors import Refused
from pvc_core.model import FenceStep, NodeMode, Settings
from pvc_core.settings_changes import SETTING_NAMES
from pvc_core.snapshot import ClusterSnapshot, NodeView
from pvc_core.vm_states import OFF
from pvc_lab.real_cluster import RealCluster
from pvc_lab.tour_cluster import ConsoleMark
from pvc_lab.waiting import wait_for


def ticking(cluster: RealCluster, name: str) -> ConsoleMark:
    """The console's mark once the guest counts."""
    wait_for(lambda: cluster.console(name).ticks > 0, f"the console of {name}", deadline_s=120)
    return cluster.console(name)


def counted_on(cluster: RealCluster, name: str, mark: ConsoleMark) -> bool:
    """Whether the console counts on, in the same boot; waits for the next count."""
    wait_for(lambda: cluster.console(name) != mark, f"the console of {name} to count on", deadline_s=120)
    now = cluster.console(name)
    return now.boot_id == mark.boot_id and now.ticks > mark.ticks


def clean_up(operator: Operator, settings: Settings | None = None) -> None:
    """Every VM gone, every node ready, these settings (else the default ones). No part may be broken any more."""
    commands = operator.commands
    wanted = settings or Settings()
    commands.change_settings({name: getattr(wanted, name) for name in SETTING_NAMES})
    operator.wait(lambda s: all(n.is_alive for n in s.nodes.values()), "every daemon to be there")
    operator.wait(lambda s: not any(_is_being_fenced(n) for n in s.nodes.values()), "all recoveries to be over")

    def all_off(snapshot: ClusterSnapshot) -> bool:
        for stored in snapshot.vms.values():
            if stored.value.state not in OFF:
                try:
                    commands.stop(stored.value.uuid)
                except Refused:  # it migrates: cancel that, then stop it in the next round
                    commands.start(stored.value.uuid)
        return all(stored.value.state in OFF for stored in snapshot.vms.values())

    def all_ready(snapshot: ClusterSnapshot) -> bool:
        for node in snapshot.nodes.values():
            if node.mode is NodeMode.FLUSHED:
                commands.ready(node.name)
        return all(node.mode is NodeMode.READY for node in snapshot.nodes.values())

    operator.wait(all_off, "all VMs off")
    for uuid in operator.view.snapshot().vms:
        commands.undefine(uuid)
    operator.wait(all_ready, "nodes ready")
    operator.wait(lambda s: not any(n.reserved.vms for n in s.nodes.values()), "ledgers empty")
    operator.wait(
        lambda s: all(is_at_work(n) for n in s.nodes.values()),
        "every daemon to report, and that its hypervisor answers",
    )


def _is_being_fenced(node: NodeView) -> bool:
    fence = node.record.value.fence
    return fence is not None and fence.step is not FenceStep.RECOVERED


def is_at_work(node: NodeView) -> bool:
    """Whether the daemon has reported lately and in its present session, and its hypervisor answers."""
    if node.member is None or node.report is None:
        return False
    report = node.report.value
    is_of_now = report.session == node.member.value.session and node.report_age_s < Settings().report_stale_s
    return is_of_now and report.hypervisor_connected
