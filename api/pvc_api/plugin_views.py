# SPDX-License-Identifier: Apache-2.0
"""plugin_views: plugins as the API shows them, with what each driver does and the version every node has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pvc_api.views import DriverView, PluginView
from pvc_core.errors import NotFound
from pvc_core.registry import PluginInfo, Registry
from pvc_core.snapshot import ClusterSnapshot


def plugins_of(registry: Registry, snapshot: ClusterSnapshot) -> tuple[PluginView, ...]:
    """The plugins of this process by name, then those that only nodes have."""
    nodes = _versions_on_nodes(snapshot)
    here = [_view_of(info, registry, nodes.get(info.name, {})) for info in registry.plugins]
    known = {view.name for view in here}
    elsewhere = [
        PluginView(name=name, state="absent", error="not installed where this API runs", nodes=nodes[name])
        for name in sorted(nodes)
        if name not in known
    ]
    return (*here, *elsewhere)


def plugin_named(name: str, plugins: Sequence[PluginView]) -> PluginView:
    """The plugin with this name, else the one that registers a driver with it. Raises `NotFound`."""
    by_name = [plugin for plugin in plugins if plugin.name == name]
    by_driver = [plugin for plugin in plugins if any(driver.name == name for driver in plugin.drivers)]
    for found in (*sorted(by_name, key=lambda plugin: plugin.state != "active"), *by_driver):
        return found
    raise NotFound("plugin", name, tuple(sorted({plugin.name for plugin in plugins})))


def _versions_on_nodes(snapshot: ClusterSnapshot) -> Mapping[str, dict[str, str]]:
    """Plugin to node to version, as living daemons publish it."""
    found: dict[str, dict[str, str]] = {}
    for node in snapshot.nodes.values():
        for plugin, version in node.member.value.plugins.items() if node.member else ():
            found.setdefault(plugin, {})[node.name] = version
    return found


def _view_of(info: PluginInfo, registry: Registry, nodes: dict[str, str]) -> PluginView:
    return PluginView(
        name=info.name,
        distribution=info.distribution,
        version=info.version,
        summary=info.summary,
        state=info.state,
        hooks=info.hooks,
        drivers=tuple(_drivers_of(info, registry)),
        error=info.error,
        nodes=nodes,
    )


def _drivers_of(info: PluginInfo, registry: Registry) -> Iterable[DriverView]:
    for kind, names in info.drivers.items():
        entries = getattr(registry, kind)
        for name in names:
            yield DriverView(kind=kind, name=name, summary=entries[name].summary)
