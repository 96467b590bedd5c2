# SPDX-License-Identifier: Apache-2.0
"""An API process with a third party's plugin, such as Acme's."""

from __future__ import annotations

from types import ModuleType

import httpx
from api_cluster import ApiProcess, Cluster

import acme_distribution
from pvc_api.authentication import Role
from pvc_core.plugin_loading import FoundPlugin, installed_plugins
from pvc_core.registry import Registry


def served_with(cluster: Cluster, blocked: tuple[str, ...] = (), **plugins: object) -> ApiProcess:
    """An API process with PVC's own plugins and these."""
    found = [FoundPlugin(name, lambda plugin=plugin: plugin) for name, plugin in plugins.items()]  # type: ignore[misc]
    registry = Registry([*installed_plugins([]), *found], blocked)
    process = ApiProcess(registry.open_store(cluster.url), registry)
    process.connection.open()
    return process


def acme() -> ModuleType:
    module = ModuleType("acme_storage")
    module.__dict__["__name__"] = "acme_storage"
    exec(compile(acme_distribution.PLUGIN, "acme_storage", "exec", dont_inherit=True), module.__dict__)
    return module


def asking(process: ApiProcess, role: Role = "admin") -> httpx.Client:
    return process.client(process.token(role))
