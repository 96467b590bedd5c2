# SPDX-License-Identifier: Apache-2.0
"""Volumes as RBD images of a Ceph cluster, which all nodes reach."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import (
    ApiResource,
    CliCommand,
    ConfigSection,
    PluginOptions,
    StorageBackend,
    StorageBackendEntry,
    StorageSite,
    hookimpl,
)
from pvc_core.storage_commands import volume_commands
from pvc_core.storage_resources import OpenedOnce, volume_resources
from pvc_storage_backends.ceph.options import Options

NAME = "ceph"


def open_backend(site: StorageSite) -> StorageBackend:
    """The cluster that is configured for this machine."""
    from pvc_storage_backends.ceph.backend import CephBackend

    configured: Options = site.options.machine
    return CephBackend(site.node, configured)


ENTRY = StorageBackendEntry(NAME, "RBD images of a Ceph cluster", open_backend)

_COMMANDS = "pvc_storage_backends.ceph.commands"


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
    return (*volume_resources(opened, lists_pools=False), *cluster_resources(opened))


@hookimpl
def pvc_cli_commands() -> Sequence[CliCommand]:
    return (
        *volume_commands(NAME, lists_pools=False),
        _command("status", f"{_COMMANDS}:status", "How the cluster is: health, monitors, OSDs and PGs."),
        _command("util", f"{_COMMANDS}:util", "How full the cluster and its pools are."),
        _command("pool list", f"{_COMMANDS}:pool_list", "List the pools: copies, PGs, and how full they are."),
    )


def _command(words: str, load: str, summary: str) -> CliCommand:
    return CliCommand(("storage", NAME, *words.split()), load, summary)
