# SPDX-License-Identifier: Apache-2.0
"""storage_commands: `pvc storage`: below it stand the commands of each installed storage backend."""

from __future__ import annotations

import click

from pvc_cli.lazy import LazyGroup


@click.group(cls=LazyGroup)
def storage() -> None:
    """Storage: what holds VMs' disks, each backend below its name.

    The commands of a backend come from its plugin, and are there as long as it is installed and not blocked.
    """
