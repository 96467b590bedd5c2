# SPDX-License-Identifier: Apache-2.0
"""Volumes as qcow2 images in folders: each node's own, or one that all nodes share."""

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
from pvc_core.storage_on_nodes import node_volume_resources, volume_tasks
from pvc_core.storage_resources import volume_resources
from pvc_storage_backends.directory.options import Options

NAME = "directory"


def open_backend(site: StorageSite) -> StorageBackend:
    """The pools that are configured for this machine."""
    from pvc_storage_backends.directory.backend import DirectoryBackend
    from pvc_storage_backends.directory.folders import pool_folders
    from pvc_storage_backends.directory.images import Images

    configured: Options = site.options.machine
    return DirectoryBackend(pool_folders(configured), Images(configured.programs))


ENTRY = StorageBackendEntry(NAME, "qcow2 images in folders, a node's own or shared", open_backend)


@hookimpl
def pvc_config_section() -> ConfigSection:
    return ConfigSection(machine=Options)


@hookimpl
def pvc_storage_backends(options: PluginOptions) -> Sequence[StorageBackendEntry]:
    return (ENTRY,)


@hookimpl
def pvc_api_resources() -> Sequence[ApiResource]:
    return (*volume_resources(ENTRY, mends=True), *node_volume_resources(ENTRY))


@hookimpl
def pvc_node_tasks() -> Sequence[NodeTaskEntry]:
    return volume_tasks(ENTRY)


@hookimpl
def pvc_cli_commands() -> Sequence[CliCommand]:
    return volume_commands(NAME, mends=True, on_nodes=True)
