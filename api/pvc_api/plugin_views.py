# SPDX-License-Identifier: Apache-2.0
"""plugin_views: plugins as the API shows them: what each driver does, how it fares here, and what every node has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pvc_api.plugin_answers import DriverView, OptionView, PluginOnNode, PluginView
from pvc_core.errors import NotFound
from pvc_core.model import Member, Settings
from pvc_core.plugin_troubles import PluginTrouble
from pvc_core.registry import PluginInfo, Registry
from pvc_core.snapshot import ClusterSnapshot, NodeView

NODES_IN_A_SENTENCE = 3


def plugins_of(
    registry: Registry, snapshot: ClusterSnapshot, refusals: Mapping[str, Sequence[str]]
) -> tuple[PluginView, ...]:
    """The plugins of this process by name, then those that only nodes have.

    refusals: by plugin, what more of it was refused than the registry knows.
    """
    troubles = registry.calls.troubles()
    infos = [_with_refusals(info, refusals.get(info.name, ())) for info in registry.plugins]
    here = [_view_of(info, registry, troubles, snapshot) for info in infos]
    known = {view.name for view in here}
    elsewhere = [
        PluginView(
            name=name,
            state="absent",
            error="not installed where this API runs",
            nodes=_on_nodes(name, snapshot),
            skew=_skew_of(name, snapshot),
        )
        for name in _published(snapshot)
        if name not in known
    ]
    return (*here, *elsewhere)


def _with_refusals(info: PluginInfo, refusals: Sequence[str]) -> PluginInfo:
    return replace(info, error="; ".join(filter(None, (info.error, *refusals)))) if info.state == "active" else info


def plugin_named(name: str, plugins: Sequence[PluginView]) -> PluginView:
    """The plugin with this name, else the one that registers a driver with it. Raises `NotFound`."""
    by_name = [plugin for plugin in plugins if plugin.name == name]
    by_driver = [plugin for plugin in plugins if any(driver.name == name for driver in plugin.drivers)]
    for found in (*sorted(by_name, key=lambda plugin: plugin.state != "active"), *by_driver):
        return found
    raise NotFound("plugin", name, tuple(sorted({plugin.name for plugin in plugins})))


def skews(snapshot: ClusterSnapshot) -> Iterator[str]:
    """A sentence for each plugin that the living nodes do not have alike."""
    for name in _published(snapshot):
        skew = _skew_of(name, snapshot)
        if skew:
            yield f"plugin {name} differs: {skew}"


def _view_of(
    info: PluginInfo, registry: Registry, troubles: Mapping[str, PluginTrouble], snapshot: ClusterSnapshot
) -> PluginView:
    return PluginView(
        name=info.name,
        distribution=info.distribution,
        version=info.version,
        summary=info.summary,
        state=info.state,
        hooks=info.hooks,
        drivers=tuple(_drivers_of(info, registry)),
        options=tuple(_options_of(info, registry, snapshot.settings)),
        error=info.error,
        trouble=troubles.get(info.name),
        nodes=_on_nodes(info.name, snapshot),
        skew=_skew_of(info.name, snapshot),
    )


def _drivers_of(info: PluginInfo, registry: Registry) -> Iterable[DriverView]:
    for kind, names in info.drivers.items():
        entries = getattr(registry, kind)
        for name in names:
            yield DriverView(kind=kind, name=name, summary=entries[name].summary)


def _options_of(info: PluginInfo, registry: Registry, settings: Settings) -> Iterable[OptionView]:
    configuration = registry.configurations.by_plugin.get(info.name) if info.state == "active" else None
    if configuration is None:
        return
    present = configuration.values(settings)
    for kind, field in configuration.described:
        yield OptionView(
            name=f"{info.name}.{field.name}" if kind == "cluster" else f"plugin.{info.name}.{field.name}",
            kind=kind,
            values=field.values,
            default=field.default,
            meaning=field.meaning,
            value=present.get(field.name) if kind == "cluster" else None,
        )


# ------------------------------------------------------------------------------------------- on the nodes


def _members(snapshot: ClusterSnapshot) -> Iterator[tuple[NodeView, Member]]:
    """The living nodes, by name."""
    for name in sorted(snapshot.nodes):
        node = snapshot.nodes[name]
        if node.member:
            yield node, node.member.value


def _published(snapshot: ClusterSnapshot) -> list[str]:
    """Every plugin that some living node has loaded or refused, by name."""
    names: set[str] = set()
    for _, member in _members(snapshot):
        names.update(member.plugins, member.plugins_refused)
    return sorted(names)


def _on_nodes(plugin: str, snapshot: ClusterSnapshot) -> tuple[PluginOnNode, ...]:
    return tuple(_on_node(plugin, node, member) for node, member in _members(snapshot))


def _on_node(plugin: str, node: NodeView, member: Member) -> PluginOnNode:
    if plugin not in member.plugins:
        if plugin not in member.plugins_refused:
            return PluginOnNode(node=node.name, state="absent")
        error = member.plugins_refused[plugin]
        return PluginOnNode(node=node.name, state="failed" if error else "blocked", error=error)
    trouble = node.report.value.plugin_troubles.get(plugin) if node.report else None
    return PluginOnNode(node=node.name, state="active", version=member.plugins[plugin], trouble=trouble)


def _skew_of(plugin: str, snapshot: ClusterSnapshot) -> str:
    """Which nodes have which version, when they are not all the same; "" when they are."""
    nodes_by_version: dict[str, list[str]] = {}
    for node, member in _members(snapshot):
        nodes_by_version.setdefault(member.plugins.get(plugin, "none"), []).append(node.name)
    if len(nodes_by_version) < 2:
        return ""
    return "; ".join(
        f"{_some(nodes)} {'has' if len(nodes) == 1 else 'have'} {version}"
        for version, nodes in sorted(nodes_by_version.items(), key=lambda group: (len(group[1]), group[1]))
    )


def _some(nodes: Sequence[str]) -> str:
    if len(nodes) <= NODES_IN_A_SENTENCE:
        return ", ".join(nodes)
    return f"{', '.join(nodes[:NODES_IN_A_SENTENCE])} and {len(nodes) - NODES_IN_A_SENTENCE} more"
