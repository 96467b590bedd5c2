# SPDX-License-Identifier: Apache-2.0
"""policy_answers: what a VM's own recovery policy says, and what is taken instead when it is missing or fails."""

from __future__ import annotations

from collections.abc import Callable

from pvc_core.errors import PluginError
from pvc_core.leader_actions import Policies
from pvc_core.model import VmRecord
from pvc_core.placement import Placer
from pvc_core.placement_drivers import request_for
from pvc_core.plugin_types import PlacementRequest, RecoveryPolicy
from pvc_core.snapshot import ClusterSnapshot

Question = Callable[[RecoveryPolicy], Callable[[PlacementRequest], str] | None]
"""What of a policy is to be called; None where it has no opinion, which is no failure."""


def policy_says(
    record: VmRecord, question: Question, default: str, snapshot: ClusterSnapshot, placer: Placer, policies: Policies
) -> tuple[str, str]:
    """The answer of the VM's recovery policy; or `default` with a note in brackets why it was not the policy's.

    That a policy failed is told to the placer's `on_plugin_failure`.
    """
    name = record.metadata.recovery_policy
    entry = policies.get(name)
    if entry is None:
        return default, f" (recovery policy {name} is not installed)"
    asks = question(entry.policy)
    if asks is None:
        return default, ""
    plugin, drivers = entry.plugin or name, placer.drivers
    request = request_for(plugin, PlacementRequest.for_vm(record), drivers, snapshot.settings)
    try:
        return drivers.calls.ask(plugin, asks, request), ""
    except PluginError as failure:
        if placer.on_plugin_failure is not None:
            placer.on_plugin_failure(failure)
        return default, f" ({failure.sentence()})"
