# SPDX-License-Identifier: Apache-2.0
"""Volumes as RBD images of a Ceph cluster, which all nodes reach."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import (
    ApiResource,
    CliCommand,
    ConfigSection,
    NodeTaskEntry,
    PluginOptions,
    StorageBackend,
    StorageBackendEntry,
    StorageSite,
    hookimpl,
)
from pvc_core.storage_commands import volume_commands
from pvc_core.storage_resources import volume_resources
from pvc_core.storage_serving import OpenedOnce
from pvc_storage_backends.ceph.options import Options

NAME = "ceph"


def open_backend(site: StorageSite) -> StorageBackend:
    """The cluster that is configured for this machine."""
    from pvc_storage_backends.ceph.backend import CephBackend

    configured: Options = site.options.machine
    return CephBackend(site.node, configured)


ENTRY = StorageBackendEntry(NAME, "RBD images of a Ceph cluster", open_backend)

_COMMANDS = "pvc_storage_backends.ceph.commands"
_CHANGES = "pvc_storage_backends.ceph.change_commands"


@hookimpl
def pvc_config_section() -> ConfigSection:
    return ConfigSection(machine=Options)


@hookimpl
def pvc_storage_backends(options: PluginOptions) -> Sequence[StorageBackendEntry]:
    return (ENTRY,)


@hookimpl
def pvc_api_resources() -> Sequence[ApiResource]:
    from pvc_storage_backends.ceph.resources import cluster_resources

    opened = OpenedOnce(ENTRY)  # all resources of a process share its connection
    return (*volume_resources(opened, lists_pools=False, mends=True), *cluster_resources(opened))


@hookimpl
def pvc_node_tasks() -> Sequence[NodeTaskEntry]:
    from pvc_storage_backends.ceph.osd_tasks import task_entries

    return task_entries()


@hookimpl
def pvc_cli_commands() -> Sequence[CliCommand]:
    return (
        *volume_commands(NAME, lists_pools=False, mends=True),
        _command("status", f"{_COMMANDS}:status", "How the cluster is: health, monitors, OSDs and PGs."),
        _command("util", f"{_COMMANDS}:util", "How full the cluster and its pools are."),
        _command("pool list", f"{_COMMANDS}:pool_list", "List the pools: copies, PGs, and how full they are."),
        _command("pool add", f"{_CHANGES}:pool_add", "Make a pool for volumes."),
        _command("pool set", f"{_CHANGES}:pool_set", "Change a setting of a pool."),
        _command("pool remove", f"{_CHANGES}:pool_remove", "Remove a pool and all that is in it."),
        _command("osd list", f"{_COMMANDS}:osd_list", "List the OSDs, and how full they are."),
        _command("osd add", f"{_CHANGES}:osd_add", "Make an OSD on a free disk of a node."),
        _command("osd remove", f"{_CHANGES}:osd_remove", "Remove an OSD once its data is elsewhere."),
        _command("osd in", f"{_CHANGES}:osd_in", "Let an OSD hold data."),
        _command("osd out", f"{_CHANGES}:osd_out", "Move the data of an OSD to others."),
        _command("osd set", f"{_CHANGES}:osd_set", "Set a flag of all OSDs, such as noout."),
        _command("osd unset", f"{_CHANGES}:osd_unset", "Take a flag of all OSDs away."),
    )


def _command(words: str, load: str, summary: str) -> CliCommand:
    return CliCommand(("storage", NAME, *words.split()), load, summary)
