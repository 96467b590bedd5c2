# SPDX-License-Identifier: Apache-2.0
"""node_commands: the group `pvc node`; each command is imported when it is named."""

from __future__ import annotations

import click

from pvc_cli.lazy import LazyGroup

COMMANDS = {
    "list": "pvc_cli.node_show:list_",
    "info": "pvc_cli.node_show:info",
    "flush": "pvc_cli.node_drain:flush",
    "ready": "pvc_cli.node_drain:ready",
    "maintenance": "pvc_cli.maintenance_commands:node_maintenance",
    "fence": "pvc_cli.node_fence:fence",
    "confirm-fenced": "pvc_cli.node_fence:confirm_fenced",
    "fence-device": "pvc_cli.node_fence_devices:fence_device",
    "fence-test": "pvc_cli.node_fence_devices:fence_test",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def node() -> None:
    """Nodes, the hypervisors: drain, take back and fence them."""
