# SPDX-License-Identifier: Apache-2.0
"""The fence agents of ClusterLabs, as they are installed on the nodes that may lead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from pvc_core import ConfigSection, FenceAgentEntry, PluginOptions, hookimpl
from pvc_plugins.fencing.fence_agents import FenceAgents
from pvc_plugins.fencing.parameters import SECRETS

MARGIN_S = 5.0
"""For starting and ending two executables, so that they know why they failed before PVC gives them up."""


class Options(msgspec.Struct, frozen=True):
    """[plugin.fence-agents]."""

    folders: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("/usr/sbin", "/usr/bin")
    """Where the executables are, looked through in this order."""
    off_deadline_s: Annotated[float, msgspec.Meta(gt=0, le=400)] = 40.0
    """How long switching off may take, in seconds."""
    status_deadline_s: Annotated[float, msgspec.Meta(gt=0, le=100)] = 15.0
    """How long a device may take to say whether the node is on, in seconds."""

    def __post_init__(self) -> None:
        for folder in self.folders:
            if not folder.startswith("/"):
                raise ValueError(f"{folder!r} is no whole path, which begins with /")


@hookimpl
def pvc_config_section() -> ConfigSection:
    return ConfigSection(machine=Options)


@hookimpl
def pvc_fence_agents(options: PluginOptions) -> Sequence[FenceAgentEntry]:
    configured: Options = options.machine
    return (
        FenceAgentEntry(
            "fence-agents",
            "the executables of ClusterLabs: fence_ipmilan, fence_redfish and others",
            FenceAgents(configured.folders, configured.off_deadline_s, configured.status_deadline_s),
            deadline_s=configured.off_deadline_s + configured.status_deadline_s + MARGIN_S,
            secrets=SECRETS,
        ),
    )
