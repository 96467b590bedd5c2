# SPDX-License-Identifier: Apache-2.0
"""vm_commands: the group `pvc vm`; each command is imported when it is named."""

from __future__ import annotations

import click

from pvc_cli.lazy import LazyGroup

COMMANDS = {
    "define": "pvc_cli.vm_definition:define",
    "meta": "pvc_cli.vm_definition:meta",
    "modify": "pvc_cli.vm_definition:modify",
    "dump": "pvc_cli.vm_definition:dump",
    "start": "pvc_cli.vm_lifecycle:start",
    "restart": "pvc_cli.vm_lifecycle:restart",
    "shutdown": "pvc_cli.vm_lifecycle:shutdown",
    "stop": "pvc_cli.vm_lifecycle:stop",
    "disable": "pvc_cli.vm_lifecycle:disable",
    "migrate": "pvc_cli.vm_places:migrate",
    "move": "pvc_cli.vm_places:move",
    "unmigrate": "pvc_cli.vm_places:unmigrate",
    "rename": "pvc_cli.vm_definition:rename",
    "undefine": "pvc_cli.vm_definition:undefine",
    "remove": "pvc_cli.vm_removal:remove",
    "volume": "pvc_cli.vm_volumes:volume",
    "snapshot": "pvc_cli.vm_snapshots:snapshot",
    "info": "pvc_cli.vm_show:info",
    "list": "pvc_cli.vm_show:list_",
    "explain": "pvc_cli.vm_places:explain",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def vm() -> None:
    """Virtual machines: define, run, migrate and look at them.

    VM is a VM's name, its UUID, or the first four or more digits of its UUID.
    """
