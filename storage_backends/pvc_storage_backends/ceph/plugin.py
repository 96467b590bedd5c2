# SPDX-License-Identifier: Apache-2.0
"""Volumes as RBD images of a Ceph cluster, which all nodes reach."""

from __future__ import annotations

from collections.abc import Sequence

from pvc_core import ConfigSection, PluginOptions, StorageBackend, StorageBackendEntry, StorageSite, hookimpl
from pvc_storage_backends.ceph.options import Options

NAME = "ceph"


def open_backend(site: StorageSite) -> StorageBackend:
    """The cluster that is configured for this machine."""
    from pvc_storage_backends.ceph.backend import CephBackend

    configured: Options = site.options.machine
    return CephBackend(site.node, configured)


@hookimpl
def pvc_config_section() -> ConfigSection:
    return ConfigSection(machine=Options)


@hookimpl
def pvc_storage_backends(options: PluginOptions) -> Sequence[StorageBackendEntry]:
    return (StorageBackendEntry(NAME, "RBD images of a Ceph cluster", open_backend),)
